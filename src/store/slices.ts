import { setImmediate } from 'node:timers/promises';
import type { Clock } from '../clock.js';

/** Synchronous work between two turns of the event loop takes about this long, plus its last item. */
const SLICE_MS = 2;

/** Cuts long synchronous work into slices, so that the event loop is never blocked for long. */
export class Slices {
  readonly #clock: Clock;
  #began: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#began = clock.monotonic();
  }

  /** Called between two items: lets the event loop turn once the slice is used up. */
  async pause(): Promise<void> {
    if (this.#clock.monotonic() - this.#began < SLICE_MS) return;
    await setImmediate();
    this.#began = this.#clock.monotonic();
  }
}
