/* JSON that the host gives: for a spec, an update, a question. */
import { asError, BackgroundTaskError } from '../errors.js';
import { NotJsonError, toJson } from '../task/json.js';
import type { KindRuntime } from '../task/kind-runtime.js';
import { checkSchema, type SchemaVerdict } from '../task/schema.js';
import { typeName } from '../task/show.js';
import type { JsonObject, JsonValue, StandardSchema } from '../task/types.js';

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
    throw new BackgroundTaskError('INVALID_SPEC', `${at}: expected an object, got ${typeName(value)}`);
  }
  const json = jsonValue(value, at);
  if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json as JsonObject;
  throw new BackgroundTaskError('INVALID_SPEC', `${at}: expected an object, got ${typeName(value)}`);
}
