/*
 * What an idempotency key promises: the same registration again gives the task that is there. Another one under the same key is a mistake of
 * the caller's, and is told. The details of a task change while it works, so a digest of each, as it was registered, is on its record.
 */
import { createHash } from 'node:crypto';
import { BackgroundTaskError } from '../errors.js';
import type { TaskRecord } from '../task/record.js';
import { show } from '../task/show.js';
import type { JsonObject, JsonValue } from '../task/types.js';

/** Enough to tell two values apart that were not made to collide. */
const DIGEST_CHARACTERS = 22;

/** What is asked for under a key. */
export interface Registered {
  readonly kind: string;
  readonly details: JsonObject;
}

/** Follows from the host's environment as it is, which no retry has to repeat. */
const notCompared = ['envNames'];

/** A digest of each of the details that are compared; what is not known yet is `null`, and has none. */
export function digestsOf(details: JsonObject): Record<string, string> {
  const compared = Object.entries(details).filter(([name, value]) => value !== null && !notCompared.includes(name));
  return Object.fromEntries(compared.map(([name, value]) => [name, digestOf(value)]));
}

/** Throws `IDEMPOTENCY_CONFLICT`, saying what differs, where the task of this key was registered as something else. */
export function assertSame(key: string, task: TaskRecord, asked: Registered): void {
  const difference = task.kind === asked.kind ? differingDetails(task, asked.details) : differingKinds(task, asked);
  if (difference === undefined) return;
  throw new BackgroundTaskError(
    'IDEMPOTENCY_CONFLICT',
    `the idempotency key ${show(key)} belongs to the task "${task.taskId}", which was registered with ${difference}`,
    { taskId: task.taskId },
  );
}

function differingKinds(task: TaskRecord, asked: Registered): string {
  return `the kind "${task.kind}", and this registration has the kind "${asked.kind}"`;
}

/** Of a record without digests only the command can be compared: that never changes. */
function differingDetails(task: TaskRecord, asked: JsonObject): string | undefined {
  const registered = task.registeredDetails ?? onlyCommand(task.details);
  const wanted = digestsOf(task.registeredDetails ? asked : onlyCommand(asked));
  const digests = task.registeredDetails ? registered : digestsOf(registered as JsonObject);
  const names = new Set([...Object.keys(digests), ...Object.keys(wanted)]);
  const differing = [...names].filter((name) => digests[name] !== wanted[name]);
  if (differing.length === 0) return undefined;
  if (differing.includes('command') && task.kind === 'process') {
    return `the command ${JSON.stringify(task.details.command)}, and this registration has ${JSON.stringify(asked.command)}`;
  }
  return `other details: ${differing.join(', ')} ${differing.length === 1 ? 'differs' : 'differ'}`;
}

function onlyCommand({ command }: JsonObject): JsonObject {
  return command === undefined ? {} : { command };
}

function digestOf(value: JsonValue): string {
  return createHash('sha256').update(canonical(value)).digest('base64url').slice(0, DIGEST_CHARACTERS);
}

/** JSON with the keys of every object in one order. */
function canonical(value: JsonValue): string {
  return JSON.stringify(value, (_key, item: JsonValue) => {
    if (typeof item !== 'object' || item === null || Array.isArray(item)) return item;
    return Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
