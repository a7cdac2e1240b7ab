import type { JsonObject, StandardSchema } from '../task/types.js';

/**
 * A record shape of another system, for `open({ legacyShapes })`: how to recognise its records and what they mean as tasks of this
 * package. Records are read in place and rewritten in the current shape only when their task next changes.
 */
export interface LegacyShape<Value = any> {
  /** For messages. An id that had to be lower-cased is kept in the task's metadata under this name. */
  readonly name: string;
  /**
   * Recognises the shape: the first shape whose schema accepts a value is the one that reads it, so it must refuse every other shape.
   * Synchronous and without transforms. Throwing (instead of answering with issues) rejects the record.
   */
  readonly schema: StandardSchema<Value>;
  /**
   * The value as a record in the current shape, with every time in milliseconds. At least `taskId`, `kind`, `description`, `status` and
   * `createdAt` or `startedAt`; what else is absent gets its default (`owner: null`, `detached: true`, no details, metadata or hooks).
   * Must be pure. The answer is checked whole; throwing rejects the record, with the error's message as the reason.
   */
  toRecord(value: Value, context: { fileName?: string }): JsonObject;
}
