import { defineTaskKind, type SpecReader } from '../task/kind.js';
import type { JsonObject, StandardSchema } from '../task/types.js';
import { z } from 'zod';

const run = z.custom<(...args: never[]) => unknown>((value) => typeof value === 'function', 'expected a function');
const spec: SpecReader = { fields: { run }, read: (given: { run: unknown }) => ({ details: {}, input: given.run }) };

const definition = { name: 'function' as const, details: z.record(z.string(), z.json()) as unknown as StandardSchema<JsonObject>, spec };

/** Work inside the host, without details of its own. */
export const functionKind = defineTaskKind(definition);
