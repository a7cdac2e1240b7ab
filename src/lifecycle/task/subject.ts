/* A task as its procedures (look, take over, stop) see it, and what it needs of the manager. */
import type { Clock } from '../../clock.js';
import type { Settings } from '../../options.js';
import type { TaskStore } from '../../store/contract.js';
import type { KindRuntime } from '../../task/kind-runtime.js';
import type { Outcome } from '../decide/finding.js';
import type { Lifetime } from '../lifetime.js';
import type { News } from '../news.js';
import type { Queue, Queued } from '../queue.js';
import type { Slots } from '../slots.js';
import type { LaunchInput, Work, WorkHost } from '../work/work.js';
import type { Launching } from './launching.js';
import type { Unwritten } from './memory.js';

/** What came of a look. `open`: the outcome is known and could not be written. */
export type LookResult = 'active' | 'adopted' | 'settled' | 'lost' | 'open';

/** What tasks share. */
export interface Surroundings {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly store: TaskStore;
  readonly lifetime: Lifetime;
  readonly news: News;
  readonly slots: Slots;
  readonly queue: Queue;
}

/** What the manager does about a task, after each step of it. */
export interface TaskObserver<Task> {
  /** Its record was written; the first time it is new. Before that is told. */
  written(task: Task): void;
  /** Something happened to it, and was told. */
  changed(task: Task): void;
  /** It has ended: it counts as one of the ended tasks from now on. */
  ended(task: Task): void;
  /** It owes deliveries. */
  owes(task: Task): void;
  /** It was removed from the disk. */
  removed(task: Task): void;
}

/** Work that can neither be seen nor signalled from here: where it was last found to live, and since when (monotonic). */
export interface OutOfReach {
  readonly where: string;
  readonly since: number;
}

export interface Subject extends WorkHost, Queued {
  /** The order of registration; decides what is newest. */
  readonly seq: number;
  readonly shared: Surroundings;
  /** How to launch, look at and stop it; `undefined` for what this host must not touch: it is listed and kept. */
  readonly kind: KindRuntime | undefined;
  /** Throws as {@link expectKind} does. */
  readonly work: Work;
  readonly launching: Launching | undefined;
  /** Judged, and not on disk yet. It never changes again. */
  readonly outcome: Outcome | undefined;
  readonly unwritten: Unwritten;
  /** Its owner died, and this manager has neither adopted nor settled it yet. */
  isOrphaned: boolean;
  outOfReach: OutOfReach | undefined;
  /** What its kind gave for a launch, until that is on record. */
  recovery: LaunchInput | undefined;

  note(news: Unwritten): void;
  forget(key: keyof Unwritten): void;
  /** Writes how it ended. `false`: it could not be written; it was reported, and the next look tries again. */
  settle(outcome: Outcome): Promise<boolean>;
  /** Looks at the work, after every look that began before. Throws what the probe threw: then nothing was settled. */
  look(): Promise<LookResult>;
  /** Resolves once no look is under way that began before. */
  lookOver(): Promise<void>;
  /** It belongs to this manager now, and nothing of that is to be written. */
  takenOver(): void;
  /** Begins another attempt, of which the record is written first. */
  beginAgain(input: unknown): Promise<void>;
  /** Carries out the stop on record. */
  carryOut(graceMs: number): void;
  /** Throws `UNKNOWN_KIND` or `RECORD_UNSUPPORTED` where this host must not touch it. */
  expectKind(): KindRuntime;
  /** The `error` event, once until the reason changes or a write succeeds. */
  reportOnce(error: unknown): void;
}

/** Whether it goes on: it has not ended, and nobody decided how it ends. */
export function isOpen(task: Subject): boolean {
  return task.isActive && !task.outcome && !task.working.stop;
}
