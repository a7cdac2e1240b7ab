// Hooks through the manager: records, files and deliveries together.
import type { ServerResponse } from 'node:http';
import { expect, it } from 'vitest';
import { webhookHook } from '../../src/webhook/index.js';
import { deferred, openManager, scratch } from '../helpers/manager.js';
import { receiver } from '../helpers/receiver.js';
import { until } from '../helpers/wait.js';

/** The same numbers every time. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state / 2 ** 31;
  };
}

const TASKS = 1_000;

async function settleMany(maxAttempts: number) {
  const delivered = new Map<string, number>();
  const dice = random(42);
  const state = { up: false };
  const deliver = async (_task: unknown, { deliveryId }: { deliveryId: string }) => {
    if (!state.up && dice() < 0.5) throw new Error('not this time');
    delivered.set(deliveryId, (delivered.get(deliveryId) ?? 0) + 1);
  };
  const manager = await openManager({ hooks: { hook: { deliver, maxAttempts, minDelayMs: 1, maxDelayMs: 4 } } });
  const tasks = Array.from({ length: TASKS }, (_, n) =>
    manager.registerTask({ kind: 'function', description: `task ${n}`, run: () => n }),
  );
  await Promise.all(tasks);
  await manager.waitForIdle();
  await until(() => manager.listDeliveries({ state: 'pending' }).length === 0, { timeoutMs: 150_000 });
  return { manager, delivered, state };
}

it(`${TASKS} tasks and a hook that fails half of the time: with enough attempts all are delivered, once each`, async () => {
  const { manager, delivered } = await settleMany(40);
  expect(manager.listDeliveries({ state: 'delivered' })).toHaveLength(TASKS);
  expect(delivered.size).toBe(TASKS);
  expect([...delivered.values()].every((times) => times === 1)).toBe(true);
});

it('with four, exactly those given up are listed as failed, and redelivering brings every one home', async () => {
  const { manager, delivered, state } = await settleMany(4);
  const failed = manager.listDeliveries({ state: 'failed' });
  expect(failed.length).toBeGreaterThan(0);
  expect(failed.length + delivered.size).toBe(TASKS);
  expect(failed.every(({ deliveryId, attempts }) => attempts === 4 && !delivered.has(deliveryId))).toBe(true);
  state.up = true;
  await Promise.all(failed.map(({ taskId }) => manager.redeliver(taskId)));
  await until(() => manager.listDeliveries({ state: 'delivered' }).length === TASKS);
  expect(delivered.size).toBe(TASKS);
  expect([...delivered.values()].every((times) => times === 1)).toBe(true);
});

it('an endpoint that is down for good: dead letter, kept over a restart, redelivered by hand once it is up', async () => {
  const statuses = [500, 503, 500, 502, 204];
  const { url, received } = await receiver((response) => response.writeHead(statuses.shift() ?? 500).end());
  const hooks = { hook: { deliver: webhookHook({ url, allowPrivateNetworks: true }), minDelayMs: 1, maxDelayMs: 2 } };
  const directory = await scratch();
  const first = await openManager({ directory, hooks });
  const { taskId } = await first.registerTask({ kind: 'process', description: 'say', command: 'echo said' });
  await until(() => first.listDeliveries({ state: 'failed' }).length === 1);
  await first.close();

  const second = await openManager({ directory, hooks });
  const [letter] = second.listDeliveries({ state: 'failed' });
  expect(letter).toMatchObject({
    taskId,
    hook: 'hook',
    attempts: 4,
    lastError: { name: 'WebhookError', code: 'HTTP_502' },
  });
  await second.redeliver(taskId, 'hook');
  await until(() => second.listDeliveries({ state: 'delivered' }).length === 1);
  expect(received).toHaveLength(5);
  expect(new Set(received.map(({ headers }) => headers['webhook-id']))).toEqual(new Set([`${taskId}:hook`]));
  expect(JSON.parse(received[4]!.body).data.output).toBe('said\n');
});

it('closing waits for a delivery under way', async () => {
  const asked = deferred<ServerResponse>();
  const { url } = await receiver((response) => asked.resolve(response));
  const manager = await openManager({ hooks: { hook: webhookHook({ url, allowPrivateNetworks: true }) } });
  const { taskId } = await manager.registerTask({ kind: 'function', description: 'quick', run: () => 1 });
  const heard: string[] = [];
  manager.on('hook:delivered', ({ task }) => void heard.push(task.taskId));
  const response = await asked.promise;
  const closing = manager.close();
  response.writeHead(204).end();
  await closing;
  expect(heard).toEqual([taskId]);
});
