/* kimi, older: snake_case, one `<task_id>.json` for each task beside its `<task_id>/output.log`. */
import { z } from 'zod';
import type { JsonObject, TaskStatus } from '../task/types.js';
import {
  type BuiltInShape,
  fieldSchemas,
  lastStatus,
  lazy,
  nullWhile,
  present,
  recordOf,
  remains,
  toMilliseconds,
  toMillisecondsOrNull,
} from './fields.js';

const statuses = ['running', 'awaiting_approval', 'completed', 'failed', 'killed', 'lost'] as const;

const schema = lazy(() => {
  const { id, optionalText, time, whole } = fieldSchemas();
  return nullWhile(
    z.object({
      task_id: id,
      command: z.string(),
      description: z.string(),
      pid: whole.nonnegative().nullable(),
      started_at: time,
      ended_at: time.nullable(),
      exit_code: whole.nullable(),
      status: z.enum(statuses),
      timed_out: z.boolean().nullish(),
      stop_reason: optionalText,
      timeout_ms: time.nullish(),
      agent_id: optionalText,
      subagent_type: optionalText,
    }),
    ['running', 'awaiting_approval'],
    ['ended_at', 'exit_code'],
  );
});
type Value = z.infer<ReturnType<typeof schema>>;

export const kimiSnake: BuiltInShape<Value> = {
  name: 'kimi (snake_case)',
  schema,
  fields: ['task_id', 'command', 'description', 'pid', 'started_at', 'ended_at', 'exit_code'],
  statuses,
  toRecord(value) {
    if (value.task_id.toLowerCase().startsWith('agent-')) {
      const { agent_id: agentId, subagent_type: subagentType, ...rest } = value;
      return record('agent', rest, present({ agentId, subagentType }));
    }
    const { command, pid, exit_code: exitCode, ...rest } = value;
    return record('process', rest, { command, cwd: null, pid, exitCode, signal: null });
  },
};

type Common = Omit<Value, 'command' | 'pid' | 'exit_code' | 'agent_id' | 'subagent_type'>;

function record(kind: string, value: Common, details: JsonObject): JsonObject {
  const { task_id, description, status, started_at, ended_at, stop_reason, timeout_ms, timed_out, ...rest } = value;
  const timedOut = status === 'failed' && timed_out === true;
  const now: TaskStatus = timedOut ? 'timed_out' : status === 'awaiting_approval' ? 'running' : status;
  return recordOf('kimi', {
    taskId: task_id,
    idField: 'task_id',
    kind,
    description,
    status: now,
    startedAt: toMilliseconds(started_at),
    endedAt: toMillisecondsOrNull(ended_at),
    fields: present({ stopReason: stop_reason, timeoutMs: timeout_ms }),
    details,
    remains: {
      ...lastStatus(now, status),
      ...(timedOut ? {} : present({ timed_out })),
      ...remains(rest, ['agent_id', 'subagent_type', 'pid', 'exit_code']),
    },
  });
}
