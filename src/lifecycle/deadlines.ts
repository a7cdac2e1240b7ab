import type { Clock, Timer } from '../clock.js';
import type { Entry } from './entry.js';

/**
 * One clearable timer for each task that has a deadline. The deadline is on the wall clock, the timer is not: when it fires early, because
 * the clock was set back, it is armed again; when the clock was set forward or the machine slept, the next reconcile finds it overdue.
 */
export class Deadlines {
  readonly #clock: Clock;
  readonly #onExpired: (entry: Entry) => void;
  readonly #timers = new Map<Entry, Timer>();

  constructor(clock: Clock, onExpired: (entry: Entry) => void) {
    this.#clock = clock;
    this.#onExpired = onExpired;
  }

  /** (Re-)arms the task's timer by its record; clears it where the record has no deadline. */
  arm(entry: Entry): void {
    this.clear(entry);
    const deadlineAt = isOpen(entry) ? deadlineOf(entry) : undefined;
    if (deadlineAt === undefined) return;
    this.#timers.set(
      entry,
      this.#clock.after(deadlineAt - this.#clock.now(), () => {
        this.#timers.delete(entry);
        if (this.overdue(entry)) this.#onExpired(entry);
        else this.arm(entry);
      }),
    );
  }

  clear(entry: Entry): void {
    this.#timers.get(entry)?.clear();
    this.#timers.delete(entry);
  }

  overdue(entry: Entry): boolean {
    const deadlineAt = deadlineOf(entry);
    return isOpen(entry) && deadlineAt !== undefined && this.#clock.now() >= deadlineAt;
  }

  /** For a look: the deadline of an overdue task that the timer missed. */
  check(entry: Entry): void {
    if (!this.overdue(entry)) return;
    this.clear(entry);
    this.#onExpired(entry);
  }

  clearAll(): void {
    for (const entry of [...this.#timers.keys()]) this.clear(entry);
  }
}

/** A deadline has nothing to say of a task that is being stopped, or whose outcome is known and only not on disk yet. */
function isOpen(entry: Entry): boolean {
  return entry.active && !entry.outcome && !entry.working.stop;
}

function deadlineOf({ record }: Entry): number | undefined {
  if (record.status !== 'queued') return record.deadlineAt;
  return record.queueTimeoutMs ? record.createdAt + record.queueTimeoutMs : undefined;
}
