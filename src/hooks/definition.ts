import { z } from 'zod';
import { BackgroundTaskError } from '../errors.js';
import { describeProblems, show } from '../task/problems.js';
import type { Awaitable } from '../task/types.js';
import type { Delivery, HookDefinition, HookOptions } from './types.js';

/** A hook that is called, with every default filled in. */
export interface HookSettings {
  readonly deliver: (task: unknown, delivery: Delivery) => Awaitable<unknown>;
  readonly maxAttempts: number;
  readonly minDelayMs: number;
  readonly maxDelayMs: number;
  readonly timeoutMs: number;
}

/** Part of every delivery id, and so of a header: starts with a letter or digit, which also keeps `__proto__` out. */
const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

const DEFAULT_MAX_DELAY_MS = 30_000;
const milliseconds = z.number().finite().nonnegative();

const schema = z.strictObject({
  deliver: z.custom<HookSettings['deliver']>((value) => typeof value === 'function', 'expected a function'),
  maxAttempts: z
    .union([z.literal(Infinity), z.number().int().min(1)], {
      error: 'expected a whole number of at least 1, or Infinity',
    })
    .default(4),
  minDelayMs: milliseconds.default(500),
  maxDelayMs: milliseconds.optional(),
  timeoutMs: milliseconds.default(30_000),
});

/** Throws `INVALID_OPTIONS`. */
export function checkHookName(name: unknown): asserts name is string {
  if (typeof name === 'string' && namePattern.test(name)) return;
  throw invalid(
    `expected a hook name of 1 to 64 letters, digits, ".", "_" and "-" that starts with a letter or digit, got ${show(name)}`,
  );
}

/** Fills in what a definition leaves out. Throws `INVALID_OPTIONS` naming every problem. */
export function parseHook(name: string, definition: HookDefinition<any>): HookSettings | 'pull' {
  if (definition === 'pull') return 'pull';
  const options: HookOptions<any> = typeof definition === 'function' ? { deliver: definition } : definition;
  if (typeof options !== 'object' || options === null) {
    throw invalid(`hook "${name}": expected a function, "pull" or { deliver, … }, got ${show(options)}`);
  }
  const parsed = schema.safeParse(options);
  if (!parsed.success) throw invalid(`hook "${name}": ${describeProblems(parsed.error.issues, options)}`);
  const { minDelayMs, maxDelayMs = Math.max(DEFAULT_MAX_DELAY_MS, minDelayMs), ...rest } = parsed.data;
  if (maxDelayMs < minDelayMs) {
    throw invalid(`hook "${name}": maxDelayMs: expected at least minDelayMs (${minDelayMs}), got ${maxDelayMs}`);
  }
  // A definition may be an object with `this`.
  const deliver: HookSettings['deliver'] = (task, delivery) => options.deliver(task as never, delivery);
  return Object.freeze({ ...rest, minDelayMs, maxDelayMs, deliver });
}

function invalid(message: string): BackgroundTaskError {
  return new BackgroundTaskError('INVALID_OPTIONS', message);
}
