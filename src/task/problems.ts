import type { z } from 'zod';

/** The problems zod found, each with where it is, what was expected and what came. Values below `secret` keys are never shown. */
export function describeProblems(
  issues: readonly z.core.$ZodIssue[],
  input: unknown,
  secret: readonly string[] = [],
): string {
  return issues
    .map((issue) => {
      const path = issue.path.map(String).join('.');
      const shown = secret.includes(String(issue.path[0])) ? '' : show(valueAt(input, issue.path));
      return `${path ? `${path}: ` : ''}${issue.message}${shown && !issue.message.includes('received') ? `, got ${shown}` : ''}`;
    })
    .join('; ');
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | null | undefined)?.[key], input);
}

/** A value as an error message shows it: short, on one line. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
  if (typeof value === 'number' || typeof value === 'boolean' || value == null) return String(value);
  if (typeof value === 'bigint') return `${value}n`;
  return Array.isArray(value) ? `an array of ${value.length}` : `a ${typeof value}`;
}
