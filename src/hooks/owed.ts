/* The state of a delivery on record, and its changes: pure functions. Keys that this version does not know are kept. */
import type { TaskRecord } from '../task/record.js';
import { describeError } from '../task/task-error.js';
import type { OwedDelivery } from '../task/types.js';

/** The same for every attempt and after every restart. A task id has no colon, so no two deliveries share one. */
export function deliveryIdOf(taskId: string, hook: string): string {
  return `${taskId}:${hook}`;
}

/** The delivery to this hook, in any state; `undefined`: the task never owed it one. */
export function owedTo(record: TaskRecord, hook: string): OwedDelivery | undefined {
  return Object.hasOwn(record.hooks, hook) ? record.hooks[hook] : undefined;
}

export function withOwed(record: TaskRecord, hook: string, owed: OwedDelivery): TaskRecord {
  return { ...record, hooks: { ...record.hooks, [hook]: owed } };
}

/** A new delivery, or a new set of attempts for this one. */
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
  return { ...owed, attempts: owed.attempts + 1, lastError: describeError(error), nextAttemptAt };
}

/** The last attempt failed. Without an error: none was made, because all had been used up before. */
export function failed(owed: OwedDelivery, error?: Error): OwedDelivery {
  const kept = without(owed, 'nextAttemptAt');
  if (!error) return { ...kept, state: 'failed' } as OwedDelivery;
  return { ...kept, state: 'failed', attempts: owed.attempts + 1, lastError: describeError(error) };
}

function without<K extends keyof OwedDelivery>(owed: OwedDelivery | undefined, ...keys: K[]): Omit<OwedDelivery, K> {
  const copy: Record<string, unknown> = { ...owed };
  for (const key of keys) delete copy[key];
  return copy as unknown as Omit<OwedDelivery, K>;
}

/** One change of one owed delivery; `undefined` leaves it as it is. */
export type OwedChange = (owed: OwedDelivery) => OwedDelivery | undefined;
