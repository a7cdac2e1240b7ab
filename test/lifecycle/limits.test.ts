// Limits that the host gives as a function, and which tasks count below them.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { deferred, next, openManager, record, scratch } from '../helpers/manager.js';

const forever = () => new Promise<never>(() => undefined);
const hanging = { kind: 'function', description: 'hangs', run: forever } as const;
const sleeping = { kind: 'process', description: 'sleeps', command: 'exec sleep 60' } as const;

describe('a limit that is a function', () => {
  it('is asked once at each registration that needs a slot, and by reserveSlot', async () => {
    let limit = 1;
    let asked = 0;
    const manager = await openManager({
      maxRunningTasks: () => {
        asked++;
        return limit;
      },
    });
    const asks = async (call: () => unknown) => {
      const before = asked;
      await Promise.resolve()
        .then(call)
        .catch((error: { code: string }) => expect(error.code).toBe('CAPACITY_EXCEEDED'));
      return asked - before;
    };
    expect(await asks(() => manager.registerTask(hanging))).toBe(1);
    expect(await asks(() => manager.registerTask(hanging))).toBe(1);
    expect(await asks(() => manager.reserveSlot())).toBe(1);
    expect(await asks(() => manager.registerTask({ ...hanging, detached: false }))).toBe(0);
    limit = 3;
    expect(manager.status().slots).toEqual({ used: 1, limit: 3 });
    const slot = manager.reserveSlot();
    expect(await asks(() => manager.registerTask({ ...hanging, slot }))).toBe(0);
    limit = 0;
    await expect(manager.registerTask(hanging)).rejects.toMatchObject({
      code: 'CAPACITY_EXCEEDED',
      message: 'no slot is free: 2 of at most 0 tasks are running',
    });
    expect(() => manager.reserveSlot()).toThrow(expect.objectContaining({ code: 'CAPACITY_EXCEEDED' }));
    limit = Number.POSITIVE_INFINITY;
    await manager.registerTask(hanging);
    expect(manager.status()).toMatchObject({ running: 4, slots: { used: 3, limit: Number.POSITIVE_INFINITY } });
  });

  it('is asked for each slot that the queue gives out, not for each task that waits', async () => {
    let limit = 1;
    let asked = 0;
    const maxRunningTasks = () => {
      asked++;
      return limit;
    };
    const manager = await openManager({ maxRunningTasks, whenFull: 'queue', reconcileIntervalMs: 0 });
    const end = deferred();
    await manager.registerTask({ ...hanging, taskId: 'first', run: () => end.promise });
    for (let n = 0; n < 20; n++) await manager.registerTask({ ...hanging, taskId: `t${n}` });
    expect(manager.status()).toMatchObject({ running: 1, queued: 20 });
    limit = 3;
    asked = 0;
    const began = ['t0', 't1', 't2'].map((taskId) => next(manager, 'task:started', taskId));
    end.resolve();
    await Promise.all(began);
    expect(asked).toBe(4); // three slots, and once to hear that there is no fourth
    expect(manager.status()).toMatchObject({ running: 3, queued: 17 });
    // One that has shrunk stops nothing, and nothing begins until the count is below it again.
    limit = 1;
    await manager.stopTask('t0', { graceMs: 0 });
    await manager.stopTask('t1', { graceMs: 0 });
    expect(manager.status()).toMatchObject({ running: 1, queued: 17 });
  });

  it('that has grown lets those begin first that wait already', async () => {
    let limit = 1;
    const manager = await openManager({ maxRunningTasks: () => limit, whenFull: 'queue', reconcileIntervalMs: 0 });
    for (const taskId of ['first', 'second', 'third']) await manager.registerTask({ ...hanging, taskId });
    limit = 2;
    const second = next(manager, 'task:started', 'second');
    expect((await manager.registerTask({ ...hanging, taskId: 'fourth' })).status).toBe('queued');
    await second;
    const statuses = () => manager.listTasks({ order: 'oldest' }).map(({ status }) => status);
    expect(statuses()).toEqual(['running', 'running', 'queued', 'queued']);
    limit = 3;
    expect(() => manager.reserveSlot()).toThrow(expect.objectContaining({ code: 'CAPACITY_EXCEEDED' }));
    expect(manager.status()).toMatchObject({ slots: { used: 3, limit: 3 } });
    limit = 5;
    const started = next(manager, 'task:started', 'fourth');
    await manager.reconcile();
    await started;
    manager.reserveSlot().release();
  });

  it.each([
    ['a fraction', () => 1.5, 'got 1.5'],
    ['less than none', () => -1, 'got -1'],
    ['NaN', () => Number.NaN, 'got NaN'],
    ['a text', () => '8' as never, 'got a string ("8")'],
    ['a promise', (async () => 8) as never, 'got a Promise'],
    ['nothing', () => undefined as never, 'is missing'],
  ])('that says %s is INVALID_OPTIONS, and leaves nothing', async (_, maxRunningTasks: () => number, what) => {
    const manager = await openManager({ maxRunningTasks, whenFull: 'queue' });
    const expected = { code: 'INVALID_OPTIONS', message: expect.stringMatching(/^maxRunningTasks\(\): /) };
    await expect(manager.registerTask({ ...hanging, taskId: 'a' })).rejects.toMatchObject(expected);
    await expect(manager.registerTask({ ...hanging, taskId: 'a' })).rejects.toThrow(what);
    expect(() => manager.reserveSlot()).toThrow(expect.objectContaining(expected));
    expect(manager.status()).toMatchObject({ running: 0, queued: 0, slots: { used: 0, limit: 0 } });
    await manager.registerTask({ ...hanging, taskId: 'a', detached: false });
  });

  it('that fails when the queue asks is told through `error`, and the task waits', async () => {
    let limit: () => number = () => 1;
    const broken = new Error('no configuration');
    const manager = await openManager({ maxRunningTasks: () => limit(), whenFull: 'queue', reconcileIntervalMs: 0 });
    const errors: { error: { code: string; cause?: unknown }; taskId?: string }[] = [];
    manager.on('error', (payload) => {
      errors.push(payload);
    });
    await manager.registerTask({ ...hanging, taskId: 'first' });
    await manager.registerTask({ ...hanging, taskId: 'second' });
    await manager.registerTask({ ...hanging, taskId: 'third' });
    limit = () => {
      throw broken;
    };
    await manager.stopTask('first', { graceMs: 0 });
    expect(errors).toMatchObject([{ error: { code: 'INVALID_OPTIONS', cause: broken }, taskId: 'second' }]);
    expect(manager.status()).toMatchObject({ queued: 2, slots: { used: 0, limit: 0 } });
    await expect(manager.registerTask(hanging)).rejects.toBe(broken);
    limit = () => 7;
    const started = [next(manager, 'task:started', 'second'), next(manager, 'task:started', 'third')];
    await manager.reconcile();
    await Promise.all(started);
  });

  it('may ask the manager how it stands', async () => {
    const manager = await openManager({
      maxRunningTasks: (): number => (manager.status().slots.limit > 4 ? 1 : manager.status().slots.used + 5),
    });
    expect(manager.status().slots).toEqual({ used: 0, limit: 5 });
    expect(manager.status().slots).toEqual({ used: 0, limit: 1 });
    expect(manager.status().slots).toEqual({ used: 0, limit: 5 });
  });
});

describe("countsTowardsLimit: 'registered-detached'", () => {
  const options = { maxRunningTasks: 1, countsTowardsLimit: 'registered-detached', fsync: false } as const;
  const onDisk = async (directory: string, taskId: string) =>
    JSON.parse(await readFile(join(directory, `${taskId}.json`), 'utf8'));

  it('takes no slot for a task that is sent to the background, and gives none back', async () => {
    const directory = await scratch();
    const manager = await openManager({ ...options, directory });
    await manager.registerTask({ ...hanging, taskId: 'shown', group: 'g', detached: false });
    await manager.detachTask('shown');
    expect(manager.getTask('shown')).toMatchObject({ detached: true, status: 'running' });
    expect(manager.status()).toMatchObject({ running: 1, slots: { used: 0 } });
    await manager.registerTask({ ...hanging, taskId: 'counts' });
    await manager.stopTask('shown', { graceMs: 0 });
    expect(manager.status().slots).toEqual({ used: 1, limit: 1 });
    await expect(manager.registerTask(hanging)).rejects.toMatchObject({ code: 'CAPACITY_EXCEEDED' });
    expect(await onDisk(directory, 'shown')).toMatchObject({ takesNoSlot: true });
    expect(await onDisk(directory, 'counts')).not.toHaveProperty('takesNoSlot');
  });

  it('says nothing on record by default, and then such a task takes one', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, maxRunningTasks: 1 });
    await manager.registerTask({ ...hanging, taskId: 'shown', detached: false });
    await manager.detachTask('shown');
    expect(manager.status().slots.used).toBe(1);
    expect(await onDisk(directory, 'shown')).not.toHaveProperty('takesNoSlot');
  });

  it('holds after a restart, whatever the next host says of tasks to come', async () => {
    const directory = await scratch();
    const first = await openManager({ ...options, directory });
    await first.registerTask({ ...sleeping, taskId: 'sent', detached: false });
    await first.detachTask('sent');
    await first.registerTask({ ...sleeping, taskId: 'counts' });
    await first.close();
    const second = await openManager({ ...options, directory, countsTowardsLimit: 'detached' });
    expect(second.status()).toMatchObject({ running: 2, slots: { used: 1 } });
    await second.stopTask('sent', { graceMs: 0 });
    expect(second.status().slots.used).toBe(1);
    await second.stopTask('counts', { graceMs: 0 });
    expect(second.status().slots.used).toBe(0);
  });

  it('lets a task that never began begin without waiting for a slot', async () => {
    const directory = await scratch();
    const first = await openManager({ ...options, directory, whenFull: 'queue' });
    await first.registerTask({ ...sleeping, taskId: 'counts' });
    await first.close();
    // What a host leaves that was killed before the supervisor of its foreground command took its first step.
    const counts = await onDisk(directory, 'counts');
    const details = { ...counts.details, pid: null };
    const unbegun = { ...counts, taskId: 'shown', detached: false, takesNoSlot: true, details };
    await writeFile(join(directory, 'shown.json'), JSON.stringify(unbegun));
    const second = await openManager({ ...options, directory, whenFull: 'queue' });
    const heard = record(second);
    await next(second, 'task:started', 'shown');
    expect(second.getTask('shown')).toMatchObject({ detached: true, attempt: 1 });
    expect(second.status()).toMatchObject({ running: 2, slots: { used: 1, limit: 1 } });
    await second.stopTask('shown', { graceMs: 0 });
    expect(second.status().slots.used).toBe(1);
    expect(heard).toContain('task:settled shown');
  });
});
