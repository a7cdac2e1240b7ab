/* How long a delivery waits between two attempts: pure. */
import type { HookSettings } from './definition.js';

/** The longest wait that an error may ask for with `retryAfterMs`. */
export const MAX_RETRY_AFTER_MS = 15 * 60_000;
/** Beyond it doubling makes no difference. */
const MAX_DOUBLINGS = 40;

type Limits = Pick<HookSettings, 'minDelayMs' | 'maxDelayMs'>;

/**
 * The delay after this many failed attempts: it doubles each time from `minDelayMs`, times a random factor between 1
 * and 2, and is never longer than `maxDelayMs`; but at least what the error asked for.
 */
export function backoffMs(limits: Limits, failedAttempts: number, error: unknown, random = Math.random()): number {
  const doubled = limits.minDelayMs * 2 ** Math.min(failedAttempts - 1, MAX_DOUBLINGS);
  return Math.round(Math.max(Math.min(doubled * (1 + random), limits.maxDelayMs), retryAfterMs(error)));
}

/**
 * What remains of a wait that an earlier host put on record. A wall clock that was set back must not prolong it: where
 * the task ends in the future, the clock was certainly set back, and the wait is at most `maxDelayMs`; otherwise it is
 * at most the longest wait that could have been put on record.
 */
export function remainingMs(
  limits: Limits,
  record: { readonly endedAt: number | null },
  nextAttemptAt: number,
  now: number,
): number {
  const setBack = record.endedAt !== null && now < record.endedAt;
  const longest = setBack ? limits.maxDelayMs : Math.max(limits.maxDelayMs, MAX_RETRY_AFTER_MS);
  return Math.min(Math.max(0, nextAttemptAt - now), longest);
}

function retryAfterMs(error: unknown): number {
  const asked = (error as { retryAfterMs?: unknown }).retryAfterMs;
  return typeof asked === 'number' && asked > 0 ? Math.min(asked, MAX_RETRY_AFTER_MS) : 0;
}
