import type { Clock } from '../clock.js';
import { asError, PermanentDeliveryError } from '../errors.js';
import type { TaskRecord } from '../task/record.js';
import type { HookSettings } from './definition.js';
import type { Delivery } from './types.js';

/** A hook threw or timed out. Wraps what was thrown, because p-retry never retries a `TypeError`. */
export class AttemptFailure extends Error {
  override readonly name = 'AttemptFailure';
  readonly thrown: Error;

  constructor(thrown: unknown) {
    super('the attempt failed');
    this.thrown = asError(thrown);
  }

  /** Whether trying again is pointless. By its name too: an error from another copy of the package counts. */
  get permanent(): boolean {
    return this.thrown instanceof PermanentDeliveryError || this.thrown.name === 'PermanentDeliveryError';
  }
}

/** What an attempt needs to know. */
interface AttemptParts extends Omit<Delivery, 'signal'> {
  readonly task: TaskRecord;
  readonly clock: Clock;
  readonly hook: HookSettings;
  /** Aborted when the delivery is withdrawn or the manager closes: rejects with its reason. */
  readonly cancelled: AbortSignal;
}

/**
 * Calls a hook once. A hook that ignores its signal is abandoned when its time is up; what it does later has no effect.
 * Rejects with `AttemptFailure`, or with the reason of `cancelled`.
 */
export function attemptOnce({ task, clock, hook, cancelled, ...delivery }: AttemptParts): Promise<unknown> {
  const controller = new AbortController();
  const called = call(hook, task, Object.freeze({ ...delivery, signal: controller.signal }));
  return new Promise((resolve, reject) => {
    const end = () => {
      timer?.clear();
      cancelled.removeEventListener('abort', onCancelled);
    };
    const abandon = (reason: unknown, failure: unknown) => {
      end();
      reject(failure);
      controller.abort(reason);
    };
    const onCancelled = () => abandon(cancelled.reason, cancelled.reason);
    const onTimeout = () => {
      const error = new DOMException(`the attempt took longer than ${hook.timeoutMs} ms`, 'TimeoutError');
      abandon(error, new AttemptFailure(error));
    };
    const timer = hook.timeoutMs > 0 ? clock.after(hook.timeoutMs, onTimeout) : undefined;
    cancelled.addEventListener('abort', onCancelled);
    called.then(resolve, (error: unknown) => reject(new AttemptFailure(error))).finally(end);
  });
}

/** Turns a synchronous throw into a rejection. */
async function call(hook: HookSettings, task: TaskRecord, delivery: Delivery): Promise<unknown> {
  return hook.deliver(task, delivery);
}
