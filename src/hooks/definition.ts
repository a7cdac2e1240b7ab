import { z } from 'zod';
import { BackgroundTaskError } from '../errors.js';
import { countOrInfinity, functionOf, milliseconds } from '../task/fields.js';
import { validate } from '../task/problems.js';
import type { Differences, None } from '../task/same.js';
import { came, textOrType } from '../task/show.js';
import type { Hook, HookDefinition, HookOptions } from './types.js';

/** Part of every delivery id, and so of a header: starts with a letter or digit, which also keeps `__proto__` out. */
const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

const DEFAULT_MAX_DELAY_MS = 30_000;

const schema = z.strictObject({
  deliver: functionOf<Hook<any>>(),
  maxAttempts: countOrInfinity(1).default(4),
  minDelayMs: milliseconds.default(500),
  maxDelayMs: milliseconds.optional(),
  timeoutMs: milliseconds.default(30_000),
});

/** An option that only the documented type has, or only the schema, is an error here that names it. */
type _SameOptions = None<Differences<HookOptions<any>, z.input<typeof schema>>>;

/** A hook that is called, with every default filled in. */
export interface HookSettings extends Readonly<z.output<typeof schema>> {
  readonly maxDelayMs: number;
}

/** Throws `INVALID_OPTIONS`. */
export function checkHookName(name: unknown): asserts name is string {
  if (typeof name === 'string' && namePattern.test(name)) return;
  throw invalid(
    `expected a hook name of 1 to 64 letters, digits, ".", "_" and "-" that starts with a letter or digit, got ${textOrType(name)}`,
  );
}

/** Fills in what a definition leaves out. Throws `INVALID_OPTIONS` naming every problem. */
export function parseHook(name: string, definition: HookDefinition<any>): HookSettings | 'pull' {
  if (definition === 'pull') return 'pull';
  const options: HookOptions<any> = typeof definition === 'function' ? { deliver: definition } : definition;
  if (typeof options !== 'object' || options === null) {
    throw invalid(`hook "${name}": expected a function, "pull" or { deliver, … }, got ${came(options)}`);
  }
  const { data, problem } = validate(schema, options);
  if (problem !== undefined) throw invalid(`hook "${name}": ${problem}`);
  const { minDelayMs, maxDelayMs = Math.max(DEFAULT_MAX_DELAY_MS, minDelayMs), ...rest } = data;
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
