import { z } from 'zod';
import type { Differences, None } from './same.js';
import type { ProcessDetails, StandardSchema } from './types.js';

const fields = {
  command: z.union([z.string(), z.array(z.string()).readonly()]),
  cwd: z.string().nullable(),
  pid: z.number().int().nullable(),
  exitCode: z.number().int().nullable(),
  signal: z.string().nullable(),
  envNames: z.array(z.string()).readonly().optional(),
  inheritEnv: z.literal(false).optional(),
};

/** A field that only the documented type has, or only the schema, is an error here that names it. */
type _SameFields = None<Differences<ProcessDetails, z.output<z.ZodObject<typeof fields>>>>;

/** The details of a process task. Loose: keys that this version does not know are kept. */
export const processDetails = z.looseObject(fields) as unknown as StandardSchema<ProcessDetails>;
