import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { BackgroundTaskError } from '../errors.js';
import { functionOf } from './fields.js';
import type { Task } from './kind.js';
import { validate } from './problems.js';
import type { TaskRecord } from './record.js';
import type { Differences, None } from './same.js';
import { came } from './show.js';
import { isTerminalStatus, type TaskStatus, taskStatuses } from './status.js';

/** Selects tasks: all given conditions must hold. `T`: the task as `where` is given it. */
export interface TaskFilter<N extends string = string, T = Task> {
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
  /**
   * The host's own condition, synchronous and without side effects: asked of each task that meets the other ones, and
   * by a wait again with every change. Alone it costs a call for each task there is. What it throws reaches the caller,
   * of a wait as its rejection; a promise in place of an answer is `INVALID_SPEC`.
   */
  where?: ((task: T) => boolean) | undefined;
}

/**
 * Which tasks a call means: a filter, or only a function of the task. The function is called with foreground tasks as
 * well, and decides by itself; otherwise it is as `where`.
 */
export type TaskSelector<T = Task> = TaskFilter<string, T> | ((task: T) => boolean);

/** Which tasks of a list, and in which order. */
export interface ListPage {
  /** By registration: `'newest'` first (default), or `'oldest'`. */
  order?: 'newest' | 'oldest' | undefined;
  /** At most so many. 0: none. Default: all. */
  limit?: number | undefined;
  /** The id of the last task of the page before, in the same order. One that is gone: `TASK_NOT_FOUND`. */
  after?: string | undefined;
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
  where: functionOf<(task: Task) => boolean>().optional(),
};

/** The options of a call of which `filter` is one: what selects tasks is a filter from here on. */
export const selector = z
  .union([z.strictObject(filterFields), functionOf<(task: Task) => boolean>()])
  .transform((given): TaskFilter => (typeof given === 'function' ? byPredicate(given) : given));

/** A function alone decides by itself. */
export function byPredicate(where: (task: Task) => boolean): TaskFilter {
  return { where, includeForeground: true };
}

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
    ) &&
    (filter.where === undefined || says(filter.where, record));
}

function says(where: (task: Task) => boolean, record: TaskRecord): boolean {
  const answer: unknown = where(record as never);
  if (typeof (answer as PromiseLike<unknown> | null | undefined)?.then !== 'function') return Boolean(answer);
  // It would be true of every task, whatever it resolves with; that it may also reject says nothing more.
  Promise.resolve(answer).catch(() => undefined);
  const message = `filter: expected a function that returns true or false, got ${came(answer)} from it`;
  throw new BackgroundTaskError('INVALID_SPEC', message, { taskId: record.taskId });
}
