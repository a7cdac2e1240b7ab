// What the main types say, in the package's own tests. Checked by the compiler: here by types.test.ts, and by `tsc`.
import { expectTypeOf, it } from 'vitest';
import { z } from 'zod';
import type {
  AnyTask,
  BackgroundTaskEvents,
  BackgroundTaskManager,
  FunctionTask,
  JsonValue,
  OpenOptions,
  ProcessTask,
  Task,
  TaskOf,
  UnknownTask,
} from '../../src/index.js';
import { defineTaskKind, isFunctionTask, isProcessTask, isTerminal, isTerminalStatus } from '../../src/index.js';

const agent = defineTaskKind({
  name: 'agent',
  details: z.object({ agentId: z.string() }),
  result: z.object({ answer: z.string() }),
});
const remote = defineTaskKind({
  name: 'remote',
  details: z.object({ job: z.string() }),
  start: async (_context, input: { token: string }) => ({ job: input.token }),
  probe: async () => ({ state: 'running' }),
});
type Kinds = typeof agent | typeof remote;
type Manager = BackgroundTaskManager<Kinds>;
type AgentTask = TaskOf<'agent', { agentId: string }, { answer: string }>;

/** Never called: only its types count. */
function typesOnly(manager: Manager, task: Task<Kinds>): void {
  if (task.kind === 'process') expectTypeOf(task).toEqualTypeOf<ProcessTask>();
  if (task.kind === 'agent') expectTypeOf(task).toEqualTypeOf<AgentTask>();
  if (isProcessTask(task)) expectTypeOf(task.details.exitCode).toEqualTypeOf<number | null>();
  if (isFunctionTask(task)) expectTypeOf(task.result).toEqualTypeOf<JsonValue | undefined>();
  if (agent.is(task)) expectTypeOf(task.result).toEqualTypeOf<{ answer: string } | undefined>();
  expectTypeOf(manager.listTasks({ kind: 'agent' })).toEqualTypeOf<readonly AgentTask[]>();
  expectTypeOf(manager.getTask('a')).toEqualTypeOf<Task<Kinds> | undefined>();
  expectTypeOf(manager.waitForAny()).resolves.toEqualTypeOf<Task<Kinds> | undefined>();
  if (agent.is(task)) expectTypeOf(manager.stopTask(task)).resolves.toEqualTypeOf<AgentTask>();
  if (isTerminal(task)) expectTypeOf(task.endedAt).toEqualTypeOf<number>();
  const registered = manager.registerTask({ kind: 'function', description: 'work', run: () => ({ n: 1 }) });
  expectTypeOf(registered).resolves.toEqualTypeOf<FunctionTask<{ n: number }>>();
  const started = manager.registerTask({
    kind: 'remote',
    description: 'work',
    details: { job: 'j' },
    input: { token: 't' },
  });
  expectTypeOf(started).resolves.toEqualTypeOf<TaskOf<'remote', { job: string }, JsonValue>>();
}

it('are what a host relies on', () => {
  expectTypeOf(typesOnly).parameters.toEqualTypeOf<[Manager, Task<Kinds>]>();
  expectTypeOf<Task>().toEqualTypeOf<ProcessTask | FunctionTask | UnknownTask>();
  expectTypeOf<Task<Kinds>>().toExtend<AnyTask>();
  expectTypeOf<Task<Kinds>>().toExtend<Task>();
  expectTypeOf<BackgroundTaskEvents['task:settled']>().toEqualTypeOf<{ task: Task }>();
  expectTypeOf<BackgroundTaskEvents['task:detached']>().toEqualTypeOf<{ task: Task; byTimeout: boolean }>();
  expectTypeOf(isTerminalStatus).guards.toEqualTypeOf<'completed' | 'failed' | 'timed_out' | 'killed' | 'lost'>();
  expectTypeOf<OpenOptions<[]>['maxRunningTasks']>().toEqualTypeOf<number | (() => number) | undefined>();
});
