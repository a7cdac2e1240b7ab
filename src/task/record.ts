/*
 * The record: what is on disk for each task, and, frozen, what the API hands out. Objects are loose: keys that this version does not know
 * are kept through every rewrite.
 */
import { z } from 'zod';
import { MAX_ID_LENGTH, namePattern } from './id.js';
import { deepFreeze } from './json.js';
import { hookStates, stopCauses, taskStatuses } from './status.js';
import type { JsonObject, TaskOf } from './types.js';

export const SCHEMA_VERSION = 1;
/** A record file beyond this is rejected, so nothing beyond it is ever written. */
export const MAX_RECORD_BYTES = 1024 * 1024;
/** What a spec may take, so that an outcome always fits beside it. */
export const MAX_SPEC_BYTES = 512 * 1024;
/** Texts of errors and reasons are cut here. */
export const MAX_TEXT_BYTES = 8 * 1024;

/** The record of DESIGN section 2, as an immutable value. `kind` is a plain name here; the public types narrow it. */
export interface TaskRecord extends TaskOf<string, JsonObject> {
  readonly schemaVersion: number;
  readonly queueTimeoutMs?: number;
  readonly maxOutputBytes?: number;
  readonly detachOnTimeout?: boolean;
  readonly detachTimeoutMs?: number;
}

const time = z.number().finite().nonnegative();
const json: z.ZodType<JsonObject> = z.record(z.string(), z.json()) as never;
const optional = <T extends z.ZodType>(schema: T) => schema.exactOptional();

const error = z.looseObject({ name: z.string(), message: z.string(), code: optional(z.string()) });

const owed = z.looseObject({
  state: z.enum(hookStates),
  attempts: z.number().int().nonnegative(),
  lastError: optional(error),
  nextAttemptAt: optional(time),
  deliveredAt: optional(time),
});

const owner = z.looseObject({
  instanceId: z.string(),
  hostname: z.string(),
  bootId: z.string(),
  pidNamespace: z.string(),
  pid: z.number().int().positive(),
  startTicks: z.string(),
});

const base = z.looseObject({
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
  group: optional(z.string()),
  idempotencyKey: optional(z.string()),
  attempt: z.number().int().positive(),
  maxOutputBytes: optional(z.number().nonnegative()),
  detachOnTimeout: optional(z.boolean()),
  detachTimeoutMs: optional(time),
  owner: owner.nullable(),
  stop: optional(z.looseObject({ cause: z.enum(stopCauses), reason: optional(z.string()), requestedAt: time })),
  stopReason: optional(z.string()),
  progress: optional(
    z.looseObject({
      message: optional(z.string()),
      current: optional(z.number()),
      total: optional(z.number()),
      updatedAt: time,
    }),
  ),
  waitingFor: optional(z.looseObject({ prompt: z.string(), data: optional(z.json()), requestedAt: time })),
  lastInput: optional(z.looseObject({ prompt: z.string(), value: z.json(), answeredAt: time })),
  error: optional(error),
  result: optional(z.json()),
  details: json,
  metadata: json,
  hooks: z.record(z.string(), owed),
});

/** What must be readable of a record from a newer version, for it to be listed at all. */
const newer = z.looseObject({
  schemaVersion: z.number().int().gt(SCHEMA_VERSION),
  taskId: base.shape.taskId,
  kind: base.shape.kind,
  status: base.shape.status,
});

/** Thrown where a value is no record: the message names every problem. */
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
  return typeof value === 'object' && value !== null && 'schemaVersion' in value;
}

/** Whether this version may write the record back. */
export function isSupported(record: TaskRecord): boolean {
  return record.schemaVersion <= SCHEMA_VERSION;
}

/** Checks one of our own records whole and returns it frozen. Throws {@link RecordError}. */
export function parseCurrentRecord(value: unknown): TaskRecord {
  const version = (value as { schemaVersion?: unknown }).schemaVersion;
  if (typeof version === 'number' && version > SCHEMA_VERSION) return parseNewerRecord(value);
  const parsed = base.safeParse(value);
  if (!parsed.success) throw new RecordError(describeIssues(parsed.error.issues));
  return deepFreeze(value as TaskRecord);
}

/** A record of a newer version: its known fields as far as they can be read, everything else as it stands. */
function parseNewerRecord(value: unknown): TaskRecord {
  const parsed = newer.safeParse(value);
  if (!parsed.success) {
    throw new RecordError(`written by a newer version, and ${describeIssues(parsed.error.issues)}`, true);
  }
  const readable: Record<string, unknown> = { ...parsed.data };
  for (const [key, schema] of Object.entries(base.shape)) {
    if (key === 'schemaVersion' || !(key in readable)) continue;
    if (!(schema as z.ZodType).safeParse(readable[key]).success) delete readable[key];
  }
  return deepFreeze({ ...fallbacks(), ...readable } as TaskRecord);
}

const fallbacks = () => ({
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
});

/** `path: problem; path: problem`, for people. */
export function describeIssues(issues: readonly z.core.$ZodIssue[]): string {
  return issues.map((issue) => `${issue.path.join('.') || 'value'}: ${issue.message}`).join('; ');
}
