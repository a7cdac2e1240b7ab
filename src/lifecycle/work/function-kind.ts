import { z } from 'zod';
import { defineTaskKind } from '../../task/define-kind.js';
import type { SpecReader } from '../../task/kind-runtime.js';
import type { JsonObject, StandardSchema } from '../../task/types.js';
import { type InProcessFields, inProcessFields, readInProcess } from './in-process-spec.js';

const spec: SpecReader = {
  fields: inProcessFields,
  read: (given: InProcessFields) => ({ details: {}, ...readInProcess(given) }),
};

const definition = {
  name: 'function' as const,
  details: z.record(z.string(), z.json()) as unknown as StandardSchema<JsonObject>,
  spec,
};

/** Work inside the host, without details of its own. */
export const functionKind = defineTaskKind(definition);
