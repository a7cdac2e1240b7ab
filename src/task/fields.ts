import { z } from 'zod';

/** A whole number of at least `minimum`, or `Infinity`, which zod's own numbers refuse. */
export function countOrInfinity(minimum: number): z.ZodType<number, number> {
  return z.custom<number>(
    (value) => value === Number.POSITIVE_INFINITY || (Number.isInteger(value) && (value as number) >= minimum),
    `expected a whole number of at least ${minimum}, or Infinity`,
  );
}

/** Milliseconds: a finite number that is not negative. */
export const milliseconds = z.number().finite().nonnegative();
/** A whole number that is not negative. */
export const count = z.number().int().nonnegative();
/** A function, whatever it takes. */
export const callable = z.custom<(...args: never[]) => unknown>(
  (value) => typeof value === 'function',
  'expected a function',
);
/** A text without NUL bytes, which no system call could take. */
export const textWithoutNul = z.string().refine((value) => !value.includes('\0'), 'expected a text without a NUL byte');
