import { type Clock, delay } from '../../clock.js';

/** Between two looks at work that is being stopped: not every end of a tree makes itself heard. */
const FIRST_LOOK_MS = 10;
const LONGEST_LOOK_MS = 250;

/** The task whose stop is carried out. */
export interface Stopped {
  /** Asks its work to end. Never throws. */
  end(how: 'terminate' | 'kill'): Promise<void>;
  lookSoon(): void;
}

/** A stop on its way: asks the work to end, kills it when the grace is over, and looks until `end`, which is called when the task has ended. */
export class StopCampaign {
  readonly #clock: Clock;
  readonly #task: Stopped;
  readonly #over = new AbortController();
  /** Monotonic. */
  #killAt: number;
  #isKilling = false;

  constructor(clock: Clock, graceMs: number, task: Stopped) {
    this.#clock = clock;
    this.#task = task;
    this.#killAt = clock.monotonic() + graceMs;
    void this.#run();
  }

  /** A later stop with a shorter grace brings the kill forward. */
  hurry(graceMs: number): void {
    this.#killAt = Math.min(this.#killAt, this.#clock.monotonic() + graceMs);
  }

  end(): void {
    this.#over.abort();
  }

  async #run(): Promise<void> {
    const { signal } = this.#over;
    // Not awaited: a kind whose `stop` hangs must not keep the kill from coming.
    void this.#task.end('terminate');
    for (let pause = FIRST_LOOK_MS; !signal.aborted; pause = Math.min(pause * 2, LONGEST_LOOK_MS)) {
      const untilKill = this.#killAt - this.#clock.monotonic();
      if (untilKill <= 0) void this.#kill();
      this.#task.lookSoon();
      const wait = untilKill > 0 ? Math.min(pause, untilKill) : pause;
      await delay(this.#clock, wait, signal).catch(() => undefined); // the task has ended, or the manager closes
    }
  }

  async #kill(): Promise<void> {
    if (this.#isKilling) return;
    this.#isKilling = true;
    await this.#task.end('kill');
    this.#isKilling = false;
  }
}
