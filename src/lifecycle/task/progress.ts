import type { Clock, Timer } from '../../clock.js';
import { cutText } from '../../task/json.js';
import { MAX_TEXT_BYTES } from '../../task/record.js';
import type { Progress } from '../../task/types.js';
import type { ProgressReport } from '../work/work.js';

/** Progress is written at most this often for each task; any other write of its record carries it too. */
const WRITE_INTERVAL_MS = 1_000;

/** When the progress of one task is written. */
export class ProgressWrites {
  readonly #clock: Clock;
  readonly #write: () => void;
  #lastWrite = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;

  constructor(clock: Clock, write: () => void) {
    this.#clock = clock;
    this.#write = write;
  }

  /** There is progress to write: now, or when the interval is over. */
  ask(): void {
    if (this.#timer) return;
    const since = this.#clock.monotonic() - this.#lastWrite;
    if (since >= WRITE_INTERVAL_MS) this.#begin();
    else this.#timer = this.#clock.after(WRITE_INTERVAL_MS - since, () => this.#begin());
  }

  clear(): void {
    this.#timer?.clear();
    this.#timer = undefined;
  }

  #begin(): void {
    this.#timer = undefined;
    this.#lastWrite = this.#clock.monotonic();
    this.#write();
  }
}

/** Progress as it goes on record. */
export function progressOf({ message, current, total }: ProgressReport, now: number): Progress {
  return {
    ...(typeof message === 'string' && { message: cutText(message, MAX_TEXT_BYTES) }),
    ...(Number.isFinite(current) && { current: current as number }),
    ...(Number.isFinite(total) && { total: total as number }),
    updatedAt: now,
  };
}
