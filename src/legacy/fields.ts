/*
 * What the built-in shapes share: the schemas of their fields, and how a value without a field of its own is kept. Schemas only judge; a
 * `toRecord` reads the value itself. An optional field may be null, which means the same as absent; so does a blank text.
 */
import { z } from 'zod';
import { isTaskId } from '../task/id.js';
import { SCHEMA_VERSION } from '../task/record.js';
import { isTerminalStatus } from '../task/status.js';
import type { JsonObject, JsonValue, TaskStatus } from '../task/types.js';
/** A shape that this package knows, with what it is recognised by. */
export interface BuiltInShape<Value = any> {
  readonly name: string;
  /** Built at the first call. */
  readonly schema: () => z.ZodType<Value>;
  /** The fields that every record of the shape has, `status` apart. */
  readonly fields: readonly string[];
  readonly statuses: readonly string[];
  toRecord(value: Value): JsonObject;
}

/**
 * Makes a value when it is first asked for. Schemas take milliseconds to build, and most hosts never meet a record of another system. The
 * modules themselves are loaded with the package: `parseTaskRecord` is synchronous, and a host whose package was replaced on disk while it
 * ran could not load them later.
 */
export function lazy<T extends object>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

export const fieldSchemas = lazy(() => ({
  /** Read in either case; the record's own is lower. */
  id: z
    .string()
    .refine(
      (value) => /^[\w-]*$/.test(value) && isTaskId(value.toLowerCase()),
      'expected an id of 1 to 64 letters and digits, in groups joined by a single - or _',
    ),
  time: z.number().nonnegative(),
  whole: z.number().int(),
  optionalText: z.string().nullish(),
  optionalTime: z.number().nonnegative().nullish(),
}));

/** Times below this are seconds: as milliseconds they would be before March 1973. */
const FIRST_MILLISECONDS = 1e11;

export function toMilliseconds(time: number): number {
  return time < FIRST_MILLISECONDS ? Math.round(time * 1000) : time;
}

/** The same, of a time that may be unknown. */
export function toMillisecondsOrNull(time: number | null | undefined): number | null {
  return typeof time === 'number' ? toMilliseconds(time) : null;
}

/** A problem for each of these fields that already has a value although the task runs: one of the two must be wrong. */
export function nullWhile<T extends z.ZodType>(schema: T, active: readonly string[], fields: readonly string[]): T {
  return fields.reduce(
    (checked, field) =>
      checked.refine(
        (value) => {
          const { status, [field]: end } = value as Record<string, unknown>;
          return end === undefined || end === null || !active.includes(status as string);
        },
        // Also where something else is wrong: every problem is named.
        { path: [field], error: 'expected null while the task runs', when: () => true },
      ),
    schema,
  );
}

/** The entries that say something: neither absent, nor null, nor a blank text. */
export function present<T extends Record<string, JsonValue | undefined>>(fields: T): JsonObject {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => saysSomething(value))) as JsonObject;
}

function saysSomething(value: JsonValue | undefined): boolean {
  return value !== undefined && value !== null && !(typeof value === 'string' && value.trim() === '');
}

/** What is left of a value, but for secrets and for `optional` fields that say nothing. */
export function remains(rest: object, optional: readonly string[]): JsonObject {
  const kept = Object.entries(rest as JsonObject).filter(
    ([key, value]) => !/secret$/i.test(key) && (saysSomething(value) || !optional.includes(key)),
  );
  // Defines each key, so that one named `__proto__` stays a key.
  return Object.fromEntries(kept);
}

/** What a shape found in a value. */
interface Found {
  readonly taskId: string;
  /** What the shape calls its id. */
  readonly idField: 'taskId' | 'task_id';
  readonly kind: string;
  readonly description: string;
  readonly status: TaskStatus;
  readonly startedAt: number;
  readonly endedAt: number | null;
  /** Further fields of the record. */
  readonly fields?: JsonObject;
  readonly details?: JsonObject;
  readonly hooks?: JsonObject;
  /** What has no field of its own. */
  readonly remains: JsonObject;
}

/** The record of a task of the system called `system`. Where it never said when the task was created, that is its start. */
export function recordOf(system: string, found: Found): JsonObject {
  const taskId = found.taskId.toLowerCase();
  const own = { ...(taskId !== found.taskId && { [found.idField]: found.taskId }), ...found.remains };
  return {
    schemaVersion: SCHEMA_VERSION,
    taskId,
    kind: found.kind,
    description: found.description,
    status: found.status,
    detached: true,
    createdAt: found.startedAt,
    startedAt: found.startedAt,
    endedAt: found.endedAt,
    attempt: 1,
    owner: null,
    ...found.fields,
    details: found.details ?? {},
    metadata: Object.keys(own).length > 0 ? { [system]: own } : {},
    hooks: found.hooks ?? {},
  };
}

/**
 * What a task that was active when its host went away keeps of it: the status that the host had recorded. It stays with the task through
 * every rewrite, and tells `isOrphanedLegacy` that nobody can know any more how it goes.
 */
export function lastStatus(status: TaskStatus, recorded: string): JsonObject {
  return isTerminalStatus(status) ? {} : { status: recorded };
}
