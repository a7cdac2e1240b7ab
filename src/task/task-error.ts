import { asError, readText } from '../errors.js';
import { cutText } from './json.js';
import { MAX_TEXT_BYTES } from './record.js';
import type { TaskError } from './types.js';

const MAX_NAME_BYTES = 256;

/** A thrown value of any type as a record holds it, cut to the limits of a record. */
export function describeError(thrown: unknown): TaskError {
  const code = readText(thrown, 'code');
  return {
    name: cutText(readText(thrown, 'name') || 'Error', MAX_NAME_BYTES),
    message: cutText(readText(thrown, 'message') ?? asError(thrown).message, MAX_TEXT_BYTES),
    ...(code !== undefined && { code: cutText(code, MAX_NAME_BYTES) }),
  };
}
