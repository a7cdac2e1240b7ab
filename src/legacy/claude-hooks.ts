/* claude-hooks: rows of `task_history`, as JSON objects; they come in through `importTasks`. */
import { z } from 'zod';
import type { TaskStatus } from '../task/types.js';
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

const statusOf = {
  running: 'running',
  success: 'completed',
  failed: 'failed',
  cancelled: 'killed',
  interrupted: 'lost',
} as const satisfies Record<string, TaskStatus>;
type Status = keyof typeof statusOf;
const statuses = Object.keys(statusOf) as [Status, ...Status[]];

const schema = lazy(() => {
  const { id, time } = fieldSchemas();
  return nullWhile(
    z.object({ task_id: id, status: z.enum(statuses), started_at: time, finished_at: time.nullable() }),
    ['running'],
    ['finished_at'],
  );
});
type Value = z.infer<ReturnType<typeof schema>>;

export const claudeHooks: BuiltInShape<Value> = {
  name: 'claude-hooks',
  schema,
  fields: ['task_id', 'started_at', 'finished_at'],
  statuses,
  toRecord({ task_id, status: recorded, started_at, finished_at, ...columns }) {
    const status = statusOf[recorded];
    return recordOf('claude-hooks', {
      taskId: task_id,
      idField: 'task_id',
      kind: 'agent',
      description: task_id,
      status,
      startedAt: toMilliseconds(started_at),
      endedAt: toMillisecondsOrNull(finished_at),
      remains: { ...lastStatus(status, recorded), ...remains(columns, textsOf(columns)) },
    });
  },
};

/** Every further column is optional: token counts, cost, repository, issue and whatever else the table has. */
function textsOf(columns: object): string[] {
  return Object.entries(columns).flatMap(([name, value]) => (typeof value === 'string' ? [name] : []));
}
