import { describe, expect, it } from 'vitest';
import { FakeClock } from '../helpers/clock.js';
import { deferred, openManager } from '../helpers/manager.js';

const forever = () => new Promise<never>(() => undefined);

describe('waitForTask', () => {
  it('resolves with the task as it stands when the time is up, and never touches it', async () => {
    const clock = new FakeClock();
    const manager = await openManager({ reconcileIntervalMs: 0 }, clock);
    const task = await manager.registerTask({ kind: 'function', description: 'work', run: forever });
    const waited = manager.waitForTask(task.taskId, { timeoutMs: 100 });
    await clock.advance(100);
    expect(await waited).toEqual(task);
    expect(await manager.waitForTask(task.taskId, { timeoutMs: 0 })).toEqual(task);
    expect(clock.pendingTimers).toBe(0);
  });

  it('rejects with the reason of an aborted signal', async () => {
    const manager = await openManager();
    const { taskId } = await manager.registerTask({ kind: 'function', description: 'work', run: forever });
    const reason = new Error('enough');
    await expect(manager.waitForTask(taskId, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const waited = manager.waitForTask(taskId, { signal: controller.signal });
    controller.abort(reason);
    await expect(waited).rejects.toBe(reason);
    expect(manager.getTask(taskId)?.status).toBe('running');
  });

  it('refuses what is no task and no wait', async () => {
    const manager = await openManager();
    await expect(manager.waitForTask('nobody')).rejects.toMatchObject({ code: 'TASK_NOT_FOUND', taskId: 'nobody' });
    await expect(manager.waitForTask('../nobody')).rejects.toMatchObject({ code: 'INVALID_TASK_ID' });
    const { taskId } = await manager.registerTask({ kind: 'function', description: 'work', run: forever });
    await expect(manager.waitForTask(taskId, { timeoutMs: -1 })).rejects.toMatchObject({
      code: 'INVALID_SPEC',
      message: expect.stringContaining('timeoutMs'),
    });
  });
});

describe('waitForAny', () => {
  it('resolves with the first to end', async () => {
    const manager = await openManager();
    const end = deferred();
    const { taskId: slow } = await manager.registerTask({ kind: 'function', description: 'work', run: forever });
    const { taskId: quick } = await manager.registerTask({
      kind: 'function',
      description: 'work',
      run: () => end.promise,
    });
    const named = manager.waitForAny([slow, quick]);
    const any = manager.waitForAny();
    end.resolve();
    expect((await named)?.taskId).toBe(quick);
    expect((await any)?.taskId).toBe(quick);
    expect((await manager.waitForAny([slow, quick]))?.taskId).toBe(quick);
  });

  it('resolves with nothing when the time is up, or when there is nothing to wait for', async () => {
    const clock = new FakeClock();
    const manager = await openManager({ reconcileIntervalMs: 0 }, clock);
    expect(await manager.waitForAny()).toBeUndefined();
    expect(await manager.waitForAny([])).toBeUndefined();
    const { taskId } = await manager.registerTask({ kind: 'function', description: 'work', run: forever });
    const waited = manager.waitForAny([taskId], { timeoutMs: 50 });
    await clock.advance(50);
    expect(await waited).toBeUndefined();
    await expect(manager.waitForAny(['nobody'])).rejects.toMatchObject({ code: 'TASK_NOT_FOUND' });
  });
});

describe('waitForIdle', () => {
  it('waits for tasks registered meanwhile, too', async () => {
    const manager = await openManager();
    expect(await manager.waitForIdle()).toBe(true);
    const ends = [deferred(), deferred()] as const;
    const first = await manager.registerTask({ kind: 'function', description: 'work', run: () => ends[0].promise });
    let idle = false;
    const waited = manager.waitForIdle().then((answer) => {
      idle = true;
      return answer;
    });
    await manager.registerTask({ kind: 'function', description: 'work', run: () => ends[1].promise });
    ends[0].resolve();
    await manager.waitForTask(first.taskId);
    expect(idle).toBe(false);
    ends[1].resolve();
    expect(await waited).toBe(true);
  });

  it('means only what its filter means', async () => {
    const clock = new FakeClock();
    const manager = await openManager({ reconcileIntervalMs: 0 }, clock);
    await manager.registerTask({ kind: 'function', description: 'work', group: 'a', run: forever });
    expect(await manager.waitForIdle({ filter: { group: 'b' } })).toBe(true);
    const waited = manager.waitForIdle({ filter: { group: 'a' }, timeoutMs: 10 });
    await clock.advance(10);
    expect(await waited).toBe(false);
  });
});
