/*
 * From a spec to the record it asks for. Everything that can be wrong with a spec is found here, before a slot is taken or a byte written.
 */
import { z } from 'zod';
import { BackgroundTaskError } from '../errors.js';
import { description, milliseconds, textOf } from '../task/fields.js';
import { assertTaskId } from '../task/id.js';
import { jsonBytes } from '../task/json.js';
import type { KindRuntime, SpecReader } from '../task/kind-runtime.js';
import { didYouMean } from '../task/nearest.js';
import { validate } from '../task/problems.js';
import { MAX_SPEC_BYTES } from '../task/record.js';
import { came, show } from '../task/show.js';
import type { Slot } from '../task/spec.js';
import type { JsonObject } from '../task/types.js';
import { checkDetails, jsonObject } from './json-input.js';
import { specReaderOf } from './work/sorts.js';

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
  description,
  taskId: z.string().optional(),
  timeoutMs: milliseconds.optional(),
  queueTimeoutMs: milliseconds.optional(),
  ttlMs: milliseconds.optional(),
  group: textOf(1, 256).optional(),
  idempotencyKey: textOf(1, 1024).optional(),
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

/** Fields whose values never appear in an error: they may hold secrets. */
const secretFields = ['env', 'input', 'metadata'];

/** Checks a spec against the kinds of this manager. Throws `INVALID_SPEC`, `UNKNOWN_KIND` or `INVALID_TASK_ID`. */
export function parseSpec(spec: unknown, kinds: ReadonlyMap<string, KindRuntime>): ParsedSpec {
  const kind = kindOf(spec, kinds);
  const reader = specReaderOf(kind);
  const data = check(schemaOf(reader), spec);
  if (data.taskId !== undefined) assertTaskId(data.taskId, 'taskId: ');
  refuseIdle(data);
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

/** Built once for each reader: building costs more than a whole registration. */
const schemas = new WeakMap<SpecReader, z.ZodObject<typeof common>>();

function schemaOf(reader: SpecReader): z.ZodObject<typeof common> {
  let schema = schemas.get(reader);
  if (!schema) {
    schema = z.strictObject({ ...common, ...(reader.fields as typeof common) });
    schemas.set(reader, schema);
  }
  return schema;
}

type CommonFields = z.infer<z.ZodObject<typeof common>>;

/**
 * Options that would change nothing were meant to change something. `queueTimeoutMs` always may: the next owner queues what was cut short
 * before it began, whatever this one does when it is full.
 */
function refuseIdle(spec: CommonFields): void {
  const detached = spec.detached ?? true;
  const idle = [
    detached && spec.signal && ['signal', 'expected detached: false beside it; a detached task is ended with stopTask'],
    detached && spec.detachOnTimeout && ['detachOnTimeout', 'expected detached: false beside it'],
    detached && spec.detachTimeoutMs !== undefined && ['detachTimeoutMs', 'expected detached: false beside it'],
    spec.detachOnTimeout && !spec.timeoutMs && ['detachOnTimeout', 'expected a timeoutMs beside it'],
  ].filter((problem) => Array.isArray(problem));
  if (idle.length === 0) return;
  const problems = idle.map(([name, expected]) => `${name}: would have no effect; ${expected}`);
  throw new BackgroundTaskError('INVALID_SPEC', problems.join('; '));
}

function kindOf(spec: unknown, kinds: ReadonlyMap<string, KindRuntime>): KindRuntime {
  if (typeof spec !== 'object' || spec === null || Array.isArray(spec) || spec instanceof Promise)
    throw new BackgroundTaskError('INVALID_SPEC', `expected a task spec, got ${came(spec)}`);
  const name = (spec as { kind?: unknown }).kind;
  const names = [...kinds.keys()];
  const known = `expected one of ${names.join(', ')}`;
  if (name === undefined) throw new BackgroundTaskError('INVALID_SPEC', `kind: is missing; ${known}`);
  if (typeof name !== 'string') throw new BackgroundTaskError('INVALID_SPEC', `kind: ${known}, got ${came(name)}`);
  const kind = kinds.get(name);
  if (kind) return kind;
  const meant = didYouMean(name, names) || '; open the manager with this kind';
  throw new BackgroundTaskError('UNKNOWN_KIND', `kind: ${known}, got ${show(name)}${meant}`);
}

function check(schema: z.ZodObject<typeof common>, spec: unknown): CommonFields {
  const { data, problem } = validate(schema, spec, secretFields);
  if (problem === undefined) return data;
  throw new BackgroundTaskError('INVALID_SPEC', problem);
}
