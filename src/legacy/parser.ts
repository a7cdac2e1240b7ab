/*
 * From any known shape to a record. Shapes are recognised first and validated whole after it, so that a record with one wrong field is
 * refused as what it is meant to be, with every problem named, and is never read as something else. Nothing here settles anything: a
 * task that its file calls running is running; whether it can be is for the manager to judge, see `isOrphanedLegacy`.
 */
import { BackgroundTaskError } from '../errors.js';
import { isPlainObject, toJson } from '../task/json.js';
import { inOneVoice } from '../task/problems.js';
import {
  assertJson,
  describeIssues,
  isCurrentShape,
  isSupported,
  parseCurrentRecord,
  RecordError,
  SCHEMA_VERSION,
  type TaskRecord,
} from '../task/record.js';
import { checkSchema } from '../task/schema.js';
import { came, show } from '../task/show.js';
import type { JsonObject, JsonValue, UnknownTask } from '../task/types.js';
import { claudeHooks } from './claude-hooks.js';
import type { BuiltInShape } from './fields.js';
import { hermesWebui } from './hermes-webui.js';
import { kimiCurrent } from './kimi-current.js';
import { kimiSnake } from './kimi-snake.js';
import { kubeCoder } from './kube-coder.js';
import type { LegacyShape } from './types.js';

/** Where a value comes from, below its directory: `<id>.json` or `<Folder>/task.json`. */
interface ParseContext {
  readonly fileName?: string | undefined;
}

const builtInShapes: readonly BuiltInShape[] = [kimiCurrent, kimiSnake, kubeCoder, hermesWebui, claudeHooks];

/** Of the fields of a shape, so many must be there for a value to be a bad record of it, rather than none. */
const NEARLY = 0.75;

/**
 * What makes a value a record of a shape, in this order: how much of the shape it has. The few fields of a claude-hooks row come late:
 * a kimi record with one wrong name may have them all. Its further columns may be called like fields of kube-coder, but not all of them.
 */
const recognition: readonly (readonly [BuiltInShape, share: number])[] = [
  [kimiCurrent, NEARLY],
  [hermesWebui, NEARLY],
  [kimiSnake, NEARLY],
  [kubeCoder, 1],
  [claudeHooks, 1],
  [kubeCoder, NEARLY],
  [claudeHooks, NEARLY],
];

/**
 * A reader of records in our own shape, in the host's `shapes` and in the built-in ones, in this order. Values are as JSON made them;
 * parts of them are frozen. The reader throws {@link RecordError} and nothing else.
 */
export function createParser(shapes: readonly LegacyShape[]): (value: unknown, context?: ParseContext) => TaskRecord {
  return (value, context = {}) => {
    if (!isPlainObject(value)) throw new RecordError(`expected a JSON object, got ${came(value)}`);
    const current = isCurrentShape(value);
    const record = current ? parseCurrentRecord(value) : parseLegacyRecord(value, shapes, context.fileName);
    checkName(record, context.fileName, current);
    return record;
  };
}

const parseKnown = createParser([]);

/**
 * Reads a record of any known shape, current or legacy, without touching any file: what is in the value decides, and no status is ever
 * guessed. `fileName` (`<id>.json` or `<Folder>/task.json`), where given, must match the id. The value is left as it is.
 * Throws `INVALID_SPEC` naming every problem.
 */
export function parseTaskRecord(value: unknown, context?: { fileName?: string | undefined }): UnknownTask {
  try {
    return parseKnown(toJson(value, 'record'), context) as unknown as UnknownTask;
  } catch (error) {
    // Also whatever a getter or a `toJSON` of the value throws.
    throw new BackgroundTaskError(
      'INVALID_SPEC',
      `not a task record: ${error instanceof Error ? error.message : `threw ${show(error)}`}`,
      { cause: error },
    );
  }
}

function parseLegacyRecord(
  value: JsonObject,
  shapes: readonly LegacyShape[],
  fileName: string | undefined,
): TaskRecord {
  assertJson(value);
  const tried: string[] = [];
  for (const shape of shapes) {
    const read = readHostShape(shape, value, fileName);
    if (read.record) return read.record;
    tried.push(`${shape.name} (${read.problem})`);
  }
  const shape = recognise(value);
  if (!shape)
    throw new RecordError(`of no known shape: not ${[...tried, ...builtInShapes.map(lackOf(value))].join(', not ')}`);
  const parsed = shape.schema().safeParse(value, inOneVoice);
  if (!parsed.success)
    throw new RecordError(`as a ${shape.name} record: ${describeIssues(parsed.error.issues, value)}`);
  return parseCurrentRecord(shape.toRecord(value));
}

/** Whatever the host's code throws becomes the reason why the record is refused. */
function readHostShape(
  shape: LegacyShape,
  value: JsonObject,
  fileName: string | undefined,
): { record: TaskRecord } | { record?: never; problem: string } {
  try {
    const verdict = checkSchema(shape.schema, value);
    if (!verdict.ok) return { problem: verdict.problem.slice(0, 200) };
    const answer = toJson(shape.toRecord(verdict.value, fileName === undefined ? {} : { fileName }), 'toRecord');
    if (!isPlainObject(answer)) throw new RecordError(`toRecord: expected an object, got ${came(answer)}`);
    return { record: parseCurrentRecord(withDefaults(answer, shape.name)) };
  } catch (error) {
    throw new RecordError(
      `as a ${shape.name} record: ${error instanceof Error ? error.message : `threw ${show(error)}`}`,
    );
  }
}

/** What a host's shape may leave out, and its id in lower case. */
function withDefaults(answer: JsonObject, system: string): JsonObject {
  const { taskId, startedAt = null, metadata = {}, schemaVersion = SCHEMA_VERSION } = answer;
  if (schemaVersion !== SCHEMA_VERSION) {
    throw new RecordError(`schemaVersion: expected ${SCHEMA_VERSION} or nothing, got ${show(schemaVersion)}`);
  }
  const id = typeof taskId === 'string' ? taskId.toLowerCase() : taskId;
  return {
    detached: true,
    endedAt: null,
    attempt: 1,
    owner: null,
    details: {},
    hooks: {},
    ...(startedAt !== null && { createdAt: startedAt }),
    ...answer,
    schemaVersion,
    startedAt,
    ...(id !== undefined && { taskId: id }),
    metadata: id === taskId ? metadata : withOriginalId(metadata, system, taskId as string),
  };
}

function withOriginalId(metadata: JsonValue, system: string, taskId: string): JsonValue {
  if (!isPlainObject(metadata)) return metadata;
  const own = Object.hasOwn(metadata, system) ? metadata[system] : {};
  return { ...metadata, [system]: isPlainObject(own) ? { taskId, ...own } : (own ?? null) };
}

/** The shape that a value is meant to be. */
function recognise(value: JsonObject): BuiltInShape | undefined {
  return recognition.find(([shape, needed]) => shareOf(shape, value) >= needed)?.[0];
}

/** How much of a shape a value has: its fields, and a status that it knows. */
function shareOf(shape: BuiltInShape, value: JsonObject): number {
  const found =
    shape.fields.filter((field) => Object.hasOwn(value, field)).length + (knowsStatus(shape, value) ? 1 : 0);
  return found / (shape.fields.length + 1);
}

function knowsStatus(shape: BuiltInShape, value: JsonObject): boolean {
  return Object.hasOwn(value, 'status') && shape.statuses.includes(value.status as string);
}

function lackOf(value: JsonObject): (shape: BuiltInShape) => string {
  return (shape) => {
    const missing = shape.fields.filter((field) => !Object.hasOwn(value, field));
    if (!knowsStatus(shape, value)) missing.push(`status as one of ${shape.statuses.join(', ')}`);
    return `${shape.name} (without ${missing.join(', ')})`;
  };
}

/** A record must be where its id says; a legacy one may be named in capitals. */
function checkName(record: TaskRecord, fileName: string | undefined, current: boolean): void {
  const given = fileName === undefined ? undefined : nameOf(fileName);
  if (given === undefined || record.taskId === (current ? given : given.toLowerCase())) return;
  throw new RecordError(
    `taskId: ${show(record.taskId)} is not what the file name says: ${show(fileName)}`,
    !isSupported(record),
  );
}

/** The id that a file name stands for; `task.json` alone stands for none. */
function nameOf(fileName: string): string | undefined {
  const [file = '', folder] = fileName.split(/[\\/]/).reverse();
  return file === 'task.json' ? folder : file.replace(/\.json$/, '');
}
