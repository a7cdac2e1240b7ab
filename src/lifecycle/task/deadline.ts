import type { Clock, Timer } from '../../clock.js';
import type { TaskRecord } from '../../task/record.js';

/**
 * The timer of one task's deadline. The deadline is on the wall clock, the timer is not: when it fires early, because the clock was set back,
 * it is armed again; when the clock was set forward or the machine slept, the next look finds it overdue.
 */
export class Deadline {
  readonly #clock: Clock;
  readonly #deadlineAt: () => number | undefined;
  readonly #onExpired: () => void;
  #timer: Timer | undefined;

  /** `deadlineAt` is asked whenever it matters; `undefined`: there is none now. */
  constructor(clock: Clock, deadlineAt: () => number | undefined, onExpired: () => void) {
    this.#clock = clock;
    this.#deadlineAt = deadlineAt;
    this.#onExpired = onExpired;
  }

  /** Arms the timer by the deadline as it is now; clears it where there is none. */
  arm(): void {
    this.clear();
    const deadlineAt = this.#deadlineAt();
    if (deadlineAt === undefined) return;
    this.#timer = this.#clock.after(deadlineAt - this.#clock.now(), () => {
      this.#timer = undefined;
      if (this.isOver) this.#onExpired();
      else this.arm();
    });
  }

  get isOver(): boolean {
    const deadlineAt = this.#deadlineAt();
    return deadlineAt !== undefined && this.#clock.now() >= deadlineAt;
  }

  /** Expires a deadline that the timer missed. */
  check(): void {
    if (!this.isOver) return;
    this.clear();
    this.#onExpired();
  }

  clear(): void {
    this.#timer?.clear();
    this.#timer = undefined;
  }
}

/** When the task is over its time: in the queue, or at work. */
export function deadlineOf(record: TaskRecord): number | undefined {
  if (record.status !== 'queued') return record.deadlineAt;
  return record.queueTimeoutMs ? record.createdAt + record.queueTimeoutMs : undefined;
}
