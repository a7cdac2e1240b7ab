/*
 * Work: what a kind makes for one task. It is launched, looked at, stopped and answered; it never judges how its task stands, and writes
 * nothing by itself: what it finds is a finding, which its task decides on.
 */
import type { Clock } from '../../clock.js';
import type { OutputFile } from '../../output/output-file.js';
import type { TaskRecord } from '../../task/record.js';
import type { JsonObject, JsonValue, Progress, TaskStop } from '../../task/types.js';
import type { Finding, Outcome } from '../decide/finding.js';

/** How work stands: it goes on, or it has ended. */
export type Look =
  | {
      readonly ended: false;
      /** What its kind found; absent for work in this process, which speaks for itself. */
      readonly found?: {
        /** What it asks; absent: it works. */
        readonly prompt?: string;
        /** The details that differ from those on record. Throws where they cannot go there. */
        details(): JsonObject | undefined;
        readonly progress?: JsonObject;
      };
      /** It can be neither seen nor signalled from here: where it is. */
      readonly outOfReach?: string;
    }
  | { readonly ended: true; readonly outcome: Outcome };

/** What work may report: each part is optional, and parts that are not finite numbers or texts are left out. */
export type ProgressReport = {
  readonly [K in keyof Omit<Progress, 'updatedAt'>]?: Progress[K] | undefined;
};

/** What a launch brings that no record holds: `run`, or the input of `start`. */
export interface LaunchInput {
  readonly input: unknown;
}

export interface Work {
  /** What becomes of it when this process ends: it goes on, it ends and a later owner can begin it again, or it ends. */
  readonly whenHostEnds: 'goes on' | 'can begin again' | 'ends';
  /** Whether it can be asked to end. */
  readonly canStop: boolean;

  /** Begins it. Resolves with what it learnt for the details. Whatever it throws, nothing runs. `launching.signal` tells it to give up. */
  launch(input: unknown, launching: { readonly signal: AbortSignal }): Promise<JsonObject | undefined>;
  /** `task:started` was emitted: from now on it may be heard. */
  started(): void;
  /** How it stands. Throws where that cannot be told: then nothing is settled. */
  look(): Promise<Look>;
  /** `terminate` first, `kill` once the grace is over, again until it is found to have ended. */
  stop(how: 'terminate' | 'kill', stop: TaskStop): Promise<void>;
  /** Gives it an answer, which goes on record before it sees it. Throws `TASK_NOT_WAITING` or `INVALID_INPUT`. */
  answer(value: JsonValue): Promise<TaskRecord>;

  /** What a launch needs that is on no record, and why nobody gave it, in words for people; `undefined`: the record holds all. */
  missing(): { readonly what: string; readonly why: string } | undefined;
  /** Asks for what is missing, about a task that never began. */
  resupply(): Promise<LaunchInput | undefined>;
  /** Asks for another attempt, about a task whose work has died. */
  recover(): Promise<LaunchInput | undefined>;

  /**
   * The manager closes, and a later owner may begin it again: it is told to end, and what it throws from now on is no outcome. Resolves once it
   * has ended.
   */
  leave(stop: TaskStop): Promise<void>;
  /** The outcome is on record. */
  settled(): Promise<void>;
  /** The manager closes: nothing begins by itself any more, and what is left of it in this process changes nothing. */
  quiesce(): Promise<void>;
  /** Nothing is left of it in this process. `reason`: why work in this process is told to end, where it is not over. */
  dispose(reason?: TaskStop): Promise<void>;
}

/** What work may ask of the task that it belongs to, and tell it. */
export interface WorkHost {
  readonly taskId: string;
  readonly clock: Clock;
  readonly output: OutputFile;
  /** As it is on disk. */
  readonly record: TaskRecord;
  /** As it is handed out: with progress and details that are not on disk yet. */
  readonly view: TaskRecord;
  /** As decisions see it: a stop that could not be written counts. */
  readonly working: TaskRecord;
  /** Whether the task has not ended. */
  readonly isActive: boolean;
  /** Whether another manager owns the directory. */
  readonly isFenced: boolean;
  /** Decides on a finding, writes, and tells. Resolves with the task as it is then. */
  post(finding: Finding): Promise<TaskRecord>;
  reportProgress(report: ProgressReport): void;
  /** Something happened: look. */
  hint(): void;
  /** The output is beyond its limit. */
  outputLimit(): void;
  report(error: unknown): void;
}
