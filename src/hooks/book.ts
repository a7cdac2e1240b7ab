/* Puts changes of deliveries on record, then emits their events. */
import { delay } from '../clock.js';
import { asError, BackgroundTaskError } from '../errors.js';
import type { TaskRecord } from '../task/record.js';
import type { OwedDelivery } from '../task/types.js';
import { type OwedChange, owedTo, withOwed } from './owed.js';
import type { OutboxPort } from './port.js';

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 10_000;

/** A change cannot be put on record, and trying again would not help. It has been reported. */
export class UnwritableError extends Error {
  override readonly name = 'UnwritableError';
}

export class Book {
  readonly #port: OutboxPort;
  /** The reasons reported since the last successful write: a full disk is reported once, not once for each delivery. */
  readonly #reported = new Set<string>();

  constructor(port: OutboxPort) {
    this.#port = port;
  }

  /** One durable change, then its event. `error` is what the failed attempt threw. */
  async change(taskId: string, hook: string, next: OwedChange, error?: Error): Promise<TaskRecord> {
    let changed: OwedDelivery | undefined;
    const record = await this.#port.change(taskId, (current) => {
      const owed = owedTo(current, hook);
      changed = owed && next(owed);
      return changed && withOwed(current, hook, changed);
    });
    if (changed) {
      this.#reported.clear();
      this.#announce(record, hook, changed, error);
    }
    return record;
  }

  /**
   * The same for an outcome that must not be lost: a failed write is tried again until it succeeds, and a last time
   * when `hurry` aborts. Rejects with {@link UnwritableError}.
   */
  async insist(taskId: string, hook: string, next: OwedChange, hurry: AbortSignal, error?: Error): Promise<void> {
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      const last = hurry.aborted;
      try {
        await this.change(taskId, hook, next, error);
        return;
      } catch (cause) {
        const failure = toStorageFailure(cause, taskId);
        this.#tell(failure);
        if (last || failure.code !== 'STORAGE_FAILED') throw new UnwritableError(failure.message, { cause: failure });
      }
      await delay(this.#port.clock, pause, hurry).catch(() => undefined); // woken for the last try
    }
  }

  #tell(error: BackgroundTaskError): void {
    // The host knows already that the manager is closed or fenced.
    if (error.code === 'MANAGER_CLOSED' || error.code === 'OWNERSHIP_LOST') return;
    const { code, message } = asError(error.cause ?? error) as Error & { code?: unknown };
    const reason = `${error.code} ${String(code ?? message)}`;
    if (this.#reported.has(reason)) return;
    this.#reported.add(reason);
    this.#port.report(error);
  }

  #announce(task: TaskRecord, hook: string, owed: OwedDelivery, error: Error | undefined): void {
    const { state, attempts: attempt, nextAttemptAt } = owed;
    if (state === 'delivered') this.#port.emit('hook:delivered', { task, hook, attempt });
    else if (error && state === 'failed') this.#port.emit('hook:failed', { task, hook, attempt, error });
    else if (error && nextAttemptAt !== undefined) {
      this.#port.emit('hook:retrying', { task, hook, attempt, error, nextAttemptAt });
    }
  }
}

function toStorageFailure(cause: unknown, taskId: string): BackgroundTaskError {
  if (cause instanceof BackgroundTaskError) return cause;
  return new BackgroundTaskError('STORAGE_FAILED', `a delivery could not be put on record: ${asError(cause).message}`, {
    cause,
    taskId,
  });
}
