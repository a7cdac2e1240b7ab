/*
 * Messages for values that a schema refused, all in one form: where, what was expected, what came. The schema's own
 * messages are not shown: its issues are read by their codes, so a locale that the host set for its validator changes
 * nothing here.
 */
import type { z } from 'zod';
import { didYouMean, unknownKey } from './nearest.js';
import { came, listOf, show, typeName, withArticle } from './show.js';

/** The value as the schema made it, or every problem in one line. */
export type Verdict<T> =
  | { readonly data: T; readonly problem?: never }
  | { readonly data?: never; readonly problem: string };

/** An issue as any version of zod reports it, and as other validators do in part. */
export interface Issue {
  readonly code?: string | undefined;
  readonly message: string;
  readonly path?: readonly PropertyKey[] | undefined;
  readonly [more: string]: unknown;
}

/** Validates a value. Below a `secret` key a message shows the type only, never the value. */
export function validate<S extends z.ZodType>(
  schema: S,
  value: unknown,
  secret: readonly string[] = [],
): Verdict<z.infer<S>> {
  if (isShapeless(value)) return { problem: `${expectOptions(schema, value)}, got ${came(value)}` };
  const parsed = schema.safeParse(value, inOneVoice);
  if (parsed.success) return { data: parsed.data };
  return { problem: describeProblems(parsed.error.issues, value, secret) };
}

/** A promise or a signal has no keys of its own, and would be accepted as empty options. */
function isShapeless(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !/^(an object|an array of \d+|a Module)$/.test(typeName(value));
}

/** The known keys, by the list of unknown ones: an issue holds only that list. */
const knownKeys = new WeakMap<object, readonly string[]>();

/** Given to `safeParse` of our own schemas, so that the messages are ours. */
export const inOneVoice = {
  error(issue: z.core.$ZodRawIssue): string {
    const shape = shapeOf(issue.inst);
    if (shape && issue.code === 'unrecognized_keys') knownKeys.set(issue.keys as object, Object.keys(shape));
    if (isStrict(issue.inst) && issue.code === 'invalid_type') return expectOptions(issue.inst, issue.input);
    return phrase(issue as unknown as Issue);
  },
};

/** The keys below which only types are shown. */
type Secret = readonly string[] | 'all';

/** `path: expected …, got …; path: …`. */
export function describeProblems(
  issues: readonly z.core.$ZodIssue[] | readonly Issue[],
  input: unknown,
  secret: Secret = [],
): string {
  return (issues as readonly Issue[]).flatMap((issue) => describe(issue, input, secret)).join('; ');
}

function describe(issue: Issue, input: unknown, secret: Secret): readonly string[] {
  const path = (issue.path ?? []).map(String);
  if (issue.code === 'unrecognized_keys') {
    const keys = issue.keys as readonly string[];
    return keys.map((key) => `${[...path, plainKey(key)].join('.')}: ${unknownKey(key, knownKeys.get(keys) ?? [])}`);
  }
  if (issue.code === 'invalid_union' && issue.message === NO_BRANCH) {
    return branchOf(issue).flatMap((inner) =>
      describe({ ...inner, path: [...(issue.path ?? []), ...(inner.path ?? [])] }, input, secret),
    );
  }
  const value = valueAt(input, issue.path ?? []);
  const hidden = secret === 'all' || /secret$/i.test(path.at(-1) ?? '') || secret.includes(path[0] ?? '');
  const at = path.map(plainKey).join('.');
  const expected = wordsOf(issue);
  if (value === undefined) return [`${at ? `${at}: ` : ''}is missing; ${expected}`];
  const meant = issue.code === 'invalid_value' && !hidden ? didYouMean(value, textsOf(issue)) : '';
  return [`${at ? `${at}: ` : ''}${expected}${gotInstead(expected, value, hidden)}${meant}`];
}

/** A value of the expected type is shown as it stands; any other one with its type. */
function gotInstead(expected: string, value: unknown, hidden: boolean): string {
  const fits =
    (typeof value === 'string' && /string|text|path|name|\bid\b|one of|"|a command/.test(expected)) ||
    (typeof value === 'number' && /number|Infinity|^expected (one of )?-?\d/.test(expected)) ||
    (typeof value === 'boolean' && /true|false/.test(expected));
  if (hidden) return fits ? '' : `, got ${typeName(value)}`;
  return `, got ${fits ? show(value) : came(value)}`;
}

/** Messages that the host wrote are kept; a validator's default messages are replaced. */
function wordsOf(issue: Issue): string {
  if (issue.code === 'invalid_key') {
    const [inner] = (issue.issues ?? []) as readonly Issue[];
    return inner ? wordsOf(inner) : phrase(issue);
  }
  return /^(Invalid|Too (small|big)|Unrecognized|Required$|Expected |(String|Number|Array) must )/.test(issue.message)
    ? phrase(issue)
    : issue.message;
}

const NO_BRANCH = 'expected another value';

const typeNames: Readonly<Record<string, string>> = {
  boolean: 'true or false',
  int: 'a whole number',
  record: 'an object',
  nonoptional: 'a value',
  nan: 'NaN',
  never: 'nothing',
};

/** What an issue expected. */
function phrase(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type': {
      const type = String(issue.expected);
      return `expected ${typeNames[type] ?? withArticle(type)}`;
    }
    case 'invalid_value':
      return `expected ${listOf(issue.values as readonly unknown[])}`;
    case 'too_small':
      return `expected ${amount(issue, 'at least', 'more than', issue.minimum)}`;
    case 'too_big':
      return `expected ${amount(issue, 'at most', 'less than', issue.maximum)}`;
    case 'invalid_format':
      return issue.pattern === undefined
        ? `expected ${withArticle(String(issue.format))}`
        : `expected a string matching ${unwrapped(String(issue.pattern))}`;
    case 'not_multiple_of':
      return `expected a multiple of ${issue.divisor}`;
    case 'unrecognized_keys':
      return `expected no ${(issue.keys as readonly string[]).map(plainKey).join(', ')}`;
    case 'invalid_union':
      return NO_BRANCH;
    default:
      return 'expected another value';
  }
}

function amount({ origin, inclusive }: Issue, including: string, excluding: string, limit: unknown): string {
  const bound = `${inclusive === false ? excluding : including} ${limit}`;
  const many = limit === 1 && inclusive !== false ? '' : 's';
  if (origin === 'string') return `a string of ${bound} character${many}`;
  if (origin === 'array' || origin === 'set' || origin === 'map')
    return `${withArticle(origin)} of ${bound} item${many}`;
  return `a number of ${bound}`;
}

function unwrapped(pattern: string): string {
  return pattern.replace(/^\/(.*)\/[a-z]*$/s, '$1');
}

function textsOf(issue: Issue): readonly string[] {
  return ((issue.values ?? []) as readonly unknown[]).filter((value) => typeof value === 'string');
}

/** Of the alternatives of a union, the one in which the value got furthest; the first of several. */
function branchOf(issue: Issue): readonly Issue[] {
  const branches = (issue.errors ?? []) as readonly (readonly Issue[])[];
  const depth = (branch: readonly Issue[]) => Math.max(0, ...branch.map(({ path }) => path?.length ?? 0));
  return branches.reduce((best, branch) => (depth(branch) > depth(best) ? branch : best), branches[0] ?? []);
}

/**
 * `expected options such as { timeoutMs }`: names the option that would accept the value; the first option where that
 * one is required, or none would accept it.
 */
function expectOptions(schema: unknown, value: unknown): string {
  const shape = shapeOf(schema) ?? {};
  const keys = Object.keys(shape);
  const takes = (key: string, given: unknown) => (shape[key] as z.ZodType).safeParse(given).success;
  const [first] = keys;
  const needed = first !== undefined && !takes(first, undefined);
  const isValue = value !== undefined && typeName(value) !== 'a Promise';
  const meant = needed || !isValue ? first : (keys.find((key) => takes(key, value)) ?? first);
  return meant === undefined ? 'expected an object' : `expected options such as { ${meant} }`;
}

function shapeOf(schema: unknown): Readonly<Record<string, unknown>> | undefined {
  return (schema as { _zod?: { def?: { shape?: Record<string, unknown> } } } | undefined)?._zod?.def?.shape;
}

/** Whether the schema refuses unknown keys: those of options do, those of records keep them. */
function isStrict(schema: unknown): boolean {
  const { catchall } = (schema as { _zod?: { def?: { catchall?: z.ZodType } } } | undefined)?._zod?.def ?? {};
  return catchall?._zod.def.type === 'never';
}

function plainKey(key: string): string {
  return /^[\w$<>[\]/@ -]{1,64}$/.test(key) ? key : show(key);
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | null | undefined)?.[key], input);
}
