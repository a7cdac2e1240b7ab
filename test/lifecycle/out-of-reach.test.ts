/* Work that lives where this manager can neither see nor signal it: nothing waits for it that nobody asked to wait, and nothing is guessed. */
import { readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { FakeClock } from '../helpers/clock.js';
import { onDisk, within } from '../helpers/faults.js';
import { openManager, record, scratch } from '../helpers/manager.js';

const where = 'on another machine, in the pid namespace pid:[7] of the host "web-1"';
const owner = {
  instanceId: '00000000-0000-4000-8000-000000000000',
  hostname: 'web-1',
  bootId: 'another boot',
  pidNamespace: 'pid:[7]',
  pid: 7,
  startTicks: '7',
};

/** A directory with tasks that run on another machine. */
async function far(
  clock: FakeClock,
  more: Record<string, unknown> = {},
  taskIds: readonly string[] = ['far'],
): Promise<string> {
  const directory = await scratch();
  const manager = await openManager({ directory, hooks: { told: 'pull' } }, clock);
  await manager.close();
  for (const taskId of taskIds) {
    const startedAt = clock.now() - 1_000;
    const task = {
      schemaVersion: 1,
      taskId,
      kind: 'process',
      description: 'work',
      status: 'running',
      detached: true,
      createdAt: startedAt,
      startedAt,
      endedAt: null,
      attempt: 1,
      owner,
      details: { command: 'work', cwd: null, pid: 8, exitCode: null, signal: null },
      metadata: {},
      hooks: { told: { state: 'pending', attempts: 0 } },
      ...more,
    };
    writeFileSync(join(directory, `${taskId}.json`), JSON.stringify(task));
    writeFileSync(join(directory, '.run', `${taskId}.pid`), '8\n');
  }
  return directory;
}

const bytes = (directory: string, taskId = 'far') => readFileSync(join(directory, `${taskId}.json`), 'utf8');

function ends(directory: string, code: number, clock: FakeClock, taskId = 'far'): void {
  const path = join(directory, '.run', `${taskId}.exit`);
  writeFileSync(path, `${code}\n`);
  utimesSync(path, clock.now() / 1000, clock.now() / 1000);
}

it('it stays running, is told of once, and ends by its exit record', async () => {
  const clock = new FakeClock();
  const directory = await far(clock);
  const manager = await openManager({ directory, reconcileIntervalMs: 0 }, clock);
  const errors: { code: string; message: string }[] = [];
  manager.on('error', ({ error }) => void errors.push(error));
  await manager.reconcile();
  await manager.reconcile();
  expect(manager.getTask('far')).toMatchObject({ status: 'running' });
  expect(errors).toMatchObject([{ code: 'OUT_OF_REACH', taskId: 'far' }]);
  expect(errors[0]!.message).toContain(where);
  ends(directory, 3, clock);
  await manager.reconcile();
  expect(manager.getTask('far')).toMatchObject({ status: 'failed', details: { exitCode: 3 } });
  expect(manager.status().slots.used).toBe(0);
});

it('a stop is refused, and nothing is written', async () => {
  const clock = new FakeClock();
  const directory = await far(clock);
  const manager = await openManager({ directory, reconcileIntervalMs: 0 }, clock);
  const heard = record(manager);
  const before = bytes(directory);
  const refused = manager.stopTask('far', { reason: 'enough', skipHooks: true });
  await expect(within('the stop', refused)).rejects.toMatchObject({ code: 'OUT_OF_REACH', taskId: 'far' });
  await expect(refused).rejects.toThrow(where);
  await expect(refused).rejects.toThrow('stopTask(taskId, { abandon: true })');
  expect(bytes(directory)).toBe(before);
  await manager.updateTask('far', { description: 'still there' });
  expect(onDisk(directory, 'far')).toMatchObject({ status: 'running', hooks: { told: { state: 'pending' } } });
  expect(onDisk(directory, 'far').stop).toBeUndefined();
  expect(heard).not.toContain('task:stopping far');
  // Its true end is judged as if nobody had asked.
  ends(directory, 3, clock);
  expect(await manager.stopTask('far')).toMatchObject({ status: 'failed' });
});

it.each([
  [undefined, `abandoned out of reach (it ran ${where})`],
  ['  ', `abandoned out of reach (it ran ${where})`],
  ['the machine is scrap', `abandoned out of reach: the machine is scrap (it ran ${where})`],
])('abandon settles it as lost, without a stop (reason %j)', async (reason, stopReason) => {
  const clock = new FakeClock();
  const directory = await far(clock);
  const manager = await openManager({ directory, reconcileIntervalMs: 0, hooks: { told: 'pull' } }, clock);
  const heard = record(manager);
  const task = await manager.stopTask('far', { abandon: true, reason });
  expect(task).toMatchObject({ status: 'lost', stopReason, endedAt: clock.now() });
  expect(task).not.toHaveProperty('stop');
  expect(onDisk(directory, 'far')).toMatchObject({ status: 'lost', stopReason });
  expect(heard.filter((event) => event.startsWith('task:'))).toEqual(['task:adopted far', 'task:settled far']);
  expect(manager.status().slots.used).toBe(0);
  expect(manager.listDeliveries({ state: 'pending' })).toMatchObject([{ taskId: 'far' }]);
  await manager.acknowledge('far', 'told');
  expect(await manager.pruneTasks()).toEqual(['far']);
});

it('abandon withdraws the hooks where it is told to', async () => {
  const clock = new FakeClock();
  const manager = await openManager({ directory: await far(clock), reconcileIntervalMs: 0 }, clock);
  const task = await manager.stopTask('far', { abandon: true, skipHooks: true });
  expect(task).toMatchObject({ status: 'lost', hooks: { told: { state: 'skipped' } } });
});

it('abandon is an ordinary stop of what can be reached, and changes nothing of what has ended', async () => {
  const manager = await openManager();
  await manager.registerTask({ kind: 'process', taskId: 'near', description: 'work', command: ['sleep', '600'] });
  const stopped = await manager.stopTask('near', { abandon: true, graceMs: 0, reason: 'enough' });
  expect(stopped).toMatchObject({ status: 'killed', stop: { cause: 'user' }, stopReason: 'enough' });
  expect(await manager.stopTask('near', { abandon: true })).toEqual(stopped);
  await expect(manager.stopTask('near', { abandon: 'yes' as never })).rejects.toMatchObject({ code: 'INVALID_SPEC' });
});

it('abandonAfterMs: 0 settles it before open resolves', async () => {
  const clock = new FakeClock();
  const directory = await far(clock);
  const manager = await openManager({ directory, reconcileIntervalMs: 0, abandonAfterMs: 0 }, clock);
  expect(manager.status().lastReconcile!.report).toMatchObject({ lost: ['far'], adopted: [] });
  expect(manager.getTask('far')).toMatchObject({
    status: 'lost',
    stopReason: `abandoned after 0 ms out of reach (it ran ${where})`,
  });
});

it('abandonAfterMs counts from the moment when this manager first found it, on the monotonic clock', async () => {
  const clock = new FakeClock();
  const directory = await far(clock);
  const manager = await openManager({ directory, reconcileIntervalMs: 0, abandonAfterMs: 60_000 }, clock);
  clock.jump(3_600_000);
  await clock.advance(59_999);
  await manager.reconcile();
  expect(manager.getTask('far')).toMatchObject({ status: 'running' });
  await clock.advance(1);
  const report = await manager.reconcile();
  expect(report).toMatchObject({ settled: ['far'], lost: ['far'] });
});

it.each([-1, Number.NaN, Number.POSITIVE_INFINITY, '5'])('abandonAfterMs %s is refused', async (abandonAfterMs) => {
  await expect(openManager({ abandonAfterMs: abandonAfterMs as number })).rejects.toMatchObject({
    code: 'INVALID_OPTIONS',
  });
});

it('what left an exit record ends by it, however little patience there is', async () => {
  const clock = new FakeClock();
  const directory = await far(clock);
  ends(directory, 0, clock);
  const manager = await openManager({ directory, reconcileIntervalMs: 0, abandonAfterMs: 0 }, clock);
  expect(manager.getTask('far')).toMatchObject({ status: 'completed' });
});

it('close passes it over at once, and stopAll too', async () => {
  const clock = new FakeClock();
  const directory = await far(clock, {}, ['far', 'farther']);
  const manager = await openManager({ directory, reconcileIntervalMs: 0 }, clock);
  expect(await within('stopAll', manager.stopAll())).toEqual([]);
  const before = bytes(directory);
  // The clock stands still: nothing that waits for a grace would ever end.
  await within('close', manager.close({ tasks: 'stop', graceMs: 1_000 }));
  expect(bytes(directory)).toBe(before);
});

it('a deadline goes on record once, nothing spins, and the true end is judged by it', async () => {
  const clock = new FakeClock();
  const directory = await far(clock, { timeoutMs: 5_000, deadlineAt: clock.now() + 4_000 });
  const manager = await openManager({ directory, reconcileIntervalMs: 0 }, clock);
  const heard = record(manager);
  const stopping = new Promise((resolve) => manager.on('task:stopping', resolve));
  await clock.advance(4_000);
  await within('the deadline', stopping);
  await manager.reconcile();
  await manager.reconcile();
  expect(onDisk(directory, 'far')).toMatchObject({ status: 'running', stop: { cause: 'deadline' } });
  expect(heard.filter((event) => event === 'task:stopping far')).toHaveLength(1);
  expect(clock.pendingTimers).toBe(0);
  await expect(manager.stopTask('far')).rejects.toMatchObject({ code: 'OUT_OF_REACH' });
  ends(directory, 0, clock);
  await manager.reconcile();
  expect(manager.getTask('far')).toMatchObject({ status: 'timed_out', details: { exitCode: 0 } });
});

it('a stop that another host put on record stays without effect here, and abandoning it is lost all the same', async () => {
  const clock = new FakeClock();
  const directory = await far(clock, { stop: { cause: 'user', requestedAt: clock.now() - 1 } });
  const manager = await openManager({ directory, reconcileIntervalMs: 0 }, clock);
  await clock.advance(60_000);
  expect(manager.getTask('far')).toMatchObject({ status: 'running' });
  expect(await manager.stopTask('far', { abandon: true })).toMatchObject({ status: 'lost', stop: { cause: 'user' } });
});
