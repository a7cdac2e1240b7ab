/*
 * The guard of a task's output, which goes to the disk without passing through this process. While the file rests, a
 * watch waits for it to grow; while it grows, it is measured every few milliseconds, and the watch is closed, or every
 * write would wake us.
 *
 * Over the limit the task is frozen first and reported then: what the report leads to writes to the disk, and a fast
 * writer fills gigabytes meanwhile. The stop that follows continues it, so that it can end in its own way; one that
 * uses this to write much more is frozen again, each time it is continued, until it is killed.
 *
 * No task stays frozen without a stop on record: ending a guard waits for a freeze under way, and continues the task
 * unless its stop is on record. A host that was killed can do neither; the next one makes up for it when it adopts the
 * task.
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

/** The processes that write. */
export interface Writers {
  freeze(): Promise<void>;
  thaw(): Promise<void>;
}

export interface Guarded {
  /** Closed with the guard. */
  readonly output: HeldOutput;
  readonly maxBytes: number;
  readonly writers: Writers;
  readonly clock: Clock;
  /** Called once. */
  onExceeded(): void;
  /** Called once. */
  onError(error: Error): void;
}

export class OutputGuard {
  readonly #guarded: Guarded;
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

  constructor(guarded: Guarded) {
    this.#guarded = guarded;
    this.#limit = guarded.maxBytes;
  }

  /** Answers whether the output is within its limit now. */
  begin(): boolean {
    this.#rest();
    this.#look();
    return this.#freezing === undefined;
  }

  /** A stop continues the task: a freeze under way is over once this resolves, and the stop comes after it. */
  async release(): Promise<void> {
    await this.#freezing;
    this.#isFrozen = false;
  }

  /** Nothing is frozen any more from now on. Resolves once a freeze under way is over and was reported. */
  async quiesce(): Promise<void> {
    this.#quiet = true;
    this.#pause();
    await this.#freezing;
  }

  /** Resolves once a task that was frozen by it goes on, unless `staysFrozen`. */
  async close(staysFrozen: boolean): Promise<void> {
    this.#closed = true;
    this.#pause();
    this.#guarded.output.close();
    await this.#freezing;
    if (!this.#isFrozen || staysFrozen) return;
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

  /**
   * Measured synchronously: a microsecond here, while the thread pool may be busy with writes for as long as gigabytes
   * take.
   */
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
    this.#timer = this.#guarded.clock.after(pause, () => this.#look());
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
    // `close` lets the task go on.
    if (this.#closed) return;
    this.#size = Math.max(this.#measure(), size);
    this.#limit = this.#size + FAREWELL_BYTES;
    if (!this.#quiet) this.#rest();
    if (this.#exceeded) return;
    this.#exceeded = true;
    this.#guarded.onExceeded();
  }

  #report(error: unknown): void {
    if (this.#reported) return;
    this.#reported = true;
    this.#guarded.onError(asError(error));
  }
}
