import { describeProblems } from './problems.js';
import type { StandardSchema } from './types.js';

interface Issue {
  readonly message: string;
  /** Issues of zod have one. */
  readonly code?: string | undefined;
  readonly path?: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> | undefined;
}

/** The outcome of a Standard Schema: the value that it returns, or every problem in one line. */
export type SchemaVerdict =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly problem: string };

/** Validates with any Standard Schema. An asynchronous schema is a mistake of the host: `TypeError`. */
export function checkSchema(schema: StandardSchema, value: unknown): SchemaVerdict {
  const answer = schema['~standard'].validate(value) as { value?: unknown; issues?: readonly Issue[] | undefined };
  if (answer instanceof Promise || typeof (answer as { then?: unknown }).then === 'function') {
    // Some schemas return a promise when they throw; its rejection adds nothing to the message.
    Promise.resolve(answer).catch(() => undefined);
    const { vendor } = schema['~standard'];
    throw new TypeError(`the ${vendor} schema is asynchronous, or threw; holdfast needs a synchronous one`);
  }
  if (!answer.issues) return { ok: true, value: answer.value };
  return { ok: false, problem: describeIssues(answer.issues, value) };
}

/**
 * In our form where the validator says what it expected, otherwise its own message. The host's values may be secret:
 * none is shown.
 */
function describeIssues(issues: readonly Issue[], value: unknown): string {
  return issues
    .map(({ path = [], ...issue }) => {
      const keys = path.map((part) => (typeof part === 'object' ? part.key : part));
      if (issue.code !== undefined) return describeProblems([{ ...issue, path: keys }], value, 'all');
      return keys.length > 0 ? `${keys.map(String).join('.')}: ${issue.message}` : issue.message;
    })
    .join('; ');
}

/** Whether `value` has the one property that makes it a Standard Schema. */
export function isStandardSchema(value: unknown): value is StandardSchema {
  const standard = (value as { '~standard'?: { validate?: unknown } } | null | undefined)?.['~standard'];
  return typeof standard?.validate === 'function';
}
