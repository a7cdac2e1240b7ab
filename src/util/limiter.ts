/**
 * `new` work comes in any number at once; `begun` work is what completes it. Jobs that wait are served in the order of their calls within each
 * lane, and the lanes take turns: neither keeps the other waiting.
 */
export type Lane = 'begun' | 'new';

type Waiting = Record<Lane, (() => void)[]>;

/**
 * Lets a bounded number of jobs run at once. A job must not wait for another one of the same limiter: with all places taken by such jobs nothing
 * would ever go on.
 */
export class Limiter {
  readonly #limit: number;
  readonly #waiting: Waiting = { begun: [], new: [] };
  #running = 0;
  #lastLane: Lane = 'new';

  constructor(limit: number) {
    this.#limit = limit;
  }

  async run<T>(job: () => Promise<T>, lane: Lane = 'begun'): Promise<T> {
    if (this.#running < this.#limit) this.#running++;
    // Who is called here takes over the place of the job that has just ended.
    else await new Promise<void>((resolve) => this.#waiting[lane].push(resolve));
    try {
      return await job();
    } finally {
      const next = this.#next();
      if (next) next();
      else this.#running--;
    }
  }

  #next(): (() => void) | undefined {
    const other = this.#lastLane === 'new' ? 'begun' : 'new';
    const lane = this.#waiting[other].length > 0 ? other : this.#lastLane;
    this.#lastLane = lane;
    return this.#waiting[lane].shift();
  }
}
