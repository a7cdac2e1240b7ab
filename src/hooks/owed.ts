/* What is on record of a delivery, and how it may change: pure. Keys that this version does not know are kept. */
import { asError } from '../errors.js';
import { cutText } from '../task/json.js';
import { MAX_TEXT_BYTES, type TaskRecord } from '../task/record.js';
import type { OwedDelivery, TaskError } from '../task/types.js';

const MAX_NAME_BYTES = 256;

/** The same for every attempt and after every restart. A task id has no colon, so no two deliveries share one. */
export function deliveryIdOf(taskId: string, hook: string): string {
  return `${taskId}:${hook}`;
}

/** What the task owes this hook, in whatever state; `undefined`: nothing, ever. */
export function owedTo(record: TaskRecord, hook: string): OwedDelivery | undefined {
  return Object.hasOwn(record.hooks, hook) ? record.hooks[hook] : undefined;
}

export function withOwed(record: TaskRecord, hook: string, owed: OwedDelivery): TaskRecord {
  return { ...record, hooks: { ...record.hooks, [hook]: owed } };
}

/** A fresh debt, or a fresh set of attempts. */
export function fresh(owed?: OwedDelivery): OwedDelivery {
  return { ...without(owed, 'lastError', 'nextAttemptAt', 'deliveredAt'), state: 'pending', attempts: 0 };
}

export function delivered(owed: OwedDelivery, now: number): OwedDelivery {
  const attempts = owed.attempts + 1;
  return { ...without(owed, 'lastError', 'nextAttemptAt'), state: 'delivered', attempts, deliveredAt: now };
}

export function skipped(owed: OwedDelivery): OwedDelivery {
  return { ...without(owed, 'nextAttemptAt'), state: 'skipped' } as OwedDelivery;
}

/** An attempt failed, and another one is due at that time. */
export function postponed(owed: OwedDelivery, error: Error, nextAttemptAt: number): OwedDelivery {
  return { ...owed, attempts: owed.attempts + 1, lastError: describe(error), nextAttemptAt };
}

/** The last attempt failed. Without an error none was made: they had been used up before. */
export function failed(owed: OwedDelivery, error?: Error): OwedDelivery {
  const kept = without(owed, 'nextAttemptAt');
  if (!error) return { ...kept, state: 'failed' } as OwedDelivery;
  return { ...kept, state: 'failed', attempts: owed.attempts + 1, lastError: describe(error) };
}

/** What a hook threw, as an `Error`, whatever it is: some values cannot even be shown. */
export function thrownError(value: unknown): Error {
  try {
    return asError(value);
  } catch {
    return new Error('Thrown: a value that cannot be shown', { cause: value });
  }
}

function describe(error: Error): TaskError {
  try {
    const { code } = error as { code?: unknown };
    return {
      name: cutText(String(error.name || 'Error'), MAX_NAME_BYTES),
      message: cutText(String(error.message), MAX_TEXT_BYTES),
      ...((typeof code === 'string' || typeof code === 'number') && { code: cutText(String(code), MAX_NAME_BYTES) }),
    };
  } catch {
    return { name: 'Error', message: 'an error that cannot be shown' }; // its properties throw
  }
}

function without<K extends keyof OwedDelivery>(owed: OwedDelivery | undefined, ...keys: K[]): Omit<OwedDelivery, K> {
  const copy: Record<string, unknown> = { ...owed };
  for (const key of keys) delete copy[key];
  return copy as unknown as Omit<OwedDelivery, K>;
}
