/*
 * The ceiling of a task's output, enforced while the output streams past us to the disk. While the file rests, a watch waits for it to
 * grow; while it grows, it is measured every few milliseconds, and the watch is closed, or every write would wake us.
 *
 * Over the limit the task is frozen first and reported then: what the report leads to writes to the disk, and a fast writer fills gigabytes
 * meanwhile. The stop that follows lets it go on, so that it can end in its own way; one that uses this to write much more is frozen
 * again, each time it is let go on, until it is killed.
 */
import { type FSWatcher, statSync, watch } from 'node:fs';
import type { Clock, Timer } from '../clock.js';
import { asError } from '../errors.js';
import { systemCode } from '../store/failure.js';

const SHORTEST_MS = 5;
const LONGEST_MS = 250;
/** What a writer may suddenly reach: the pause until the next look is what it would need for the rest of the way. */
const FASTEST_BYTES_PER_MS = 1_000_000;
/** So many looks without growth, and the file rests. */
const QUIET_LOOKS = 10;
/** What a task that is asked to end may still write. */
const FAREWELL_BYTES = 64 * 1024;

export interface OutputLimitActions {
  /** Makes the task's processes stand still. */
  freeze(taskId: string): Promise<void>;
  /** Called once for each task. */
  onExceeded(taskId: string): void;
  onError(error: Error, taskId: string): void;
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

  /** Harmless when done twice. */
  arm(taskId: string, path: string, maxBytes: number): void {
    if (this.#guards.has(taskId)) return;
    const guard = new Guard(taskId, path, maxBytes, this.#clock, this.#actions);
    this.#guards.set(taskId, guard);
    guard.begin();
  }

  disarm(taskId: string): void {
    this.#guards.get(taskId)?.close();
    this.#guards.delete(taskId);
  }

  close(): void {
    for (const taskId of [...this.#guards.keys()]) this.disarm(taskId);
  }
}

class Guard {
  readonly #taskId: string;
  readonly #path: string;
  readonly #clock: Clock;
  readonly #actions: OutputLimitActions;
  #limit: number;
  #exceeded = false;
  #size = 0;
  #quietLooks = 0;
  #closed = false;
  #watchable = true;
  #reported = false;
  #watcher: FSWatcher | undefined;
  #timer: Timer | undefined;

  constructor(taskId: string, path: string, limit: number, clock: Clock, actions: OutputLimitActions) {
    this.#taskId = taskId;
    this.#path = path;
    this.#limit = limit;
    this.#clock = clock;
    this.#actions = actions;
  }

  begin(): void {
    this.#rest();
    this.#look();
  }

  close(): void {
    this.#closed = true;
    this.#pause();
  }

  #pause(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#timer?.clear();
    this.#timer = undefined;
  }

  /** Measured synchronously: a microsecond here, while the thread pool may be busy with writes for as long as gigabytes take. */
  #look(): void {
    if (this.#closed) return;
    const size = this.#measure();
    if (size > this.#limit) {
      void this.#stop(size);
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
      this.#watcher = watch(this.#path, { persistent: false }, () => this.#wakeUp());
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
      return statSync(this.#path).size;
    } catch (error) {
      // No file, no output. Anything else may pass.
      if (systemCode(error) !== 'ENOENT') this.#report(error);
      return this.#size;
    }
  }

  async #stop(size: number): Promise<void> {
    this.#pause();
    try {
      await this.#actions.freeze(this.#taskId);
    } catch (error) {
      this.#report(error);
    }
    if (this.#closed) return;
    this.#size = Math.max(this.#measure(), size);
    this.#limit = this.#size + FAREWELL_BYTES;
    this.#rest();
    if (this.#exceeded) return;
    this.#exceeded = true;
    this.#actions.onExceeded(this.#taskId);
  }

  #report(error: unknown): void {
    if (this.#reported) return;
    this.#reported = true;
    this.#actions.onError(asError(error), this.#taskId);
  }
}
