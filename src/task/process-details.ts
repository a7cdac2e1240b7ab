import { z } from 'zod';
import type { ProcessDetails, StandardSchema } from './types.js';

/** The details of a process task. Loose: keys that this version does not know are kept. */
export const processDetails = z.looseObject({
  command: z.union([z.string(), z.array(z.string()).readonly()]),
  cwd: z.string().nullable(),
  pid: z.number().int().nullable(),
  exitCode: z.number().int().nullable(),
  signal: z.string().nullable(),
  envNames: z.array(z.string()).readonly().optional(),
  inheritEnv: z.literal(false).optional(),
}) as unknown as StandardSchema<ProcessDetails>;
