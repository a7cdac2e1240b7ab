// A host that is killed: `host.ts <directory> <url>`. Registers tasks, and says on its standard output what is on record as delivered.

import { BackgroundTaskManager } from '../../src/index.js';
import { webhookHook } from '../../src/webhook/index.js';

const TASKS = 50;
const [directory = '', url = ''] = process.argv.slice(2);

const manager = await BackgroundTaskManager.open({
  directory,
  hooks: {
    hook: {
      deliver: webhookHook({ url, allowPrivateNetworks: true }),
      minDelayMs: 1,
      maxDelayMs: 20,
      maxAttempts: 100,
    },
  },
});
manager.on('hook:delivered', ({ task, hook }) => void process.stdout.write(`delivered ${task.taskId}:${hook}\n`));
process.stdout.write('open\n');
await Promise.all(
  Array.from({ length: TASKS }, async (_, n) => {
    const { taskId } = await manager.registerTask({
      kind: 'function',
      description: `task ${n}`,
      run: () => new Promise((resolve) => setTimeout(resolve, n * 4, n)),
    });
    process.stdout.write(`registered ${taskId}\n`);
  }),
);
await manager.waitForIdle();
// Whatever is still owed holds nothing: this does, until the kill comes.
setInterval(() => undefined, 60_000);
