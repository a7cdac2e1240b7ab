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

/** Runs of this length are sorted in one go. */
const RUN = 256;

/** A stable sort, in slices: sorts short runs, then merges them pair by pair. */
export async function sortInSlices<T>(
  items: readonly T[],
  compare: (a: T, b: T) => number,
  slices: Slices,
): Promise<T[]> {
  let sorted = [...items];
  for (let start = 0; start < sorted.length; start += RUN) {
    const run = sorted.slice(start, start + RUN).sort(compare);
    for (const [index, item] of run.entries()) sorted[start + index] = item;
    await slices.pause();
  }
  for (let width = RUN; width < sorted.length; width *= 2) {
    const merged: T[] = [];
    for (let start = 0; start < sorted.length; start += 2 * width) {
      const middle = Math.min(start + width, sorted.length);
      const end = Math.min(start + 2 * width, sorted.length);
      for (let left = start, right = middle; left < middle || right < end; ) {
        const takesLeft = right >= end || (left < middle && compare(sorted[left]!, sorted[right]!) <= 0);
        merged.push(takesLeft ? sorted[left++]! : sorted[right++]!);
        if (merged.length % RUN === 0) await slices.pause();
      }
    }
    sorted = merged;
  }
  return sorted;
}
