/*
 * How far a manager is: its parts ask, instead of being told when it is too early or too late for them. A directory that is lost while it is
 * being opened is lost for everybody who asks later.
 */
import { BackgroundTaskError } from '../errors.js';
import { isOver } from './failures.js';

/**
 * `open`; `closing`: calls are refused, and nothing is launched any more; `quiet`: no timer and no stop begins any more; `ended`: nothing is
 * written any more.
 */
const phases = ['open', 'closing', 'quiet', 'ended'] as const;
type Phase = (typeof phases)[number];

export class Lifetime {
  #phase: Phase = 'open';
  #refusal: BackgroundTaskError | undefined;
  #isFenced = false;
  /** Work that goes on beside the calls, and must be over before the directory is given up. */
  readonly #background = new Set<Promise<unknown>>();
  readonly #onFailure: (error: unknown, taskId: string | undefined) => void;

  /** `onFailure` is told of work in the background that failed. */
  constructor(onFailure: (error: unknown, taskId: string | undefined) => void) {
    this.#onFailure = onFailure;
  }

  /** Throws `MANAGER_CLOSED` or `OWNERSHIP_LOST`: for calls of the host. */
  assertOpen(): void {
    if (!this.#refusal) return;
    const { code, message, owner } = this.#refusal;
    throw new BackgroundTaskError(code, message, { owner });
  }

  /** Throws the same once nothing is written any more. */
  assertWritable(): void {
    if (this.#phase === 'ended') throw this.#refusal;
  }

  /** Why calls are refused, once they are. */
  get refusal(): BackgroundTaskError | undefined {
    return this.#refusal;
  }

  /** Nothing is launched any more. */
  get isClosing(): boolean {
    return this.#phase !== 'open';
  }

  /** No timer and no stop begins any more. */
  get isQuiet(): boolean {
    return this.#phase === 'quiet' || this.#phase === 'ended';
  }

  /** It ended because another manager owns the directory, or may. */
  get isFenced(): boolean {
    return this.#isFenced;
  }

  /** Calls are refused with `error` from now on. `false`: they were before, and with another error. */
  refuse(error: BackgroundTaskError): boolean {
    if (this.#refusal) return false;
    this.#refusal = error;
    this.#advance('closing');
    return true;
  }

  quiet(): void {
    this.#advance('quiet');
  }

  end(): void {
    this.#advance('ended');
  }

  /** Everything ends at once: nothing must be written or signalled any more. `false`: it had ended, or was ending, by itself. */
  fence(error: BackgroundTaskError): boolean {
    if (!this.refuse(error)) return false;
    this.#isFenced = true;
    this.#advance('ended');
    return true;
  }

  inBackground(work: Promise<unknown>, taskId?: string): void {
    const watched = work
      .catch((error: unknown) => {
        // Given up because the manager ended: its callers are told that.
        if (!isOver(error)) this.#onFailure(error, taskId);
      })
      .finally(() => this.#background.delete(watched));
    this.#background.add(watched);
  }

  /** Resolves once what goes on in the background now is over. */
  async backgroundOver(): Promise<void> {
    await Promise.all(this.#background);
  }

  #advance(phase: Phase): void {
    if (phases.indexOf(phase) > phases.indexOf(this.#phase)) this.#phase = phase;
  }
}
