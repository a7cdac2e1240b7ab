import { z } from 'zod';
import { defineTaskKind } from '../../task/define-kind.js';
import { callable } from '../../task/fields.js';
import type { SpecReader } from '../../task/kind-runtime.js';
import type { JsonObject, StandardSchema } from '../../task/types.js';

const spec: SpecReader = {
  fields: { run: callable },
  read: (given: { run: unknown }) => ({ details: {}, input: given.run }),
};

const definition = {
  name: 'function' as const,
  details: z.record(z.string(), z.json()) as unknown as StandardSchema<JsonObject>,
  spec,
};

/** Work inside the host, without details of its own. */
export const functionKind = defineTaskKind(definition);
