import { setImmediate } from 'node:timers/promises';
import type { Clock, Timer } from '../../src/clock.js';

interface Pending {
  readonly at: number;
  readonly order: number;
  readonly fire: () => void;
}

/** A clock that stands still until told. Its timers are no timers of Node, so they hold nothing; `pendingTimers` counts them. */
export class FakeClock implements Clock {
  #wall: number;
  #monotonic = 0;
  #order = 0;
  readonly #pending = new Set<Pending>();

  constructor(startAt = 1_790_000_000_000) {
    this.#wall = startAt;
  }

  now(): number {
    return this.#wall;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  after(delayMs: number, fire: () => void): Timer {
    const pending: Pending = { at: this.#monotonic + Math.max(0, delayMs), order: this.#order++, fire };
    this.#pending.add(pending);
    return { clear: () => void this.#pending.delete(pending) };
  }

  /** Timers that are armed. */
  get pendingTimers(): number {
    return this.#pending.size;
  }

  /** Milliseconds until the next timer is due; `undefined` where none is armed. */
  get nextTimerIn(): number | undefined {
    const next = this.#next();
    return next && next.at - this.#monotonic;
  }

  /**
   * Moves both clocks on, firing what is due on the way in order, each at its own time. Between two timers, and after the last, everything
   * that is only waiting for a turn of the event loop gets one; what waits for the disk does not.
   */
  async advance(ms: number): Promise<void> {
    if (!(ms >= 0)) throw new RangeError(`expected milliseconds that are not negative, got ${ms}`);
    const end = this.#monotonic + ms;
    await setImmediate();
    for (let next = this.#next(); next && next.at <= end; next = this.#next()) {
      this.#pending.delete(next);
      this.#moveTo(next.at);
      next.fire();
      await setImmediate();
    }
    this.#moveTo(end);
    await setImmediate();
  }

  /** Moves only the wall clock, in either direction, as a suspended machine or a corrected clock does. No timer fires. */
  jump(ms: number): void {
    this.#wall += ms;
  }

  /** Only forwards: a timer may itself have advanced the clock. */
  #moveTo(monotonic: number): void {
    const step = Math.max(0, monotonic - this.#monotonic);
    this.#wall += step;
    this.#monotonic += step;
  }

  #next(): Pending | undefined {
    let next: Pending | undefined;
    for (const one of this.#pending) {
      if (!next || one.at < next.at || (one.at === next.at && one.order < next.order)) next = one;
    }
    return next;
  }
}
