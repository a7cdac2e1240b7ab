import { asError, readText } from '../errors.js';
import { cutText } from './json.js';
import { MAX_TEXT_BYTES } from './record.js';
import type { TaskError } from './types.js';

const MAX_NAME_BYTES = 256;

/** A thrown value as it goes on record: whatever it is, and cut to what a record may hold. */
export function describeError(thrown: unknown): TaskError {
  const code = readText(thrown, 'code');
  return {
    name: cutText(readText(thrown, 'name') || 'Error', MAX_NAME_BYTES),
    message: cutText(readText(thrown, 'message') ?? asError(thrown).message, MAX_TEXT_BYTES),
    ...(code !== undefined && { code: cutText(code, MAX_NAME_BYTES) }),
  };
}
