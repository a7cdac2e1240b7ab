/* When a task is looked at: one look at a time, soon after a hint, and once more after a hint that came too early. */
import type { Clock, Timer } from '../../clock.js';
import { shareRuns } from '../../util/share-runs.js';
import type { LookResult } from './subject.js';

/** The task that is looked at. */
export interface LookedAt {
  /** One look. */
  lookNow(): Promise<LookResult>;
  /** Resolves once no launch is under way: a hint waits for that. */
  launchOver(): Promise<void>;
  /** Told of looks that failed and that nobody waits for. */
  lookFailed(error: unknown): void;
}

/** After a hint that found the work still there. */
const SECOND_LOOKS_MS = [100, 1_000];

export class Looks {
  readonly #clock: Clock;
  readonly #task: LookedAt;
  /** A call during a look is served by the next one, which all such calls share. */
  readonly look: () => Promise<LookResult>;
  #running: Promise<unknown> | undefined;
  #isHinted = false;
  #timer: Timer | undefined;
  #isCleared = false;

  constructor(clock: Clock, task: LookedAt) {
    this.#clock = clock;
    this.#task = task;
    this.look = shareRuns(() => this.#run());
  }

  async #run(): Promise<LookResult> {
    this.#isHinted = false;
    const running = this.#task.lookNow().finally(() => {
      this.#running = undefined;
    });
    this.#running = running;
    return running;
  }

  /** Resolves once no look is under way. */
  async over(): Promise<void> {
    while (this.#running) await this.#running.catch(() => undefined); // whoever asked for the look hears of it
  }

  /** Looks soon, once for any number of calls. */
  soon(): void {
    void this.#soon();
  }

  /**
   * The same, and twice again where the work is still there: what hinted may have come first. A supervisor that was killed with its command is
   * seen to end while the command still does.
   */
  hint(pauses: readonly number[] = SECOND_LOOKS_MS): void {
    void this.#soon().then((result) => {
      const [pause, ...rest] = pauses;
      // The task may have ended during the look, by what another one found.
      if (this.#isCleared || result !== 'active' || pause === undefined || this.#timer) return;
      this.#timer = this.#clock.after(pause, () => {
        this.#timer = undefined;
        this.hint(rest);
      });
    });
  }

  /** No more looks by time, also not after a look that is under way. */
  clear(): void {
    this.#isCleared = true;
    this.#timer?.clear();
    this.#timer = undefined;
  }

  /** `undefined`: another call looks, or the look failed. */
  async #soon(): Promise<LookResult | undefined> {
    if (this.#isHinted) return undefined;
    this.#isHinted = true;
    await this.#task.launchOver();
    try {
      return await this.look();
    } catch (error) {
      this.#task.lookFailed(error);
      return undefined;
    }
  }
}
