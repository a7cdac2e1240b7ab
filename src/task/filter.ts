import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { BackgroundTaskError } from '../errors.js';
import { validate } from './problems.js';
import type { TaskRecord } from './record.js';
import type { Differences, None } from './same.js';
import { isTerminalStatus, type TaskStatus, taskStatuses } from './status.js';

/** Selects tasks: all given conditions must hold. */
export interface TaskFilter<N extends string = string> {
  /** One status, or any of several. */
  status?: TaskStatus | readonly TaskStatus[] | undefined;
  /** `true`: queued, running and waiting tasks; `false`: ended ones. */
  active?: boolean | undefined;
  /** One kind, or any of several. */
  kind?: N | readonly N[] | undefined;
  /** The group that the task was registered with. */
  group?: string | undefined;
  /** Each of these keys of the task's metadata has this value. */
  metadata?: object | undefined;
  /** Foreground tasks are left out unless this is `true`. */
  includeForeground?: boolean | undefined;
}

const oneOrMore = <T extends z.ZodType>(item: T) => z.union([item, z.array(item).readonly()]);

export const filterFields = {
  status: oneOrMore(z.enum(taskStatuses)).optional(),
  active: z.boolean().optional(),
  kind: oneOrMore(z.string()).optional(),
  group: z.string().optional(),
  metadata: z
    .custom<object>(
      (value) => value === undefined || (typeof value === 'object' && value !== null && !Array.isArray(value)),
      'expected an object',
    )
    .optional(),
  includeForeground: z.boolean().optional(),
};

/** A condition that only the documented type has, or only the schema, is an error here that names it. */
type _SameConditions = None<Differences<TaskFilter, z.input<z.ZodObject<typeof filterFields>>>>;

/**
 * Checks the options of a call against its schema; absent options are `{}`. Throws `INVALID_SPEC` naming every problem.
 */
export function checkOptions<S extends z.ZodObject>(schema: S, options: unknown, call: string): z.infer<S> {
  const { data, problem } = validate(schema, options === undefined ? {} : options, ['metadata']);
  if (problem === undefined) return data as z.infer<S>;
  throw new BackgroundTaskError('INVALID_SPEC', `${call}: ${problem}`);
}

/** For calls that act on all tasks: foreground tasks are included unless the filter says otherwise. */
export function withForeground(filter: TaskFilter = {}): TaskFilter {
  return { ...filter, includeForeground: filter.includeForeground ?? true };
}

/** The filter as a test on records. */
export function compileFilter(filter: TaskFilter = {}): (record: TaskRecord) => boolean {
  const statuses = filter.status === undefined ? undefined : new Set([filter.status].flat() as TaskStatus[]);
  const kinds = filter.kind === undefined ? undefined : new Set([filter.kind].flat() as string[]);
  const wanted = Object.entries(filter.metadata ?? {}).filter(([, value]) => value !== undefined);
  return (record) =>
    (record.detached || filter.includeForeground === true) &&
    (filter.active === undefined || filter.active === !isTerminalStatus(record.status)) &&
    (!statuses || statuses.has(record.status)) &&
    (!kinds || kinds.has(record.kind)) &&
    (filter.group === undefined || filter.group === record.group) &&
    wanted.every(
      ([key, value]) => Object.hasOwn(record.metadata, key) && isDeepStrictEqual(record.metadata[key], value),
    );
}
