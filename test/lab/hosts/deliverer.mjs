/* Registers short tasks for as long as it lives; each owes a webhook and a hook of its own, which fails now and then. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BackgroundTaskManager } from 'holdfast';
import { webhookHook } from 'holdfast/webhook';
import { acknowledge, pause, plan, say } from './kit.mjs';
import { listen } from './player.mjs';

const { directory, prefix, failures, url, count } = plan;
const patient = { maxAttempts: 10_000, minDelayMs: 1, maxDelayMs: 10, timeoutMs: 2_000 };
let calls = 0;

/** As a consumer sees it: what does the disk say when I am called? */
function local(task, { deliveryId }) {
  const onDisk = JSON.parse(readFileSync(join(directory, `${task.taskId}.json`), 'utf8'));
  acknowledge({ called: deliveryId, task: onDisk });
  if (failures[calls++ % failures.length]) throw new Error('on purpose');
}

const manager = await BackgroundTaskManager.open({
  directory,
  fsync: false,
  hooks: {
    local: { deliver: local, ...patient },
    web: { deliver: webhookHook({ url, allowPrivateNetworks: true }), ...patient },
  },
});
listen(manager);
say({ opened: true });
for (let n = 0; n < count; n++) {
  const task = await manager.registerTask({
    kind: 'function',
    taskId: `${prefix}-${n}`,
    description: 'short',
    run: () => n,
  });
  acknowledge({ did: 'function', task });
  if (n % 8 === 7) await pause(1);
}
await manager.waitForIdle();
// What never comes is for the lab to notice.
for (let turns = 0; turns < 2_000 && manager.listDeliveries({ state: 'pending' }).length > 0; turns++) await pause(5);
await manager.close();
say({ done: true });
