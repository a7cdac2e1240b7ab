import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { BackgroundTaskManager } from '../../src/index.js';
import { FakeClock } from '../helpers/clock.js';
import { deferred, next, openManager, scratch } from '../helpers/manager.js';
import { until } from '../helpers/wait.js';
import { onDisk } from '../helpers/world.js';

const MINUTE = 60_000;
const spec = { kind: 'function', description: 'work', run: () => 1 } as const;
const gone = (manager: BackgroundTaskManager, ...taskIds: string[]) =>
  until(() => taskIds.every((taskId) => manager.getTask(taskId) === undefined));

describe('ttlMs', () => {
  it('removes the record so long after its end, foreground tasks included, without a pass', async () => {
    const directory = await scratch();
    const clock = new FakeClock();
    const manager = await openManager({ directory, reconcileIntervalMs: 0 }, clock);
    await manager.registerTask({ ...spec, taskId: 'later', ttlMs: 5 * MINUTE });
    await manager.registerTask({ ...spec, taskId: 'soon', ttlMs: MINUTE, detached: false });
    await manager.registerTask({ ...spec, taskId: 'stays' });
    for (const taskId of ['later', 'soon', 'stays']) await manager.waitForTask(taskId);
    expect(onDisk(directory, 'soon')).toMatchObject({ ttlMs: MINUTE });
    await until(() => clock.nextTimerIn === MINUTE);
    await clock.advance(MINUTE - 1);
    expect(manager.getTask('soon')).toBeDefined();
    await clock.advance(1);
    await gone(manager, 'soon');
    expect(manager.getTask('later')).toBeDefined();
    await until(() => clock.nextTimerIn === 4 * MINUTE);
    await clock.advance(4 * MINUTE);
    await gone(manager, 'later');
    expect(existsSync(join(directory, 'later.json'))).toBe(false);
    expect(manager.getTask('stays')).toBeDefined();
    expect(clock.pendingTimers).toBe(0);
  });

  it('of 0 means as soon as it has ended; whoever waits still gets the task', async () => {
    const manager = await openManager();
    const task = await manager.registerTask({ ...spec, taskId: 'brief', ttlMs: 0 });
    expect(await manager.waitForTask(task)).toMatchObject({ status: 'completed', result: 1 });
    await gone(manager, 'brief');
  });

  it('never removes a task that owes a delivery; then it goes as soon as that is paid', async () => {
    const manager = await openManager({ hooks: { inbox: 'pull' } });
    await manager.registerTask({ ...spec, taskId: 'owing', ttlMs: 0 });
    await manager.registerTask({ ...spec, taskId: 'free', ttlMs: 0, hooks: [] });
    await manager.waitForTask('owing');
    await gone(manager, 'free');
    expect(manager.getTask('owing')).toMatchObject({ status: 'completed' });
    await manager.acknowledge('owing', 'inbox');
    await gone(manager, 'owing');
  });

  it('holds after a restart, also where its time came while nobody lived', async () => {
    const directory = await scratch();
    const clock = new FakeClock();
    const first = await openManager({ directory, reconcileIntervalMs: 0 }, clock);
    await first.registerTask({ ...spec, taskId: 'past', ttlMs: MINUTE });
    await first.registerTask({ ...spec, taskId: 'future', ttlMs: 3 * MINUTE });
    await first.waitForIdle();
    await first.close();
    expect(clock.pendingTimers).toBe(0);
    await clock.advance(2 * MINUTE);
    const second = await openManager({ directory, reconcileIntervalMs: 0 }, clock);
    await gone(second, 'past');
    expect(second.getTask('future')).toBeDefined();
    await until(() => clock.nextTimerIn === MINUTE);
    await clock.advance(MINUTE);
    await gone(second, 'future');
  });

  it('keeps one timer for any number of tasks, and none for those that went otherwise', async () => {
    const clock = new FakeClock();
    const manager = await openManager({ reconcileIntervalMs: 0 }, clock);
    for (let i = 0; i < 60; i++) await manager.registerTask({ ...spec, taskId: `t-${i}`, ttlMs: (60 - i) * MINUTE });
    await manager.waitForIdle();
    await until(() => clock.nextTimerIn === MINUTE);
    expect(clock.pendingTimers).toBe(1);
    await manager.pruneTasks({ taskIds: Array.from({ length: 59 }, (_, i) => `t-${i + 1}`) });
    await clock.advance(59 * MINUTE);
    expect(manager.getTask('t-0')).toBeDefined();
    await clock.advance(MINUTE);
    await gone(manager, 't-0');
    expect(clock.pendingTimers).toBe(0);
  });

  it('is refused where it is no time', async () => {
    const manager = await openManager();
    for (const ttlMs of [-1, Number.NaN, Number.POSITIVE_INFINITY, '1']) {
      await expect(manager.registerTask({ ...spec, ttlMs } as never)).rejects.toMatchObject({
        code: 'INVALID_SPEC',
        message: expect.stringContaining('ttlMs'),
      });
    }
    expect(manager.listTasks()).toEqual([]);
  });
});

describe('pruneTasks with taskIds', () => {
  it('removes these and no others, combined with the other conditions', async () => {
    const manager = await openManager({ hooks: { inbox: 'pull' } });
    const end = deferred();
    for (const taskId of ['a', 'b', 'c', 'd']) {
      await manager.registerTask({ ...spec, taskId, hooks: [], group: taskId === 'd' ? 'kept' : 'g' });
      await manager.waitForTask(taskId);
    }
    await manager.registerTask({ ...spec, taskId: 'owing' });
    await manager.registerTask({ ...spec, taskId: 'runs', hooks: [], run: () => end.promise });
    await manager.waitForTask('owing');
    const b = manager.getTask('b')!;
    expect(await manager.pruneTasks({ taskIds: [] })).toEqual([]);
    expect(
      await manager.pruneTasks({ taskIds: ['a', b, 'd', 'owing', 'runs', 'none'], filter: { group: 'g' } }),
    ).toEqual(expect.arrayContaining(['a', 'b']));
    expect(
      manager
        .listTasks()
        .map(({ taskId }) => taskId)
        .sort(),
    ).toEqual(['c', 'd', 'owing', 'runs']);
    // The newest three that have ended are c, d and owing.
    expect(await manager.pruneTasks({ taskIds: ['c'], keep: 3 })).toEqual([]);
    expect(await manager.pruneTasks({ taskIds: ['c'], keep: 2 })).toEqual(['c']);
    end.resolve();
    await manager.waitForTask('runs');
  });

  it('refuses what is neither an id nor a task before anything is removed', async () => {
    const manager = await openManager();
    await manager.registerTask({ ...spec, taskId: 'a' });
    await manager.waitForTask('a');
    for (const bad of [5, {}, 'UPPER', null]) {
      await expect(manager.pruneTasks({ taskIds: ['a', bad] as never })).rejects.toMatchObject({
        code: 'INVALID_TASK_ID',
      });
    }
    await expect(manager.pruneTasks({ taskIds: 'a' } as never)).rejects.toMatchObject({ code: 'INVALID_SPEC' });
    expect(manager.getTask('a')).toBeDefined();
  });
});

describe('waitForTask with orWaiting', () => {
  const asks = { ...spec, run: async ({ requestInput }: any) => requestInput('Well?') };

  it('resolves once the task waits for an answer, or ends', async () => {
    const manager = await openManager();
    const begin = deferred();
    const run = async ({ requestInput }: any) => {
      await begin.promise;
      return requestInput('Well?');
    };
    const task = await manager.registerTask({ ...spec, taskId: 't', run });
    const waiting = manager.waitForTask(task, { orWaiting: true });
    const ended = manager.waitForTask(task, { orWaiting: false });
    begin.resolve();
    expect(await waiting).toMatchObject({ status: 'waiting', waitingFor: { prompt: 'Well?' } });
    expect(await manager.waitForTask('t', { orWaiting: true })).toMatchObject({ status: 'waiting' });
    await manager.provideInput(task, 'yes');
    expect(await ended).toMatchObject({ status: 'completed', result: 'yes' });
    expect(await manager.waitForTask(task, { orWaiting: true })).toMatchObject({ status: 'completed' });
  });

  it('takes no other value', async () => {
    const manager = await openManager();
    const asked = next(manager, 'task:waiting', 't');
    await manager.registerTask({ ...asks, taskId: 't' });
    await asked;
    await expect(manager.waitForTask('t', { orWaiting: 1 } as never)).rejects.toMatchObject({ code: 'INVALID_SPEC' });
  });
});

describe('calls that take a task', () => {
  it('take the task itself where they take its id', async () => {
    const manager = await openManager({ hooks: { inbox: 'pull', other: 'pull' } });
    const run = async ({ requestInput, appendOutput }: any) => {
      await appendOutput('said');
      return requestInput('Well?');
    };
    const task = await manager.registerTask({ ...spec, taskId: 't', detached: false, run });
    await manager.waitForTask(task, { orWaiting: true });
    expect(await manager.detachTask(task)).toMatchObject({ detached: true });
    expect(await manager.waitForRelease(task)).toBe('detached');
    expect(await manager.updateTask(task, { description: 'new' })).toMatchObject({ description: 'new' });
    expect((await manager.readOutput(task)).text).toBe('said');
    await manager.provideInput(task, 7);
    expect(await manager.waitForAny([task])).toMatchObject({ status: 'completed' });
    let text = '';
    for await (const chunk of manager.followOutput(task)) text += chunk;
    expect(text).toBe('said');
    expect(await manager.readResult(task)).toBe(7);
    expect(await manager.stopTask(task)).toMatchObject({ status: 'completed' });
    await manager.skipHook(task, 'other');
    expect(await manager.acknowledge(task, 'inbox')).toMatchObject({ hooks: { inbox: { state: 'delivered' } } });
    await expect(manager.redeliver(task, 'none')).rejects.toMatchObject({ code: 'UNKNOWN_HOOK' });
    expect(manager.getTask(task)).toMatchObject({ description: 'new' });
    expect(await manager.pruneTasks({ taskIds: [task] })).toEqual(['t']);
    expect(manager.getTask(task)).toBeUndefined();
    await expect(manager.stopTask(task)).rejects.toMatchObject({ code: 'TASK_NOT_FOUND' });
    expect(() => manager.getTask({} as never)).toThrow(expect.objectContaining({ code: 'INVALID_TASK_ID' }));
  });
});
