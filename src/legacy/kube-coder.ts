/* kube-coder: `<task_id>/task.json` with `output.log` in the same folder. Its sessions live in tmux, so a running one may still run. */
import { z } from 'zod';
import type { JsonObject, TaskStatus } from '../task/types.js';
import {
  type BuiltInShape,
  fieldSchemas,
  lazy,
  present,
  recordOf,
  remains,
  toMilliseconds,
  toMillisecondsOrNull,
} from './fields.js';

const statusOf = {
  running: 'running',
  'waiting-for-input': 'waiting',
  completed: 'completed',
  killed: 'killed',
  error: 'failed',
} as const satisfies Record<string, TaskStatus>;
type Status = keyof typeof statusOf;
const statuses = Object.keys(statusOf) as [Status, ...Status[]];

const delivery = lazy(() => {
  const { optionalText, optionalTime, whole } = fieldSchemas();
  const attempts = whole.nonnegative();
  return z.discriminatedUnion(
    'state',
    [
      z.object({ state: z.literal('delivered'), attempts, status: whole.nullish(), delivered_at: optionalTime }),
      z.object({ state: z.literal('failed'), attempts, last_error: optionalText, last_attempt_at: optionalTime }),
    ],
    'expected "delivered" or "failed"',
  );
});

const texts = [
  'tmux_session',
  'assistant',
  'model',
  'effort',
  'parent_task_id',
  'source',
  'error',
  'last_input_prompt',
  'response_url',
  'response_secret',
] as const;

const schema = lazy(() => {
  const { id, optionalText, optionalTime, time } = fieldSchemas();
  return z.object({
    task_id: id,
    session_id: z.string(),
    prompt: z.string(),
    workdir: z.string(),
    status: z.enum(statuses),
    created_at: time,
    kind: z.literal('terminal').nullish(),
    finished_at: optionalTime,
    killed_at: optionalTime,
    hook_fired_at: optionalTime,
    hook_delivery: delivery().nullish(),
    ...(Object.fromEntries(texts.map((name) => [name, optionalText])) as Record<
      (typeof texts)[number],
      typeof optionalText
    >),
  });
});
type Value = z.infer<ReturnType<typeof schema>>;

const optional = ['kind', 'finished_at', 'killed_at', 'hook_fired_at', ...texts];

export const kubeCoder: BuiltInShape<Value> = {
  name: 'kube-coder',
  schema,
  fields: ['task_id', 'session_id', 'prompt', 'workdir', 'created_at'],
  statuses,
  toRecord(value) {
    const { task_id, prompt, status, created_at, tmux_session, hook_delivery, ...rest } = value;
    const startedAt = toMilliseconds(created_at);
    const end = endOf(rest, status);
    const said = saidBy(rest, status, startedAt);
    return recordOf('kube-coder', {
      taskId: task_id,
      idField: 'task_id',
      kind: 'tmux',
      description: prompt,
      status: statusOf[status],
      startedAt,
      endedAt: end.at,
      fields: said.fields,
      details: present({ session: tmux_session }),
      hooks: hooksOf(value),
      remains: remains({ ...without(rest, [...end.used, ...said.used]), ...deliveryRemains(hook_delivery) }, optional),
    });
  },
};

/** When the task ended, where that was recorded: kube-coder has two fields for it, and an end that is not recorded is not known. */
function endOf(value: Partial<Value>, status: Status): { at: number | null; used: string[] } {
  if (status === 'running' || status === 'waiting-for-input') return { at: null, used: [] };
  const order = status === 'killed' ? (['killed_at', 'finished_at'] as const) : (['finished_at', 'killed_at'] as const);
  const field = order.find((name) => typeof value[name] === 'number');
  return { at: toMillisecondsOrNull(field && value[field]), used: field ? [field] : [] };
}

/** The question of a waiting task and the error of a failed one. When it was asked is not recorded: at the start, or later. */
function saidBy(value: Partial<Value>, status: Status, startedAt: number): { fields: JsonObject; used: string[] } {
  if (status === 'waiting-for-input') {
    const prompt = value.last_input_prompt?.trim() ? value.last_input_prompt : '';
    return { fields: { waitingFor: { prompt, requestedAt: startedAt } }, used: ['last_input_prompt'] };
  }
  if (status === 'error' && value.error?.trim()) {
    return { fields: { error: { name: 'Error', message: value.error } }, used: ['error'] };
  }
  return { fields: {}, used: [] };
}

function without(value: object, fields: readonly string[]): object {
  return Object.fromEntries(Object.entries(value).filter(([key]) => !fields.includes(key)));
}

/**
 * What is owed to the response url, as the hook `response_url`. With a url that was not called yet the completion is owed, or will be
 * when the task ends. One that was called (`hook_fired_at`) without a word on how it went is neither owed nor known to be delivered.
 */
function hooksOf({ response_url, hook_fired_at, hook_delivery: made }: Value): JsonObject {
  if (made) return { response_url: deliveryOf(made) };
  const owed = response_url?.trim() && typeof hook_fired_at !== 'number';
  return owed ? { response_url: { state: 'pending', attempts: 0 } } : {};
}

function deliveryOf(made: z.infer<ReturnType<typeof delivery>>): JsonObject {
  const { state, attempts } = made;
  if (state === 'delivered') {
    const deliveredAt = toMillisecondsOrNull(made.delivered_at);
    return { state, attempts, ...present({ deliveredAt }) };
  }
  const message = made.last_error?.trim() ? made.last_error : undefined;
  return { state, attempts, ...(message !== undefined && { lastError: { name: 'Error', message } }) };
}

/** What a delivery says beyond our own fields: the HTTP status, the time of the last attempt. */
function deliveryRemains(made: Value['hook_delivery']): JsonObject {
  if (!made) return {};
  const used = ['state', 'attempts', made.state === 'delivered' ? 'delivered_at' : 'last_error'];
  const rest = remains(without(made, used), ['status', 'last_attempt_at']);
  return Object.keys(rest).length > 0 ? { hook_delivery: rest } : {};
}
