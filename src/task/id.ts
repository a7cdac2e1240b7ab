import { randomInt } from 'node:crypto';
import { BackgroundTaskError } from '../errors.js';
import { came, textOrType } from './show.js';

/** The pattern of an id: safe as a file name on every system, and never a path. */
export const namePattern = /^[a-z0-9]+(?:[-_][a-z0-9]+)*$/;
export const MAX_ID_LENGTH = 64;

const alphabet = '0123456789abcdefghijklmnopqrstuvwxyz';

export function isTaskId(value: unknown): value is string {
  return typeof value === 'string' && value.length <= MAX_ID_LENGTH && namePattern.test(value);
}

/** Called before any path is built from an id. Throws `INVALID_TASK_ID`. */
export function assertTaskId(value: unknown, at = ''): asserts value is string {
  if (isTaskId(value)) return;
  throw new BackgroundTaskError(
    'INVALID_TASK_ID',
    `${at}expected a task id of 1 to ${MAX_ID_LENGTH} characters matching ${namePattern.source}, got ${textOrType(value)}`,
  );
}

/** The id of a task that is given as its id or as a snapshot of it. Throws `INVALID_TASK_ID`. */
export function taskIdOf(task: unknown): string {
  const isObject = typeof task === 'object' && task !== null;
  const id = isObject ? (task as { taskId?: unknown }).taskId : task;
  if (isObject && typeof id !== 'string') {
    throw new BackgroundTaskError('INVALID_TASK_ID', `expected a task or its id, got ${came(task)} without a taskId`);
  }
  assertTaskId(id);
  return id;
}

/** `<prefix>-<8 of 0-9a-z>`. */
export function newTaskId(prefix: string): string {
  let id = `${prefix}-`;
  for (let i = 0; i < 8; i++) id += alphabet[randomInt(alphabet.length)];
  return id;
}
