import { existsSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Delivery } from '../../src/index.js';
import { FakeClock } from '../helpers/clock.js';
import { startHost } from '../helpers/host.js';
import { deferred, next, openManager, record, scratch } from '../helpers/manager.js';
import { until } from '../helpers/wait.js';
import { afterKill, jobKind, onDisk, World } from '../helpers/world.js';

/** Work that ends when it is told to stop. */
const obedient = {
  kind: 'function',
  description: 'work',
  run: ({ signal }: { signal: AbortSignal }) =>
    new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
} as const;
const foreground = { ...obedient, detached: false } as const;

/** A hook that remembers whom it was called for. */
function listening() {
  const calls: string[] = [];
  const hook = (_: unknown, { deliveryId }: Delivery) => void calls.push(deliveryId);
  return { calls, hook };
}

describe('a foreground task', () => {
  it('is on record like any other, takes no slot, owes its hooks as pending, and is hidden from lists', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, maxRunningTasks: 1, hooks: { inbox: 'pull' } });
    const heard = record(manager);
    await manager.registerTask({ ...foreground, taskId: 'f1', signal: undefined });
    await manager.registerTask({ ...foreground, taskId: 'f2' });
    expect(onDisk(directory, 'f1')).toMatchObject({
      status: 'running',
      detached: false,
      hooks: { inbox: { state: 'pending', attempts: 0 } },
    });
    expect(manager.status()).toMatchObject({ running: 2, slots: { used: 0 } });
    expect(manager.listTasks()).toEqual([]);
    expect(manager.listTasks({ includeForeground: true }).map((task) => task.taskId)).toEqual(['f2', 'f1']);
    expect(manager.getTask('f1')?.detached).toBe(false);
    await manager.registerTask({ ...obedient, taskId: 'd' });
    expect(heard).toEqual(['task:started f1', 'task:started f2', 'task:started d']);
  });

  it('starts at once where detached work would be refused or queued', async () => {
    const manager = await openManager({ maxRunningTasks: 1, maxRunningTasksPerGroup: 1, whenFull: 'queue' });
    await manager.registerTask({ ...obedient, group: 'g' });
    expect((await manager.registerTask({ ...obedient, group: 'g' })).status).toBe('queued');
    expect((await manager.registerTask({ ...foreground, group: 'g' })).status).toBe('running');
  });

  it('that ends there owes nothing: its hooks are skipped in the write of its outcome, and never called', async () => {
    const directory = await scratch();
    const { calls, hook } = listening();
    const manager = await openManager({ directory, hooks: { conversation: hook } });
    const { taskId } = await manager.registerTask({ ...foreground, run: () => 'done' });
    const { task } = await next(manager, 'task:settled', taskId);
    expect(task).toMatchObject({
      status: 'completed',
      detached: false,
      hooks: { conversation: { state: 'skipped', attempts: 0 } },
    });
    expect(onDisk(directory, taskId)).toEqual(task);
    expect(await manager.waitForRelease(taskId)).toBe('terminal');
    const other = await manager.registerTask({ kind: 'function', description: 'work', run: () => 1 });
    await until(() => calls.length > 0);
    expect(calls).toEqual([`${other.taskId}:conversation`]);
  });

  it('ends at its deadline like any other', async () => {
    const clock = new FakeClock();
    const manager = await openManager({ reconcileIntervalMs: 0, hooks: { inbox: 'pull' } }, clock);
    const { taskId } = await manager.registerTask({ ...foreground, timeoutMs: 1_000 });
    const release = manager.waitForRelease(taskId);
    await clock.advance(1_000);
    expect(await release).toBe('terminal');
    expect(manager.getTask(taskId)).toMatchObject({ status: 'timed_out', hooks: { inbox: { state: 'skipped' } } });
  });

  it('that is a process ends with the host that closes, because nobody waits for it any more', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    await manager.registerTask({
      kind: 'process',
      taskId: 'p',
      description: 'work',
      command: 'sleep 60',
      detached: false,
    });
    await manager.registerTask({ kind: 'process', taskId: 'd', description: 'work', command: 'sleep 60' });
    await manager.close();
    const again = await openManager({ directory });
    expect(again.getTask('p')).toMatchObject({ status: 'killed', detached: false, stop: { cause: 'shutdown' } });
    expect(again.getTask('d')).toMatchObject({ status: 'running' });
  });
});

describe('detachTask', () => {
  it('is durable before anybody hears of it, counts though full, and owes the hooks', async () => {
    const directory = await scratch();
    const { calls, hook } = listening();
    const manager = await openManager({ directory, maxRunningTasks: 1, hooks: { conversation: hook } });
    const held = await manager.registerTask({ ...obedient, hooks: [] });
    const end = deferred<string>();
    const { taskId } = await manager.registerTask({ ...foreground, run: () => end.promise });
    let whenHeard: unknown;
    manager.on('task:detached', ({ task, byTimeout }) => {
      whenHeard = { same: onDisk(directory, task.taskId), task, byTimeout };
    });
    const release = manager.waitForRelease(taskId);
    const task = await manager.detachTask(taskId);
    expect(task).toMatchObject({ taskId, detached: true, status: 'running' });
    expect(whenHeard).toEqual({ same: task, task, byTimeout: false });
    expect(await release).toBe('detached');
    expect(manager.status().slots).toEqual({ used: 2, limit: 1 });
    expect(manager.listTasks({ active: true }).map((one) => one.taskId)).toEqual([taskId, held.taskId]);

    await manager.stopTask(held.taskId);
    await expect(manager.registerTask(obedient)).rejects.toMatchObject({ code: 'CAPACITY_EXCEEDED' });
    end.resolve('done');
    expect(await manager.waitForTask(taskId)).toMatchObject({ status: 'completed' });
    await until(() => calls.length > 0);
    expect(calls).toEqual([`${taskId}:conversation`]);
    expect(manager.status().slots.used).toBe(0);
    expect(await manager.waitForRelease(taskId)).toBe('detached');
  });

  it('counts in the group, too', async () => {
    const manager = await openManager({ maxRunningTasksPerGroup: 1 });
    const { taskId } = await manager.registerTask({ ...foreground, group: 'g' });
    await manager.detachTask(taskId);
    await expect(manager.registerTask({ ...obedient, group: 'g' })).rejects.toMatchObject({
      code: 'CAPACITY_EXCEEDED',
    });
    await manager.stopTask(taskId);
    expect((await manager.registerTask({ ...obedient, group: 'g' })).status).toBe('running');
  });

  it('happens once, however often asked, and leaves detached and ended tasks as they are', async () => {
    const manager = await openManager();
    const { taskId } = await manager.registerTask(foreground);
    const heard = record(manager);
    const [one, two] = await Promise.all([manager.detachTask(taskId), manager.detachTask(taskId)]);
    expect(two).toEqual(one);
    const detached = await manager.registerTask(obedient);
    expect(await manager.detachTask(detached.taskId)).toEqual(detached);
    const ended = await manager.registerTask({ ...foreground, run: () => 1 });
    await manager.waitForTask(ended.taskId);
    expect(await manager.detachTask(ended.taskId)).toMatchObject({ status: 'completed', detached: false });
    expect(heard.filter((event) => event.startsWith('task:detached'))).toEqual([`task:detached ${taskId}`]);
    expect(manager.status().slots.used).toBe(2);
  });

  it('refuses an id that is not there', async () => {
    const manager = await openManager();
    await expect(manager.detachTask('nobody')).rejects.toMatchObject({ code: 'TASK_NOT_FOUND' });
    await expect(manager.waitForRelease('nobody')).rejects.toMatchObject({ code: 'TASK_NOT_FOUND' });
  });

  it('changes nothing about the output: it is complete from the first byte', async () => {
    const manager = await openManager();
    const { taskId } = await manager.registerTask({
      kind: 'process',
      description: 'work',
      command: 'echo first; while [ ! -e "$GO" ]; do sleep 0.02; done; echo last',
      env: { GO: `${await scratch()}/go` },
      detached: false,
      timeoutMs: 60_000,
    });
    await until(async () => (await manager.readOutput(taskId)).text === 'first\n');
    await manager.detachTask(taskId);
    await manager.stopTask(taskId, { graceMs: 0 });
    expect((await manager.readOutput(taskId)).text).toBe('first\n');
    expect(manager.getTask(taskId)).toMatchObject({ status: 'killed', detached: true });
  });
});

describe('the deadline of a task that is detached', () => {
  async function detachAfter(ms: number, spec: object) {
    const clock = new FakeClock();
    const directory = await scratch();
    const manager = await openManager({ directory, reconcileIntervalMs: 0, stopGraceMs: 0 }, clock);
    const { taskId } = await manager.registerTask({ ...foreground, timeoutMs: 1_000, ...spec });
    await clock.advance(ms);
    await manager.detachTask(taskId);
    return { clock, manager, taskId, deadlineAt: onDisk(directory, taskId).deadlineAt, now: clock.now() };
  }

  it('stays where detachTimeoutMs is absent', async () => {
    const { clock, manager, taskId, deadlineAt, now } = await detachAfter(600, {});
    expect(deadlineAt).toBe(now + 400);
    const settled = next(manager, 'task:settled', taskId);
    await clock.advance(400);
    expect((await settled).task).toMatchObject({ status: 'timed_out', stop: { cause: 'deadline' } });
  });

  it('is counted anew from that moment with detachTimeoutMs', async () => {
    const { clock, manager, taskId, deadlineAt, now } = await detachAfter(600, { detachTimeoutMs: 5_000 });
    expect(deadlineAt).toBe(now + 5_000);
    await clock.advance(4_999);
    expect(manager.getTask(taskId)?.status).toBe('running');
    const settled = next(manager, 'task:settled', taskId);
    await clock.advance(1);
    expect((await settled).task.status).toBe('timed_out');
  });

  it('begins with detachTimeoutMs where there was none', async () => {
    const { deadlineAt, now } = await detachAfter(600, { timeoutMs: 0, detachTimeoutMs: 5_000 });
    expect(deadlineAt).toBe(now + 5_000);
  });

  it('is gone with detachTimeoutMs 0', async () => {
    const { clock, manager, taskId, deadlineAt } = await detachAfter(600, { detachTimeoutMs: 0 });
    expect(deadlineAt).toBeUndefined();
    await clock.advance(1e9);
    await manager.reconcile();
    expect(manager.getTask(taskId)?.status).toBe('running');
  });
});

describe('detachOnTimeout', () => {
  it('makes the deadline detach the task, with no deadline left', async () => {
    const clock = new FakeClock();
    const directory = await scratch();
    const manager = await openManager({ directory, reconcileIntervalMs: 0 }, clock);
    const { taskId } = await manager.registerTask({ ...foreground, timeoutMs: 1_000, detachOnTimeout: true });
    const release = manager.waitForRelease(taskId);
    const detached = next(manager, 'task:detached', taskId);
    await clock.advance(1_000);
    const { task, byTimeout } = await detached;
    expect(byTimeout).toBe(true);
    expect(task).toMatchObject({ status: 'running', detached: true });
    expect(task).not.toHaveProperty('deadlineAt');
    expect(task).not.toHaveProperty('stop');
    expect(onDisk(directory, taskId)).toEqual(task);
    expect(await release).toBe('detached_by_timeout');
    expect(await manager.waitForRelease(taskId)).toBe('detached_by_timeout');
    expect(manager.status().slots.used).toBe(1);
    await clock.advance(1e9);
    await manager.reconcile();
    expect(manager.getTask(taskId)?.status).toBe('running');
  });

  it('counts detachTimeoutMs from that moment', async () => {
    const clock = new FakeClock();
    const manager = await openManager({ reconcileIntervalMs: 0, stopGraceMs: 0 }, clock);
    const spec = { ...foreground, timeoutMs: 1_000, detachOnTimeout: true, detachTimeoutMs: 3_000 };
    const { taskId, startedAt } = await manager.registerTask(spec);
    const detached = next(manager, 'task:detached', taskId);
    await clock.advance(1_000);
    expect((await detached).task.deadlineAt).toBe(startedAt! + 4_000);
    const settled = next(manager, 'task:settled', taskId);
    await until(() => clock.pendingTimers > 0);
    await clock.advance(3_000);
    expect((await settled).task).toMatchObject({ status: 'timed_out', detached: true });
  });

  it('looks before it acts: what has ended in the foreground is not detached', async () => {
    const clock = new FakeClock();
    const world = new World();
    const options = { reconcileIntervalMs: 0, kinds: [jobKind(world)], hooks: { inbox: 'pull' } } as const;
    const manager = await openManager(options, clock);
    const { taskId } = await manager.registerTask({
      kind: 'job',
      description: 'work',
      details: { place: 'here' },
      detached: false,
      timeoutMs: 1_000,
      detachOnTimeout: true,
    });
    const heard = record(manager);
    world.job(taskId).probe = { state: 'completed' };
    const settled = next(manager, 'task:settled', taskId);
    await clock.advance(1_000);
    await manager.reconcile();
    expect((await settled).task).toMatchObject({ status: 'completed', hooks: { inbox: { state: 'skipped' } } });
    expect(heard).toEqual([`task:settled ${taskId}`]);
  });
});

describe('the signal of a foreground task', () => {
  it.each([
    ['an error', new Error('the user pressed escape'), 'the user pressed escape'],
    ['a text', 'the user pressed escape', 'the user pressed escape'],
    ['nothing in particular', undefined, 'This operation was aborted'],
  ])('stops it, and says why: %s', async (_, reason, told) => {
    const manager = await openManager();
    const controller = new AbortController();
    const { taskId } = await manager.registerTask({ ...foreground, signal: controller.signal });
    controller.abort(reason);
    expect(await manager.waitForTask(taskId)).toMatchObject({
      status: 'killed',
      stop: { cause: 'user', reason: told },
      stopReason: told,
    });
    expect(await manager.waitForRelease(taskId)).toBe('terminal');
  });

  it('stops the whole tree of a process', async () => {
    const manager = await openManager();
    const controller = new AbortController();
    const { taskId } = await manager.registerTask({
      kind: 'process',
      description: 'work',
      command: 'sleep 60 & sleep 60',
      detached: false,
      signal: controller.signal,
    });
    controller.abort();
    expect(await manager.waitForTask(taskId)).toMatchObject({ status: 'killed' });
  });

  it('is ignored once the task is detached', async () => {
    const manager = await openManager();
    const controller = new AbortController();
    const sent = await manager.registerTask({ ...foreground, signal: controller.signal });
    await manager.detachTask(sent.taskId);
    const heard = record(manager);
    controller.abort();
    await manager.reconcile();
    expect(manager.getTask(sent.taskId)?.status).toBe('running');
    expect(heard).toEqual([]);
  });

  it('aborted before the call refuses it with its reason; aborted during it stops what was launched', async () => {
    const manager = await openManager();
    const reason = new Error('too late');
    await expect(manager.registerTask({ ...foreground, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(manager.listTasks({ includeForeground: true })).toEqual([]);

    const controller = new AbortController();
    const registering = manager.registerTask({ ...foreground, signal: controller.signal });
    controller.abort(new Error('just now'));
    const { taskId } = await registering;
    expect(await manager.waitForTask(taskId)).toMatchObject({ status: 'killed', stopReason: 'just now' });
  });
});

describe('waitForRelease', () => {
  it('of a task that was never in the foreground is "detached"', async () => {
    const manager = await openManager();
    const { taskId } = await manager.registerTask(obedient);
    expect(await manager.waitForRelease(taskId)).toBe('detached');
  });

  it('never touches the task: when the time is up or its signal aborts, it rejects', async () => {
    const clock = new FakeClock();
    const manager = await openManager({ reconcileIntervalMs: 0, stopGraceMs: 0 }, clock);
    const { taskId } = await manager.registerTask(foreground);
    const late = expect(manager.waitForRelease(taskId, { timeoutMs: 500 })).rejects.toMatchObject({
      name: 'TimeoutError',
    });
    await clock.advance(500);
    await late;
    const reason = new Error('enough');
    const controller = new AbortController();
    const aborted = expect(manager.waitForRelease(taskId, { signal: controller.signal })).rejects.toBe(reason);
    controller.abort(reason);
    await aborted;
    expect(manager.getTask(taskId)).toMatchObject({ status: 'running', detached: false });
  });
});

describe('the foreground work of a dead host', () => {
  it('is adopted as detached where it is a process, and judged and owed where it ended meanwhile', async () => {
    const directory = await scratch();
    const go = `${await scratch()}/go`;
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory, hooks: { conversation: () => {} } });
       const spec = { kind: 'process', description: 'work', detached: false };
       await manager.registerTask({ ...spec, taskId: 'runs', command: 'echo first; while [ ! -e "$GO" ]; do sleep 0.02; done; echo last' });
       await manager.registerTask({ ...spec, taskId: 'ends', command: 'while [ -e /proc/' + process.pid + '/exe ]; do sleep 0.02; done; exit 3' });
       await manager.registerTask({ kind: 'function', taskId: 'dies', description: 'work', detached: false, run: () => new Promise(() => {}) });
       say('ready');`,
      directory,
      { GO: go },
    );
    await host.next();
    await host.kill();
    const exit = join(directory, '.run', 'ends.exit');
    await until(() => existsSync(exit) && readFileSync(exit, 'utf8').endsWith('\n'));

    const { calls, hook } = listening();
    const manager = await openManager({ directory, hooks: { conversation: hook }, maxRunningTasks: 1 });
    const heard = record(manager);
    expect(manager.getTask('runs')).toMatchObject({ status: 'running', detached: true });
    expect(manager.getTask('ends')).toMatchObject({ status: 'failed', detached: true, details: { exitCode: 3 } });
    expect(manager.getTask('dies')).toMatchObject({ status: 'lost', hooks: { conversation: { state: 'skipped' } } });
    expect(manager.status().slots).toEqual({ used: 1, limit: 1 });
    expect(await manager.waitForRelease('runs')).toBe('detached');
    await until(() => heard.includes('task:adopted runs'));
    await writeFile(go, '');
    expect(await manager.waitForTask('runs')).toMatchObject({ status: 'completed' });
    expect((await manager.readOutput('runs')).text).toBe('first\nlast\n');
    await until(() => calls.length === 2);
    expect(calls.sort()).toEqual(['ends:conversation', 'runs:conversation']);
  });

  /** A foreground job, its host killed after `ms`, and another host on what is left. */
  async function adopted(spec: object, ms: number, pause: number) {
    const clock = new FakeClock();
    const world = new World();
    const directory = await scratch();
    const first = await openManager({ directory, reconcileIntervalMs: 0, kinds: [jobKind(world)] }, clock);
    const job = { kind: 'job', taskId: 'j', description: 'work', details: { place: 'here' }, detached: false } as const;
    await first.registerTask({ ...job, timeoutMs: 1_000, ...spec });
    await clock.advance(ms);
    const left = await afterKill(directory);
    const after = world.fork();
    clock.jump(pause);
    const manager = await openManager(
      { directory: left, reconcileIntervalMs: 0, stopGraceMs: 0, kinds: [jobKind(after)] },
      clock,
    );
    return { manager, clock };
  }

  it('keeps its deadline', async () => {
    const { manager, clock } = await adopted({}, 600, 0);
    const settled = next(manager, 'task:settled', 'j');
    await clock.advance(400);
    expect((await settled).task).toMatchObject({ status: 'timed_out', detached: true });
  });

  it.each([0, 5_000])('is not ended by the deadline that was to detach it (away for %i ms)', async (pause) => {
    const { manager, clock } = await adopted({ detachOnTimeout: true }, 600, pause);
    await clock.advance(10_000);
    await manager.reconcile();
    expect(manager.getTask('j')).toMatchObject({ status: 'running', detached: true });
  });

  it('has detachTimeoutMs from the moment of its adoption', async () => {
    const { manager, clock } = await adopted({ detachTimeoutMs: 3_000 }, 600, 0);
    expect(manager.getTask('j')?.deadlineAt).toBe(clock.now() + 3_000);
  });
});
