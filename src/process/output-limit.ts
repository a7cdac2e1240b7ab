/*
 * The ceiling of a task's output, enforced while the output streams past us to the disk. While the file rests, a watch waits for it to
 * grow; while it grows, it is measured every few milliseconds, and the watch is closed, or every write would wake us.
 *
 * Over the limit the task is frozen first and reported then: what the report leads to writes to the disk, and a fast writer fills gigabytes
 * meanwhile. The stop that follows lets it go on, so that it can end in its own way; one that uses this to write much more is frozen
 * again, each time it is let go on, until it is killed.
 *
 * Nobody stays frozen without a stop on record: whoever ends a guard waits for a freeze under way, and lets the task go on unless its stop
 * is on record. A host that was killed can do neither; the next one makes up for it when it adopts the task.
 */
import { type FSWatcher, watch } from 'node:fs';
import type { Clock, Timer } from '../clock.js';
import { asError } from '../errors.js';
import type { HeldOutput } from './held-output.js';

const SHORTEST_MS = 5;
const LONGEST_MS = 250;
/** What a writer may suddenly reach: the pause until the next look is what it would need for the rest of the way. */
const FASTEST_BYTES_PER_MS = 1_000_000;
/** So many looks without growth, and the file rests. */
const QUIET_LOOKS = 10;
/** What a task that is asked to end may still write. */
const FAREWELL_BYTES = 64 * 1024;

export interface OutputLimitActions {
  /** Called once for each task. */
  onExceeded(taskId: string): void;
  onError(error: Error, taskId: string): void;
}

/** The processes that write. */
export interface Writers {
  /** Makes them stand still. */
  freeze(): Promise<void>;
  /** Lets those who stand still go on. */
  thaw(): Promise<void>;
}

/** What a guard watches over. */
export interface Guarded {
  readonly taskId: string;
  /** Closed with the guard. */
  readonly output: HeldOutput;
  readonly maxBytes: number;
  readonly writers: Writers;
}

/** The ceilings of all tasks that have one. */
export class OutputLimits {
  readonly #clock: Clock;
  readonly #actions: OutputLimitActions;
  readonly #guards = new Map<string, Guard>();

  constructor(clock: Clock, actions: OutputLimitActions) {
    this.#clock = clock;
    this.#actions = actions;
  }

  isArmed(taskId: string): boolean {
    return this.#guards.has(taskId);
  }

  /** Begins to guard a task that is not guarded yet. Answers whether it is within its limit now. */
  arm(guarded: Guarded): boolean {
    const guard = new Guard(guarded, this.#clock, this.#actions);
    this.#guards.set(guarded.taskId, guard);
    return guard.begin();
  }

  /** A stop lets the task go on: a freeze under way is over once this resolves, and will not come after that. */
  async release(taskId: string): Promise<void> {
    await this.#guards.get(taskId)?.release();
  }

  /** Ends the guard; resolves once who was frozen by it goes on, unless `staysFrozen`. */
  async disarm(taskId: string, { staysFrozen = false } = {}): Promise<void> {
    const guard = this.#guards.get(taskId);
    this.#guards.delete(taskId);
    await guard?.close(staysFrozen);
  }

  /** Nothing is frozen any more from now on. Resolves once freezes under way are over, and their tasks were reported. */
  async quiesce(): Promise<void> {
    await Promise.all([...this.#guards.values()].map((guard) => guard.quiesce()));
  }

  /** Ends all guards as {@link disarm} does. `staysFrozen` is asked when the freezes are over. */
  async close(staysFrozen: (taskId: string) => boolean): Promise<void> {
    const guards = [...this.#guards];
    this.#guards.clear();
    await Promise.all(guards.map(([taskId, guard]) => guard.close(() => staysFrozen(taskId))));
  }
}

class Guard {
  readonly #guarded: Guarded;
  readonly #clock: Clock;
  readonly #actions: OutputLimitActions;
  #limit: number;
  #exceeded = false;
  #size = 0;
  #quietLooks = 0;
  #closed = false;
  /** It looks no more, and is not closed yet. */
  #quiet = false;
  #watchable = true;
  #reported = false;
  #watcher: FSWatcher | undefined;
  #timer: Timer | undefined;
  /** A freeze under way. Never rejects. */
  #freezing: Promise<void> | undefined;
  #isFrozen = false;

  constructor(guarded: Guarded, clock: Clock, actions: OutputLimitActions) {
    this.#guarded = guarded;
    this.#limit = guarded.maxBytes;
    this.#clock = clock;
    this.#actions = actions;
  }

  begin(): boolean {
    this.#rest();
    this.#look();
    return this.#freezing === undefined;
  }

  async release(): Promise<void> {
    await this.#freezing;
    this.#isFrozen = false;
  }

  async quiesce(): Promise<void> {
    this.#quiet = true;
    this.#pause();
    await this.#freezing;
  }

  async close(staysFrozen: boolean | (() => boolean)): Promise<void> {
    this.#closed = true;
    this.#pause();
    this.#guarded.output.close();
    await this.#freezing;
    if (!this.#isFrozen || (typeof staysFrozen === 'function' ? staysFrozen() : staysFrozen)) return;
    try {
      await this.#guarded.writers.thaw();
    } catch (error) {
      this.#report(error);
    }
  }

  #pause(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#timer?.clear();
    this.#timer = undefined;
  }

  /** Measured synchronously: a microsecond here, while the thread pool may be busy with writes for as long as gigabytes take. */
  #look(): void {
    if (this.#closed || this.#quiet) return;
    const size = this.#measure();
    if (size > this.#limit) {
      this.#freezing = this.#stop(size);
      return;
    }
    this.#quietLooks = size > this.#size ? 0 : this.#quietLooks + 1;
    this.#size = size;
    if (this.#watcher) return;
    if (this.#quietLooks >= QUIET_LOOKS && this.#watchable) this.#settleDown();
    else this.#lookAgain();
  }

  /** The file may have grown between the last look and the first moment of the watch. */
  #settleDown(): void {
    this.#rest();
    if (this.#measure() > this.#size) this.#wakeUp();
  }

  #lookAgain(): void {
    const pause = Math.min(Math.max((this.#limit - this.#size) / FASTEST_BYTES_PER_MS, SHORTEST_MS), LONGEST_MS);
    this.#timer?.clear();
    this.#timer = this.#clock.after(pause, () => this.#look());
  }

  #rest(): void {
    this.#pause();
    try {
      this.#watcher = watch(this.#guarded.output.watched, { persistent: false }, () => this.#wakeUp());
      this.#watcher.on('error', (error) => this.#unwatchable(error));
    } catch (error) {
      this.#unwatchable(error);
    }
  }

  #wakeUp(): void {
    this.#pause();
    this.#quietLooks = 0;
    this.#look();
  }

  /** The system has a limit of watches, and folders that cannot be watched: looking now and then does as well. */
  #unwatchable(error: unknown): void {
    this.#watchable = false;
    this.#report(error);
    this.#pause();
    this.#lookAgain();
  }

  #measure(): number {
    try {
      return this.#guarded.output.size() ?? this.#size;
    } catch (error) {
      this.#report(error); // it may pass
      return this.#size;
    }
  }

  async #stop(size: number): Promise<void> {
    this.#pause();
    this.#isFrozen = true;
    try {
      await this.#guarded.writers.freeze();
    } catch (error) {
      this.#report(error);
    }
    this.#freezing = undefined;
    // Whoever closed it lets the task go on.
    if (this.#closed) return;
    this.#size = Math.max(this.#measure(), size);
    this.#limit = this.#size + FAREWELL_BYTES;
    if (!this.#quiet) this.#rest();
    if (this.#exceeded) return;
    this.#exceeded = true;
    this.#actions.onExceeded(this.#guarded.taskId);
  }

  #report(error: unknown): void {
    if (this.#reported) return;
    this.#reported = true;
    this.#actions.onError(asError(error), this.#guarded.taskId);
  }
}
