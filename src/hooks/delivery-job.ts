/*
 * One owed delivery, from waiting for a place until it is delivered, given up, withdrawn, or left to the next host.
 *
 * Invariants:
 * - The outcome of an attempt is on record before anything else happens for this delivery. So the recorded count is
 *   behind the calls by at most the attempt under way, and a hook is called again after a success only where the host
 *   was killed between the success and its write.
 * - A success that cannot be written keeps its place: on a full disk at most as many successes are unrecorded as there
 *   are places.
 * - Waiting for the next attempt holds no place.
 */
import pRetry, { AbortError } from 'p-retry';
import { delay, type Timer } from '../clock.js';
import { asError, BackgroundTaskError } from '../errors.js';
import type { TaskRecord } from '../task/record.js';
import type { OwedDelivery } from '../task/types.js';
import { AttemptFailure, attemptOnce } from './attempt.js';
import { backoffMs, remainingMs } from './backoff.js';
import { type Book, UnwritableError } from './book.js';
import type { HookSettings } from './definition.js';
import { delivered, deliveryIdOf, failed, type OwedChange, owedTo, postponed, skipped } from './owed.js';
import type { Places } from './places.js';
import type { DeliveryUnderWay, OutboxPort } from './port.js';
import { SKIPPED } from './skipped.js';

/** What all deliveries share. */
export interface JobContext {
  readonly port: OutboxPort;
  readonly book: Book;
  readonly places: Places;
}

/** The delivery ends here without an outcome: it was withdrawn, or is left to the next host. */
class DeliveryEnd extends Error {
  override readonly name = 'DeliveryEnd';
}

export class DeliveryJob implements DeliveryUnderWay {
  readonly taskId: string;
  readonly name: string;
  /** The task was offered again meanwhile: the outbox looks at the record once more when this job has ended. */
  offeredAgain = false;
  readonly #context: JobContext;
  readonly #hook: HookSettings;
  readonly #onEnd: (job: DeliveryJob) => void;
  /** Aborted by `rest`: ends every wait. */
  readonly #resting = new AbortController();
  /** Aborted by `cancel`: ends the attempt under way too. */
  readonly #cancelled = new AbortController();
  #timer: Timer | undefined;
  #unqueue: (() => void) | undefined;
  #leave: (() => void) | undefined;
  #running: Promise<void> | undefined;
  #outcome: OwedChange | undefined;

  /** `onEnd` is called once, when nothing more will happen for this delivery by this job. */
  constructor(
    context: JobContext,
    taskId: string,
    name: string,
    hook: HookSettings,
    onEnd: (job: DeliveryJob) => void,
  ) {
    this.#context = context;
    this.taskId = taskId;
    this.name = name;
    this.#hook = hook;
    this.#onEnd = onEnd;
  }

  /** The outcome of the delivery, while it is not on record yet. */
  get outcome(): OwedChange | undefined {
    return this.#outcome;
  }

  /** Resolves when it has ended; at once where it has not begun. */
  get ended(): Promise<void> {
    return this.#running ?? Promise.resolve();
  }

  /** Waits for what is left of the last wait on record, then for a place. */
  begin(record: TaskRecord, owed: OwedDelivery): void {
    const { clock } = this.#context.port;
    const dueAt = owed.nextAttemptAt ?? record.endedAt ?? record.createdAt;
    const wait = owed.nextAttemptAt === undefined ? 0 : remainingMs(this.#hook, record, dueAt, clock.now());
    if (wait > 0) this.#timer = clock.after(wait, () => this.#queue(dueAt));
    else this.#queue(dueAt);
  }

  /** Nothing new begins; an attempt under way may finish. */
  rest(): void {
    this.#resting.abort(new DeliveryEnd('the manager closes'));
    this.#timer?.clear();
    this.#unqueue?.();
    if (!this.#running) this.#onEnd(this);
  }

  /**
   * Ends it now. The signal of an attempt under way is aborted with `reason`, and what it still does changes nothing.
   */
  cancel(reason: Error): void {
    this.rest();
    this.#cancelled.abort(reason);
  }

  #queue(since: number): void {
    this.#unqueue = this.#context.places.ask(since, (leave) => {
      this.#leave = leave;
      this.#running = this.#run();
    });
  }

  async #run(): Promise<void> {
    try {
      await this.#deliver();
    } catch (error) {
      if (!(error instanceof DeliveryEnd) && !(error instanceof UnwritableError)) this.#reportBug(error);
    } finally {
      this.#leave?.();
      this.#onEnd(this);
    }
  }

  async #deliver(): Promise<void> {
    const { attempts } = this.#current().owed;
    const left = this.#hook.maxAttempts - attempts;
    // The host may allow fewer attempts now than were made.
    if (left < 1) return this.#conclude((owed) => failed(owed), new Error(`all ${attempts} attempts failed`));
    let answer: unknown;
    try {
      answer = await pRetry(() => this.#attempt(), {
        retries: left - 1,
        minTimeout: 0, // we wait ourselves: the wait is on record and follows our clock
        unref: true,
        onFailedAttempt: async ({ error, retriesLeft }) => {
          if (error instanceof AttemptFailure && retriesLeft > 0 && !error.permanent)
            await this.#postpone(error.thrown);
        },
        shouldRetry: ({ error }) => error instanceof AttemptFailure && !error.permanent,
      });
    } catch (error) {
      if (!(error instanceof AttemptFailure)) throw error;
      return this.#conclude((owed) => failed(owed, error.thrown), error.thrown);
    }
    const now = this.#context.port.clock.now();
    return this.#conclude((owed) => (answer === SKIPPED ? skipped(owed) : delivered(owed, now)));
  }

  /** Keeps its place when it succeeds, until that is on record. Gives it back when it fails. */
  async #attempt(): Promise<unknown> {
    const { port } = this.#context;
    const { taskId, name } = this;
    try {
      await this.#enter();
      const { task, owed } = this.#current();
      return await attemptOnce({
        task,
        clock: port.clock,
        hook: this.#hook,
        cancelled: this.#cancelled.signal,
        deliveryId: deliveryIdOf(taskId, name),
        attempt: owed.attempts + 1,
        readOutput: (options) => port.readOutput(taskId, options),
      });
    } catch (error) {
      this.#leave?.();
      this.#leave = undefined;
      if (error instanceof AttemptFailure) throw error;
      throw new AbortError(this.#cancelled.signal.aborted ? new DeliveryEnd('cancelled') : asError(error));
    }
  }

  /** The first attempt has its place already. */
  #enter(): Promise<void> | undefined {
    const { signal } = this.#resting;
    signal.throwIfAborted();
    if (this.#leave) return undefined;
    return new Promise((resolve, reject) => {
      const onResting = () => {
        unqueue();
        reject(signal.reason);
      };
      const unqueue = this.#context.places.ask(this.#context.port.clock.now(), (leave) => {
        signal.removeEventListener('abort', onResting);
        this.#leave = leave;
        resolve();
      });
      signal.addEventListener('abort', onResting, { once: true });
    });
  }

  /** Puts the failed attempt on record, then waits until the next one is due. */
  async #postpone(error: Error): Promise<void> {
    const { port, book } = this.#context;
    const wait = backoffMs(this.#hook, this.#current().owed.attempts + 1, error);
    const nextAttemptAt = port.clock.now() + wait;
    const next: OwedChange = (owed) => (owed.state === 'pending' ? postponed(owed, error, nextAttemptAt) : undefined);
    await book.insist(this.taskId, this.name, next, this.#resting.signal, error);
    // Part of the wait may have gone by while it was written; a clock that jumped meanwhile neither stretches nor skips
    // it.
    const left = Math.min(Math.max(0, nextAttemptAt - port.clock.now()), wait);
    if (left > 0) await delay(port.clock, left, this.#resting.signal);
  }

  async #conclude(next: OwedChange, error?: Error): Promise<void> {
    this.#outcome = (owed) => (owed.state === 'pending' ? next(owed) : undefined);
    await this.#context.book.insist(this.taskId, this.name, this.#outcome, this.#resting.signal, error);
    this.#outcome = undefined;
  }

  /** The current record. Since this job began it may have been removed, or the delivery acknowledged or withdrawn. */
  #current(): { task: TaskRecord; owed: OwedDelivery } {
    const task = this.#context.port.get(this.taskId);
    const owed = task && owedTo(task, this.name);
    if (!task || owed?.state !== 'pending') throw new DeliveryEnd('nothing is owed any more');
    return { task, owed };
  }

  #reportBug(error: unknown): void {
    const { taskId, name } = this;
    const message = `the delivery to "${name}" stopped until the next start: ${asError(error).message}`;
    this.#context.port.report(new BackgroundTaskError('STORAGE_FAILED', message, { cause: error, taskId }));
  }
}
