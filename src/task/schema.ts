import type { StandardSchema } from './types.js';

interface Issue {
  readonly message: string;
  readonly path?: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> | undefined;
}

/** What a Standard Schema says of a value: the value it made of it, or every problem in one line. */
export type SchemaVerdict =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly problem: string };

/** Validates with any Standard Schema. A schema that answers with a promise is a mistake of the host's: `TypeError`. */
export function checkSchema(schema: StandardSchema, value: unknown): SchemaVerdict {
  const answer = schema['~standard'].validate(value) as { value?: unknown; issues?: readonly Issue[] | undefined };
  if (answer instanceof Promise || typeof (answer as { then?: unknown }).then === 'function') {
    // Some turn to a promise when they throw: what that rejects with is not needed to say so.
    Promise.resolve(answer).catch(() => undefined);
    const { vendor } = schema['~standard'];
    throw new TypeError(`the ${vendor} schema is asynchronous, or threw; holdfast needs a synchronous one`);
  }
  if (!answer.issues) return { ok: true, value: answer.value };
  return { ok: false, problem: answer.issues.map(describe).join('; ') };
}

function describe(issue: Issue): string {
  const path = issue.path?.map((part) => String(typeof part === 'object' ? part.key : part)).join('.');
  return path ? `${path}: ${issue.message}` : issue.message;
}

/** Whether `value` has the one property that makes it a Standard Schema. */
export function isStandardSchema(value: unknown): value is StandardSchema {
  const standard = (value as { '~standard'?: { validate?: unknown } } | null | undefined)?.['~standard'];
  return typeof standard?.validate === 'function';
}
