/*
 * The record of a task: the content of its file and, frozen, what the API returns. Keys that this version does not know
 * are kept through every rewrite: a schema here only checks a value, and what is returned is the value itself, never
 * the schema's copy. `open` may read fifty thousand records, so a valid one is checked once and nothing is built for
 * it.
 */
import { z } from 'zod';
import { asError } from '../errors.js';
import { MAX_ID_LENGTH, namePattern } from './id.js';
import { cutText, deepFreeze, findNotJson, isPlainObject } from './json.js';
import { migrate } from './migrations.js';
import { describeProblems, inOneVoice } from './problems.js';
import type { Differences, None } from './same.js';
import { came, show } from './show.js';
import { hookStates, stopCauses, taskStatuses } from './status.js';
import type { JsonObject, JsonValue, OwedDelivery, TaskOf } from './types.js';

export const SCHEMA_VERSION = 1;
/** A larger record file is rejected, so a larger one is never written. */
export const MAX_RECORD_BYTES = 1024 * 1024;
/** The largest spec, so that an outcome always fits beside it. */
export const MAX_SPEC_BYTES = 512 * 1024;
/** The largest result in a record, so that no record outgrows its limit. */
export const MAX_RESULT_BYTES = 262_144;

/** Texts of errors and reasons are cut here. */
export const MAX_TEXT_BYTES = 8 * 1024;
/** The record on disk, as an immutable value. `kind` is a plain name here; the public types narrow it. */
export interface TaskRecord extends TaskOf<string, JsonObject> {
  /** The version of this shape: 1. */
  readonly schemaVersion: number;
  /** Milliseconds from `createdAt` until the task, if it is still queued, is `timed_out`. Absent or 0: no limit. */
  readonly queueTimeoutMs?: number;
  /** Of a process: the task is stopped when its output is larger. Absent: the `maxOutputBytes` of the manager. */
  readonly maxOutputBytes?: number;
  /** Of a foreground task: its deadline detaches it instead of ending it. */
  readonly detachOnTimeout?: boolean;
  /** The deadline from the moment of detaching, in milliseconds. */
  readonly detachTimeoutMs?: number;
  /**
   * It was registered in the foreground, under `countsTowardsLimit: 'registered-detached'`: it takes no slot in the
   * background either.
   */
  readonly takesNoSlot?: true;
  /** The spec had an `input` for `start`, which is on no record: a later owner needs another one to launch the task. */
  readonly hasInput?: true;
  /**
   * Of a task with an idempotency key: a digest of each detail as it was registered. It does not change when the
   * details do.
   */
  readonly registeredDetails?: { readonly [detail: string]: string };
}

const optional = <T extends z.ZodType>(schema: T) => schema.exactOptional();
const time = z.number().nonnegative();
/** Any object: whether its content is JSON is checked for the record as a whole. */
const objectOf = <T extends object>() => z.custom<T>(isPlainObject, 'expected an object');
const json = z.custom<JsonValue>((value) => value !== undefined, 'expected a JSON value');

const error = z.object({ name: z.string(), message: z.string(), code: optional(z.string()) });

const owed = z.object({
  state: z.enum(hookStates),
  attempts: z.number().int().nonnegative(),
  lastError: optional(error),
  nextAttemptAt: optional(time),
  deliveredAt: optional(time),
});

/** Not `z.record`, which passes over a key named `__proto__`. */
const hooks = objectOf<TaskRecord['hooks']>().superRefine((value, context) => {
  if (!isPlainObject(value)) return;
  for (const [name, delivery] of Object.entries(value)) {
    const parsed = owed.safeParse(delivery, inOneVoice);
    for (const issue of parsed.error?.issues ?? []) {
      context.addIssue({ ...issue, path: [name, ...issue.path] } as never);
    }
  }
});

const owner = z.object({
  instanceId: z.string(),
  hostname: z.string(),
  bootId: z.string(),
  pidNamespace: z.string(),
  pid: z.number().int().positive(),
  startTicks: z.string(),
});

const schema = z.object({
  schemaVersion: z.literal(SCHEMA_VERSION),
  taskId: z.string().max(MAX_ID_LENGTH).regex(namePattern),
  kind: z.string().min(1),
  description: z.string(),
  status: z.enum(taskStatuses),
  detached: z.boolean(),
  createdAt: time,
  startedAt: time.nullable(),
  endedAt: time.nullable(),
  timeoutMs: optional(time),
  deadlineAt: optional(time),
  queueTimeoutMs: optional(time),
  ttlMs: optional(time),
  group: optional(z.string()),
  idempotencyKey: optional(z.string()),
  attempt: z.number().int().positive(),
  revision: optional(z.number().int().nonnegative()),
  updatedAt: optional(time),
  maxOutputBytes: optional(z.number().nonnegative()),
  detachOnTimeout: optional(z.boolean()),
  detachTimeoutMs: optional(time),
  takesNoSlot: optional(z.literal(true)),
  hasInput: optional(z.literal(true)),
  registeredDetails: optional(objectOf<NonNullable<TaskRecord['registeredDetails']>>()),
  owner: owner.nullable(),
  stop: optional(z.object({ cause: z.enum(stopCauses), reason: optional(z.string()), requestedAt: time })),
  stopReason: optional(z.string()),
  progress: optional(
    z.object({
      message: optional(z.string()),
      current: optional(z.number()),
      total: optional(z.number()),
      updatedAt: time,
    }),
  ),
  waitingFor: optional(z.object({ prompt: z.string(), data: optional(json), requestedAt: time })),
  lastInput: optional(z.object({ prompt: z.string(), value: json, answeredAt: time })),
  error: optional(error),
  result: optional(json),
  details: objectOf<JsonObject>(),
  metadata: objectOf<JsonObject>(),
  hooks,
});

/** Records that earlier versions and other systems wrote have neither revision nor time of writing. */
type StoredRecord = Omit<TaskRecord, 'revision' | 'updatedAt'> & Partial<Pick<TaskRecord, 'revision' | 'updatedAt'>>;

/** A field that only the documented type has, or only the schema, is an error here that names it. */
type _SameFields = None<
  Differences<Omit<StoredRecord, 'schemaVersion'>, Omit<z.output<typeof schema>, 'schemaVersion'>>
>;
type _SameFieldsOfHooks = None<Differences<OwedDelivery, z.output<typeof owed>>>;

/** What must be readable of a record of a newer version for it to be listed. */
const newer = z.object({
  schemaVersion: z.number().int().gt(SCHEMA_VERSION),
  taskId: schema.shape.taskId,
  kind: schema.shape.kind,
  status: schema.shape.status,
});

/** The fields of a type without its optional ones. */
type RequiredFields<T> = { [K in keyof T as object extends Pick<T, K> ? never : K]: T[K] };

/** Every other field that a record must have, with what stands for it where a newer version's cannot be read. */
const fallbacks: Omit<RequiredFields<StoredRecord>, keyof z.output<typeof newer>> = {
  description: '',
  detached: true,
  createdAt: 0,
  startedAt: null,
  endedAt: null,
  attempt: 1,
  owner: null,
  details: {},
  metadata: {},
  hooks: {},
};

/** A value is not a record: the message names every problem. */
export class RecordError extends Error {
  override readonly name = 'RecordError';
  /** Whether a newer version wrote it: then it is left where it is. */
  readonly newer: boolean;
  constructor(message: string, newerVersion = false) {
    super(message);
    this.newer = newerVersion;
  }
}

/** Whether the value claims to be one of our own records, of any version. */
export function isCurrentShape(value: unknown): value is { schemaVersion: unknown } {
  return isPlainObject(value) && Object.hasOwn(value, 'schemaVersion');
}

/** Whether this version may write the record back. */
export function isSupported(record: TaskRecord): boolean {
  return record.schemaVersion <= SCHEMA_VERSION;
}

/** Checks one of our own records whole and returns it, frozen in place. Throws {@link RecordError}. */
export function parseCurrentRecord(value: unknown): TaskRecord {
  if (!isPlainObject(value)) throw new RecordError(`expected a JSON object, got ${came(value)}`);
  const version = value.schemaVersion;
  if (typeof version === 'number' && version > SCHEMA_VERSION) return parseNewerRecord(value);
  assertJson(value);
  const record = version === SCHEMA_VERSION ? value : migrated(value);
  const parsed = schema.safeParse(record, inOneVoice);
  if (!parsed.success) throw new RecordError(describeIssues(parsed.error.issues, record));
  return deepFreeze(withRevision(record as unknown as StoredRecord));
}

function withRevision(record: StoredRecord): TaskRecord {
  const { revision, updatedAt, endedAt, startedAt, createdAt } = record;
  if (revision !== undefined && updatedAt !== undefined) return record as TaskRecord;
  return { ...record, revision: revision ?? 0, updatedAt: updatedAt ?? endedAt ?? startedAt ?? createdAt };
}

/** The record as its next write puts it on disk. */
export function nextRevision(record: TaskRecord, now: number): TaskRecord {
  return { ...record, revision: record.revision + 1, updatedAt: now };
}

/** A migration reads a value that was not validated yet: where it throws, the record is at fault. */
function migrated(value: JsonObject): JsonObject {
  try {
    return migrate(value, SCHEMA_VERSION);
  } catch (error) {
    throw new RecordError(
      `of schemaVersion ${show(value.schemaVersion)}, and cannot be migrated: ${asError(error).message}`,
    );
  }
}

/** A record of a newer version: its known fields as far as they can be read, everything else as it stands. */
function parseNewerRecord(value: JsonObject): TaskRecord {
  assertJson(value, true);
  const parsed = newer.safeParse(value, inOneVoice);
  if (!parsed.success) {
    throw new RecordError(`written by a newer version, and ${describeIssues(parsed.error.issues, value)}`, true);
  }
  const readable: Record<string, unknown> = { ...value };
  for (const [key, field] of Object.entries(schema.shape)) {
    if (key === 'schemaVersion' || !Object.hasOwn(readable, key)) continue;
    if (!(field as z.ZodType).safeParse(readable[key]).success) delete readable[key];
  }
  return deepFreeze(withRevision({ ...fallbacks, ...readable } as TaskRecord));
}

/**
 * Throws {@link RecordError} for a value that JSON would lose or change, or that is nested too deeply to be written
 * back.
 */
export function assertJson(value: unknown, newerVersion = false): void {
  const found = findNotJson(value);
  if (found)
    throw new RecordError(`${found.path.slice(-8).reverse().join('.') || 'value'}: ${found.problem}`, newerVersion);
}

/** Every problem, cut to what a text may have. */
export function describeIssues(issues: readonly z.core.$ZodIssue[], input: unknown): string {
  return cutText(describeProblems(issues, input), MAX_TEXT_BYTES);
}
