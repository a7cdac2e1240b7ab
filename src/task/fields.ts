import { z } from 'zod';

/** A number that passes a test, with a message of our own. Unlike zod's numbers it may be `Infinity`. */
function numberThat(test: (value: number) => boolean, expected: string): z.ZodType<number, number> {
  return z.custom<number>((value) => typeof value === 'number' && test(value), expected);
}

/** A whole number of at least `minimum`, or `Infinity`. */
export function countOrInfinity(minimum: number): z.ZodType<number, number> {
  return numberThat(
    (value) => value === Number.POSITIVE_INFINITY || (Number.isInteger(value) && value >= minimum),
    `expected a whole number of at least ${minimum}, or Infinity`,
  );
}

/** A whole number from `minimum` to `maximum`. */
export function wholeNumber(minimum: number, maximum = Number.MAX_SAFE_INTEGER): z.ZodType<number, number> {
  const range = maximum === Number.MAX_SAFE_INTEGER ? `of at least ${minimum}` : `from ${minimum} to ${maximum}`;
  return numberThat(
    (value) => Number.isSafeInteger(value) && value >= minimum && value <= maximum,
    `expected a whole number ${range}`,
  );
}

/** Milliseconds: a finite number of at least `minimum`. */
export function millisecondsFrom(minimum: number): z.ZodType<number, number> {
  return numberThat(
    (value) => Number.isFinite(value) && value >= minimum,
    `expected a number of milliseconds of at least ${minimum}`,
  );
}

/** Milliseconds: a finite number that is not negative. */
export const milliseconds = millisecondsFrom(0);
/** A whole number that is not negative. */
export const count = wholeNumber(0);
/** A string of `minimum` to `maximum` characters. */
export function textOf(minimum: number, maximum: number): z.ZodType<string, string> {
  return z.custom<string>(
    (value) => typeof value === 'string' && value.length >= minimum && value.length <= maximum,
    `expected a string of ${minimum} to ${maximum} characters`,
  );
}
/** A string that is not blank. */
export const description = z.custom<string>(
  (value) => typeof value === 'string' && value.trim() !== '',
  'expected a string that is not blank',
);
/** A function. What it takes and returns is not checked. */
export function functionOf<F extends (...args: never[]) => unknown>(): z.ZodType<F, F> {
  return z.custom<F>((value) => typeof value === 'function', 'expected a function');
}
/** A function, whatever it takes. */
export const callable = functionOf<(...args: never[]) => unknown>();
/** A string without NUL bytes: no system call accepts one. */
export const textWithoutNul = z
  .string()
  .refine((value) => !value.includes('\0'), 'expected a string without a NUL byte');
