// A CommonJS host with the same needs as host.ts, where `await` has to live in a function.
import { z } from 'zod';
import { BackgroundTaskError, BackgroundTaskManager, defineTaskKind, isProcessTask, isTerminal, readTasks, type Task } from 'holdfast';

const agent = defineTaskKind({ name: 'agent', details: z.object({ agentId: z.string() }), result: z.object({ answer: z.string() }) });
const remote = defineTaskKind({
  name: 'remote',
  details: z.object({ job: z.string() }),
  start: async (_context, input: { token: string }) => ({ job: input.token }),
  probe: async (task) => (task.details.job === '' ? { state: 'gone' } : { state: 'running' }),
});

async function main(): Promise<void> {
  const manager = await BackgroundTaskManager.open({ directory: 'x', kinds: [agent, remote], hooks: { inbox: 'pull' } });
  const off = manager.on('task:settled', ({ task }) => console.log(render(task)));
  const build = await manager.registerTask({ kind: 'process', description: 'build', command: ['make'], env: process.env });
  const review = await manager.registerTask({ kind: 'agent', description: 'r', details: { agentId: 'a' }, run: () => ({ answer: '' }) });
  await manager.registerTask({ kind: 'remote', description: 'r', details: { job: 'j' }, input: { token: 't' } });
  const done = await manager.waitForTask(review.taskId, { timeoutMs: 1 });
  if (agent.is(done)) done.result?.answer satisfies string | undefined;
  build.details.exitCode satisfies number | null;
  for await (const chunk of manager.followOutput(build.taskId)) chunk satisfies string;
  off();
  await manager.close({ tasks: 'stop' });
}

function render(task: Task<typeof agent | typeof remote>): string {
  switch (task.kind) {
    case 'process': return `${task.details.exitCode}`;
    case 'agent': return task.details.agentId;
    case 'remote': return task.details.job;
    case 'function': return JSON.stringify(task.result);
    default: return String(task.kind);
  }
}

main().catch((error: unknown) => console.error(error instanceof BackgroundTaskError ? error.code : error));
void readTasks('x').then(({ tasks }) => tasks.filter((task) => isProcessTask(task) && !isTerminal(task)));
