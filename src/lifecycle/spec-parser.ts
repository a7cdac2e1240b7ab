/*
 * From a spec to the record it asks for. Everything that can be wrong with a spec is found here, before a slot is taken or a byte written.
 */
import { z } from 'zod';
import { asError, BackgroundTaskError } from '../errors.js';
import { callable, milliseconds } from '../task/fields.js';
import { MAX_ID_LENGTH, namePattern } from '../task/id.js';
import { jsonBytes, NotJsonError, toJson } from '../task/json.js';
import type { KindRuntime, SpecReader } from '../task/kind.js';
import { describeProblems, show } from '../task/problems.js';
import { MAX_SPEC_BYTES } from '../task/record.js';
import { checkSchema, type SchemaVerdict } from '../task/schema.js';
import type { Slot } from '../task/spec.js';
import type { JsonObject, JsonValue, StandardSchema } from '../task/types.js';

/** A checked spec: what goes on record, and what is only held in memory. */
export interface ParsedSpec {
  readonly kind: KindRuntime;
  readonly taskId: string | undefined;
  readonly description: string;
  readonly timeoutMs: number;
  readonly queueTimeoutMs: number;
  readonly ttlMs: number | undefined;
  readonly group: string | undefined;
  readonly idempotencyKey: string | undefined;
  readonly metadata: JsonObject;
  readonly hooks: readonly string[] | undefined;
  readonly slot: Slot | undefined;
  readonly whenFull: 'reject' | 'queue' | undefined;
  readonly detached: boolean;
  readonly signal: AbortSignal | undefined;
  readonly detachTimeoutMs: number | undefined;
  readonly detachOnTimeout: boolean;
  readonly maxOutputBytes?: number | undefined;
  readonly details: JsonObject;
  /** `run` of in-process work, or the input of `start`. Never recorded. */
  readonly input: unknown;
}

const common = {
  kind: z.string(),
  description: z.string(),
  taskId: z.string().optional(),
  timeoutMs: milliseconds.optional(),
  queueTimeoutMs: milliseconds.optional(),
  ttlMs: milliseconds.optional(),
  group: z.string().min(1).max(256).optional(),
  idempotencyKey: z.string().min(1).max(1024).optional(),
  metadata: z.unknown().optional(),
  hooks: z.array(z.string()).readonly().optional(),
  slot: z
    .custom<Slot>(
      (value) => value === undefined || (typeof value === 'object' && value !== null),
      'expected a slot from reserveSlot',
    )
    .optional(),
  whenFull: z.enum(['reject', 'queue']).optional(),
  detached: z.boolean().optional(),
  signal: z.instanceof(AbortSignal).optional(),
  detachTimeoutMs: milliseconds.optional(),
  detachOnTimeout: z.boolean().optional(),
};

const inProcess: SpecReader = {
  fields: { details: z.unknown().optional(), run: callable },
  read: ({ details, run }) => ({ details, input: run }),
};
const outlivesHost: SpecReader = {
  fields: { details: z.unknown().optional(), input: z.unknown().optional() },
  read: ({ details, input }) => ({ details, input }),
};

/** Fields whose values never appear in an error: they may hold secrets. */
const secretFields = ['env', 'input', 'metadata'];

/** Checks a spec against the kinds of this manager. Throws `INVALID_SPEC`, `UNKNOWN_KIND` or `INVALID_TASK_ID`. */
export function parseSpec(spec: unknown, kinds: ReadonlyMap<string, KindRuntime>): ParsedSpec {
  const kind = kindOf(spec, kinds);
  const reader = kind.spec ?? (kind.start ? outlivesHost : inProcess);
  const data = check(z.strictObject({ ...common, ...(reader.fields as z.ZodRawShape) }), spec);
  if (typeof data.taskId === 'string' && !(data.taskId.length <= MAX_ID_LENGTH && namePattern.test(data.taskId))) {
    throw new BackgroundTaskError(
      'INVALID_TASK_ID',
      `taskId: expected 1 to ${MAX_ID_LENGTH} characters matching ${namePattern.source}, got ${show(data.taskId)}`,
    );
  }
  const own = reader.read(data);
  const parsed: ParsedSpec = {
    kind,
    taskId: data.taskId,
    description: data.description,
    timeoutMs: data.timeoutMs ?? 0,
    queueTimeoutMs: data.queueTimeoutMs ?? 0,
    ttlMs: data.ttlMs,
    group: data.group,
    idempotencyKey: data.idempotencyKey,
    metadata: jsonObject(data.metadata ?? {}, 'metadata'),
    hooks: data.hooks,
    slot: data.slot,
    whenFull: data.whenFull,
    detached: data.detached ?? true,
    signal: data.signal,
    detachTimeoutMs: data.detachTimeoutMs,
    detachOnTimeout: data.detachOnTimeout ?? false,
    ...own,
    details: checkDetails(kind, own.details),
  };
  const bytes = jsonBytes({ ...parsed, kind: kind.name, input: undefined, slot: undefined, signal: undefined });
  if (bytes > MAX_SPEC_BYTES) {
    throw new BackgroundTaskError(
      'INVALID_SPEC',
      `expected a spec of at most ${MAX_SPEC_BYTES} bytes of JSON, got ${bytes}`,
    );
  }
  return parsed;
}

function kindOf(spec: unknown, kinds: ReadonlyMap<string, KindRuntime>): KindRuntime {
  if (typeof spec !== 'object' || spec === null)
    throw new BackgroundTaskError('INVALID_SPEC', `expected a task spec, got ${show(spec)}`);
  const name = (spec as { kind?: unknown }).kind;
  if (typeof name !== 'string')
    throw new BackgroundTaskError('INVALID_SPEC', `kind: expected the name of a kind, got ${show(name)}`);
  const kind = kinds.get(name);
  if (kind) return kind;
  throw new BackgroundTaskError(
    'UNKNOWN_KIND',
    `kind: expected one of ${[...kinds.keys()].join(', ')}, got ${show(name)}; open the manager with this kind`,
  );
}

function check(schema: z.ZodType, spec: unknown): z.infer<z.ZodObject<typeof common>> {
  const parsed = schema.safeParse(spec);
  if (parsed.success) return parsed.data as z.infer<z.ZodObject<typeof common>>;
  throw new BackgroundTaskError('INVALID_SPEC', describeProblems(parsed.error.issues, spec, secretFields));
}

/** Details as they go on record: JSON that satisfies the kind's schema. Throws `INVALID_SPEC`. */
export function checkDetails(kind: KindRuntime, details: unknown): JsonObject {
  const verdict = checkSpec(kind.details, details);
  if (!verdict.ok) throw new BackgroundTaskError('INVALID_SPEC', `details: ${verdict.problem}`);
  return jsonObject(verdict.value, 'details');
}

function checkSpec(schema: StandardSchema, value: unknown): SchemaVerdict {
  try {
    return checkSchema(schema, value);
  } catch (error) {
    const { message } = asError(error);
    throw new BackgroundTaskError('INVALID_SPEC', `details: the schema threw: ${message}`, { cause: error });
  }
}

/** A deep copy of JSON. Throws `INVALID_SPEC` naming the first place that is not JSON. */
export function jsonValue(value: unknown, at: string): JsonValue {
  try {
    return toJson(value, at);
  } catch (error) {
    if (error instanceof NotJsonError) throw new BackgroundTaskError('INVALID_SPEC', error.message, { cause: error });
    throw error;
  }
}

/** A deep copy of a JSON object. Throws `INVALID_SPEC` naming the first place that is not JSON. */
export function jsonObject(value: unknown, at: string): JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new BackgroundTaskError('INVALID_SPEC', `${at}: expected an object, got ${show(value)}`);
  }
  const json = jsonValue(value, at);
  if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json as JsonObject;
  throw new BackgroundTaskError('INVALID_SPEC', `${at}: expected an object, got ${show(value)}`);
}
