import { deepFreeze } from '../task/json.js';
import type { KindRuntime } from '../task/kind.js';
import type { TaskRecord } from '../task/record.js';
import { type Ending, isTerminalStatus } from '../task/status.js';
import type { JsonObject, JsonValue, OwedDelivery, Progress, TaskError, TaskStop } from '../task/types.js';
import type { Hold } from './capacity.js';

/** Every delivery that is still owed becomes `skipped`. */
export function withdrawn(hooks: TaskRecord['hooks']): TaskRecord['hooks'] {
  const entries = Object.entries(hooks).map(([name, owed]): [string, OwedDelivery] => [
    name,
    owed.state === 'pending' ? { ...owed, state: 'skipped' } : owed,
  ]);
  return Object.fromEntries(entries);
}

/** How a task was found to have ended. Fixed when it is found: a write that fails does not change it. */
export interface Outcome {
  readonly ending: Ending;
  readonly endedAt: number;
  readonly error?: TaskError;
  readonly result?: JsonValue;
  readonly details?: JsonObject;
  readonly stopReason?: string;
  /** Nothing started. Where the caller was told, no hook is owed. */
  readonly neverBegan?: 'caller was told' | 'nobody was told';
  /** It outlived the host that waited for it in the foreground: nobody heard of its end, so its hooks are owed. */
  readonly outlivedCaller?: boolean;
}

/** In-process work as the rest sees it. */
export interface LiveRun {
  /** How it ended: `undefined` while it runs. Waits for the last of its output. */
  end(): Promise<Outcome | undefined>;
  /** Aborts its signal. */
  abort(stop: TaskStop): void;
  /**
   * The manager closes, and a later owner may take the work up again: aborts its signal, and resolves once it has ended. What it returns is its
   * outcome; what it throws from now on is not, so that the task stays as a crash would have left it.
   */
  leave(stop: TaskStop): Promise<void>;
  /** The grace is over: what it does from now on changes nothing. */
  abandon(): void;
  /** Answers its open question. Throws `TASK_NOT_WAITING` or `INVALID_INPUT`. */
  answer(value: JsonValue): Promise<TaskRecord>;
  /** Its outcome is on disk: nothing it still does counts. */
  close(): Promise<void>;
}

/** A `start` that has not answered yet. */
export interface Launching {
  /** Resolves once the task was launched, or its launch has failed and that is on record. */
  readonly over: Promise<void>;
  abort(reason: unknown): void;
}

/** What memory knows and the record does not hold yet: the next write of the record carries it. */
export interface Unwritten {
  progress?: Progress;
  details?: JsonObject;
  stop?: TaskStop;
  /** The stop withdraws the owed hooks. */
  skipHooks?: boolean;
}

/** One task in memory: its record as it is on disk, and what belongs to it while it is active. */
export class Entry {
  readonly taskId: string;
  /** The order of registration; decides what is newest. */
  readonly seq: number;
  /** The record as it is on disk, frozen. */
  record: TaskRecord;
  readonly unwritten: Unwritten = {};
  /** How to launch, look at and stop it; `undefined` for what this host must not touch: it is listed and kept. */
  readonly kind: KindRuntime | undefined;
  /** Its owner died, and this manager has neither adopted nor settled it yet. */
  orphaned: boolean;
  slot: Hold | undefined;
  run: LiveRun | undefined;
  launching: Launching | undefined;
  /** Judged, and not on disk yet. It never changes again. */
  outcome: Outcome | undefined;
  /** Where its work was last found to live, if that can be neither seen nor signalled from here, and since when (monotonic). */
  outOfReach: { readonly where: string; readonly since: number } | undefined;
  /** What `recover` answered, until the attempt that it asks for is on record. */
  recovery: { readonly input: unknown } | undefined;
  /** It was pruned: nothing is written of it any more. */
  removed = false;
  /** How a foreground task left the foreground. */
  released: 'detached' | 'detached_by_timeout' | undefined;

  #turn: Promise<unknown> = Promise.resolve();
  #view: TaskRecord | undefined;

  constructor(record: TaskRecord, seq: number, kind: KindRuntime | undefined, orphaned = false) {
    this.taskId = record.taskId;
    this.seq = seq;
    this.record = record;
    this.kind = kind;
    this.orphaned = orphaned;
  }

  get active(): boolean {
    return !isTerminalStatus(this.record.status);
  }

  /** What is handed out: the record, with the progress and details that are still on their way to the disk. */
  get view(): TaskRecord {
    const { progress, details } = this.unwritten;
    if (!progress && !details) return this.record;
    this.#view ??= Object.freeze({ ...this.record, ...(progress && { progress }), ...(details && { details }) });
    return this.#view;
  }

  /** What decisions are made by: a stop that could not be written counts. */
  get working(): TaskRecord {
    const { stop, skipHooks } = this.unwritten;
    if (!stop && !skipHooks) return this.view;
    return { ...this.view, ...(stop && { stop }), ...(skipHooks && { hooks: withdrawn(this.record.hooks) }) };
  }

  note(unwritten: Unwritten): void {
    Object.assign(this.unwritten, deepFreeze(unwritten));
    this.#view = undefined;
  }

  /** The record is on disk now, with all that was unwritten when the write began. */
  wrote(record: TaskRecord, carried: Unwritten): void {
    this.record = record;
    for (const key of ['progress', 'details', 'stop', 'skipHooks'] as const) {
      if (this.unwritten[key] === carried[key]) delete this.unwritten[key];
    }
    this.#view = undefined;
  }

  /**
   * Looks, launches, stops and detaches of one task happen one after the other. What `action` calls must not come back here, or it
   * waits for itself; writes have a queue of their own.
   */
  exclusive<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(action);
    this.#turn = result.catch(() => undefined); // whoever asked hears of it; the next in line does not care
    return result;
  }
}
