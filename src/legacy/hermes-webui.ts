/* hermes-webui: objects in a list, without files of their own; they come in through `importTasks`. */
import { z } from 'zod';
import {
  type BuiltInShape,
  fieldSchemas,
  lastStatus,
  lazy,
  nullWhile,
  recordOf,
  remains,
  toMilliseconds,
  toMillisecondsOrNull,
} from './fields.js';

const statuses = ['running', 'done'] as const;

const schema = lazy(() => {
  const { id, time } = fieldSchemas();
  return nullWhile(
    z.object({
      task_id: id,
      bg_session_id: z.string(),
      stream_id: z.string(),
      prompt: z.string(),
      status: z.enum(statuses),
      started_at: time,
      answer: z.string().nullable(),
      completed_at: time.nullable(),
    }),
    ['running'],
    ['answer', 'completed_at'],
  );
});
type Value = z.infer<ReturnType<typeof schema>>;

export const hermesWebui: BuiltInShape<Value> = {
  name: 'hermes-webui',
  schema,
  fields: ['task_id', 'bg_session_id', 'stream_id', 'prompt', 'started_at', 'answer', 'completed_at'],
  statuses,
  toRecord({ task_id, prompt, status: recorded, started_at, answer, completed_at, ...rest }) {
    const status = recorded === 'done' ? 'completed' : 'running';
    return recordOf('hermes-webui', {
      taskId: task_id,
      idField: 'task_id',
      kind: 'agent',
      description: prompt,
      status,
      startedAt: toMilliseconds(started_at),
      endedAt: toMillisecondsOrNull(completed_at),
      fields: status === 'completed' ? { result: { answer } } : {},
      remains: { ...lastStatus(status, recorded), ...remains(rest, []) },
    });
  },
};
