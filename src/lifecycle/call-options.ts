/* What the calls of a manager take. Built once: building a schema costs more than the call that it checks. */
import { z } from 'zod';
import { count, description, milliseconds, textOf } from '../task/fields.js';
import { filterFields, selector } from '../task/filter.js';
import { hookStates } from '../task/status.js';
import type { TaskRef } from '../task/types.js';

const signal = z.instanceof(AbortSignal).optional();
const wait = { timeoutMs: milliseconds.optional(), signal };
const filter = { filter: selector.optional() };
const page = { order: z.enum(['newest', 'oldest']).optional(), limit: count.optional(), after: z.string().optional() };
const stop = { reason: z.string().optional(), graceMs: milliseconds.optional(), skipHooks: z.boolean().optional() };

/** Each is checked as a task or its id when it is looked up. */
const tasks = z.array(z.custom<TaskRef>(() => true));

export const callOptions = {
  reserveSlot: z.strictObject({ group: textOf(1, 256).optional() }),
  listTasks: z.strictObject({ ...filterFields, ...page }),
  updateTask: z.strictObject({ description: description.optional(), metadata: z.unknown().optional() }),
  wait: z.strictObject(wait),
  waitForTask: z.strictObject({ ...wait, orWaiting: z.boolean().optional() }),
  /** The first argument of `waitForAny`. */
  tasks: z.strictObject({ tasks: tasks.optional() }),
  waitForIdle: z.strictObject({ ...wait, ...filter }),
  stopTask: z.strictObject({ ...stop, abandon: z.boolean().optional() }),
  stopAll: z.strictObject({ ...stop, ...filter }),
  followOutput: z.strictObject({ offset: count.optional(), signal }),
  listDeliveries: z.strictObject({ state: z.enum(hookStates).optional(), name: z.string().optional() }),
  pruneTasks: z.strictObject({
    olderThanMs: milliseconds.optional(),
    keep: count.optional(),
    taskIds: tasks.optional(),
    ...filter,
  }),
  close: z.strictObject({ tasks: z.enum(['leave', 'stop']).optional(), ...stop }),
};
