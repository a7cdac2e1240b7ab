// What the first pass found, for whoever has to say so before its events come.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { FakeClock } from '../helpers/clock.js';
import { next, openManager, record, scratch } from '../helpers/manager.js';
import { copyNow, jobKind, World } from '../helpers/world.js';

/** What a host leaves that is killed now, with the world in which its work goes on. */
async function leftBehind(taskIds: readonly string[]) {
  const directory = await scratch();
  const world = new World();
  const first = await openManager({ directory, kinds: [jobKind(world)], reconcileIntervalMs: 0 }, new FakeClock());
  for (const taskId of taskIds) {
    await first.registerTask({
      kind: 'job',
      taskId,
      description: 'work',
      details: { place: 'here' },
      input: 'x',
    } as never);
  }
  await first.registerTask({
    kind: 'function',
    taskId: 'here',
    description: 'work',
    run: () => new Promise(() => undefined),
  });
  const copy = await scratch();
  copyNow(directory, copy);
  const open = () => openManager({ directory: copy, kinds: [jobKind(world)], reconcileIntervalMs: 0 }, new FakeClock());
  return { world, copy, open };
}

it('is there at once, and is what the events say later', async () => {
  const { world, open } = await leftBehind(['lives', 'ended', 'gone', 'odd']);
  world.job('ended').probe = { state: 'completed' };
  world.job('gone').probe = { state: 'gone' };
  world.job('odd').probe = new Error('who knows');
  const manager = await open();
  const heard = record(manager);
  const { opened } = manager;
  expect(opened).toMatchObject({ checked: 5, adopted: ['lives'], failures: [{ taskId: 'odd' }] });
  expect([...opened.settled].sort()).toEqual(['ended', 'gone', 'here']);
  expect([...opened.lost].sort()).toEqual(['gone', 'here']);
  expect(opened.failures[0]!.error.message).toContain('who knows');
  expect(JSON.parse(JSON.stringify(opened)).failures).toMatchObject([
    { taskId: 'odd', error: { message: 'who knows' } },
  ]);
  expect(heard).toEqual([]);
  const { report } = await next(manager, 'manager:reconciled');
  expect(report).toBe(opened);
  expect(manager.status().lastReconcile?.report).toBe(opened);
  expect(heard).toEqual(expect.arrayContaining(['task:adopted lives', 'task:settled ended', 'task:settled gone']));

  for (const part of [opened, opened.adopted, opened.settled, opened.lost, opened.failures, opened.failures[0]]) {
    expect(Object.isFrozen(part)).toBe(true);
  }
  // It is about the first pass, whatever later ones find.
  world.job('odd').probe = { state: 'completed' };
  expect((await manager.reconcile()).settled).toEqual(['odd']);
  expect(manager.opened).toBe(opened);
  await manager.close();
  expect(manager.opened).toBe(opened);
});

it('counts an adoption that could not be written among the failures, and an outcome that could not among nothing', async () => {
  const { world, copy, open } = await leftBehind(['lives', 'ended']);
  world.job('ended').probe = { state: 'completed' };
  const next = (taskId: string) => join(copy, `${taskId}.json.next`);
  for (const taskId of ['lives', 'ended']) {
    mkdirSync(next(taskId));
    writeFileSync(join(next(taskId), 'in the way'), '');
  }
  const manager = await open();
  const errors: unknown[] = [];
  manager.on('error', ({ taskId }) => {
    errors.push(taskId);
  });
  expect(manager.opened).toMatchObject({
    adopted: [],
    settled: ['here'],
    failures: [{ taskId: 'lives', error: { code: 'STORAGE_FAILED' } }],
  });
  expect(manager.getTask('ended')).toMatchObject({ status: 'running' });
  await new Promise((resolve) => setImmediate(resolve));
  expect(errors).toContain('ended');
});

it('is empty of what is not there', async () => {
  const manager = await openManager();
  expect(manager.opened).toEqual({ checked: 0, settled: [], adopted: [], lost: [], failures: [] });
});
