/* Sentences about stops, outcomes and deadlines that meet on one task. */
import { mkdir, readFile, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineTaskKind } from '../../src/index.js';
import { FakeClock } from '../helpers/clock.js';
import { deferred, next, openManager, record, scratch } from '../helpers/manager.js';
import { until } from '../helpers/wait.js';

async function blockWrites(directory: string, taskId: string): Promise<() => Promise<void>> {
  const path = join(directory, `${taskId}.json.next`);
  await mkdir(path);
  return () => rmdir(path);
}
const onDisk = async (directory: string, taskId: string) =>
  JSON.parse(await readFile(join(directory, `${taskId}.json`), 'utf8'));

describe('an outcome that is known and not on disk yet', () => {
  async function unsettled(clock?: FakeClock, timeoutMs?: number) {
    const directory = await scratch();
    const manager = await openManager({ directory, reconcileIntervalMs: 0, stopGraceMs: 50 }, clock);
    const end = deferred();
    await manager.registerTask({
      kind: 'function',
      taskId: 'f',
      description: 'work',
      timeoutMs,
      run: async () => {
        await end.promise;
        if (timeoutMs === undefined) throw new Error('its own fault');
        return 1;
      },
    });
    const unblock = await blockWrites(directory, 'f');
    const told = next(manager, 'error', 'f');
    end.resolve();
    await told;
    return { directory, manager, unblock };
  }

  it('is not replaced by a stop that comes later', async () => {
    const { directory, manager, unblock } = await unsettled();
    const stopped = manager.stopTask('f').catch(() => undefined);
    await manager.reconcile();
    await unblock();
    await manager.reconcile();
    await stopped;
    expect(await onDisk(directory, 'f')).toMatchObject({ status: 'failed', error: { message: 'its own fault' } });
    expect((await onDisk(directory, 'f')).stop).toBeUndefined();
  });

  it('is not replaced by a deadline that passes meanwhile', async () => {
    const clock = new FakeClock();
    const { directory, manager, unblock } = await unsettled(clock, 1_000);
    await clock.advance(2_000);
    await manager.reconcile();
    await unblock();
    await manager.reconcile();
    await until(() => manager.getTask('f')?.status !== 'running');
    expect(await onDisk(directory, 'f')).toMatchObject({ status: 'completed', result: 1 });
  });
});

describe('the first cause of a stop', () => {
  it('stays when a queued task is stopped twice while the disk refuses', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, maxRunningTasks: 1, whenFull: 'queue', reconcileIntervalMs: 0 });
    manager.on('error', () => undefined);
    await manager.registerTask({ kind: 'function', description: 'work', run: () => new Promise(() => undefined) });
    await manager.registerTask({ kind: 'function', taskId: 'q', description: 'work', run: () => 1 });
    const unblock = await blockWrites(directory, 'q');
    const told = next(manager, 'error', 'q');
    const first = manager.stopTask('q', { reason: 'first' });
    await told;
    await unblock();
    const second = manager.stopTask('q', { reason: 'second' });
    await Promise.all([first, second]);
    expect((await onDisk(directory, 'q')).stop).toMatchObject({ cause: 'user', reason: 'first' });
  });
});

describe('a kind without stop', () => {
  const remote = defineTaskKind({
    name: 'remote',
    details: z.object({}),
    start: () => undefined,
    probe: () => ({ state: 'running' as const }),
  });

  it('does not keep close from ending its queued tasks, and what runs is left at once, without a stop', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, kinds: [remote], maxRunningTasks: 1, whenFull: 'queue' });
    manager.on('error', () => undefined);
    await manager.registerTask({ kind: 'remote', taskId: 'r', description: 'work', details: {} });
    await manager.registerTask({ kind: 'remote', taskId: 'q', description: 'work', details: {} });
    expect(manager.getTask('q')?.status).toBe('queued');
    await manager.close({ tasks: 'stop' });
    expect(await onDisk(directory, 'q')).toMatchObject({ status: 'killed', stop: { cause: 'shutdown' } });
    expect(await onDisk(directory, 'r')).toMatchObject({ status: 'running' });
    expect(await onDisk(directory, 'r')).not.toHaveProperty('stop');
  });
});

describe('looks before it acts', () => {
  it('a deadline that would detach: what has ended is not detached', async () => {
    const clock = new FakeClock();
    let ended = false;
    const remote = defineTaskKind({
      name: 'remote',
      details: z.object({}),
      start: () => undefined,
      probe: () => (ended ? { state: 'completed' as const } : { state: 'running' as const }),
      stop: () => undefined,
    });
    const manager = await openManager({ kinds: [remote], reconcileIntervalMs: 0, hooks: { inbox: 'pull' } }, clock);
    const heard = record(manager);
    const { taskId } = await manager.registerTask({
      kind: 'remote',
      description: 'work',
      details: {},
      detached: false,
      timeoutMs: 1_000,
      detachOnTimeout: true,
    });
    ended = true;
    const release = manager.waitForRelease(taskId);
    await clock.advance(1_000);
    await until(() => heard.length > 1);
    await manager.reconcile();
    expect(await release).toBe('terminal');
    expect(heard).toEqual([`task:started ${taskId}`, `task:settled ${taskId}`]);
    expect(manager.getTask(taskId)?.hooks.inbox?.state).toBe('skipped');
  });

  it('a stop: a function that threw while its output was on its way failed by itself', async () => {
    const manager = await openManager({ reconcileIntervalMs: 0 });
    let thrown = false;
    await manager.registerTask({
      kind: 'function',
      taskId: 'f',
      description: 'work',
      run: ({ appendOutput }) => {
        appendOutput('x'.repeat(32 * 1024 * 1024)).catch(() => undefined);
        thrown = true;
        throw new Error('its own fault');
      },
    });
    expect(thrown).toBe(true);
    expect(await manager.stopTask('f')).toMatchObject({ status: 'failed', error: { message: 'its own fault' } });
  });
});

it('nothing is signalled after close: a stop that was still looking is given up', async () => {
  const answer = deferred<{ state: 'running' }>();
  let slow = false;
  let stops = 0;
  const remote = defineTaskKind({
    name: 'remote',
    details: z.object({}),
    start: () => undefined,
    probe: () => (slow ? answer.promise : { state: 'running' as const }),
    stop: () => {
      stops++;
    },
  });
  const manager = await openManager({ kinds: [remote], reconcileIntervalMs: 0 });
  const { taskId } = await manager.registerTask({ kind: 'remote', description: 'work', details: {} });
  slow = true;
  const stopped = manager.stopTask(taskId);
  stopped.catch(() => undefined);
  await manager.close();
  answer.resolve({ state: 'running' });
  await expect(stopped).rejects.toMatchObject({ code: 'MANAGER_CLOSED' });
  await new Promise((resolve) => setImmediate(resolve));
  expect(stops).toBe(0);
});
