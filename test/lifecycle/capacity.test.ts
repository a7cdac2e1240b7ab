import { readdir } from 'node:fs/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Slots } from '../../src/lifecycle/slots.js';
import { deferred, next, openManager, record, scratch } from '../helpers/manager.js';

const forever = () => new Promise<never>(() => undefined);
const hanging = { kind: 'function', description: 'hangs', run: forever } as const;

describe('a limit', () => {
  it('is checked synchronously, before anything happens', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, maxRunningTasks: 3 });
    let started = 0;
    const run = () => {
      started++;
      return forever();
    };
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, () => manager.registerTask({ kind: 'function', description: 'work', run })),
    );
    const refused = results.filter((one) => one.status === 'rejected');
    expect(refused).toHaveLength(17);
    expect(refused[0]).toMatchObject({
      reason: { code: 'CAPACITY_EXCEEDED', message: expect.stringContaining('3 of at most 3') },
    });
    expect(started).toBe(3);
    expect(manager.status()).toMatchObject({ running: 3, slots: { used: 3, limit: 3 } });
    expect((await readdir(directory)).filter((name) => name.endsWith('.json'))).toHaveLength(3);
  });

  it('gives the slot back when the task ends', async () => {
    const manager = await openManager({ maxRunningTasks: 1 });
    for (let n = 0; n < 3; n++) {
      const { taskId } = await manager.registerTask({ kind: 'function', description: 'work', run: () => n });
      await manager.waitForTask(taskId);
    }
    expect(manager.status().slots.used).toBe(0);
  });

  it('counts each group by itself, and tasks without a group in none', async () => {
    const manager = await openManager({ maxRunningTasksPerGroup: (group) => (group === 'main' ? 2 : 1) });
    await manager.registerTask({ ...hanging, group: 'main' });
    await manager.registerTask({ ...hanging, group: 'main' });
    await expect(manager.registerTask({ ...hanging, group: 'main' })).rejects.toMatchObject({
      code: 'CAPACITY_EXCEEDED',
      message: expect.stringContaining('"main"'),
    });
    await manager.registerTask({ ...hanging, group: 'other' });
    await expect(manager.registerTask({ ...hanging, group: 'other' })).rejects.toMatchObject({
      code: 'CAPACITY_EXCEEDED',
    });
    await manager.registerTask(hanging);
    expect(manager.status().running).toBe(4);
  });

  it('refuses a limit for a group that is no number', async () => {
    const manager = await openManager({ maxRunningTasksPerGroup: () => Number.NaN });
    await expect(manager.registerTask({ ...hanging, group: 'x' })).rejects.toMatchObject({ code: 'INVALID_OPTIONS' });
    expect(manager.status().slots.used).toBe(0);
  });

  it('lets foreground tasks pass', async () => {
    const manager = await openManager({ maxRunningTasks: 1 });
    await manager.registerTask(hanging);
    await manager.registerTask({ ...hanging, detached: false });
    expect(manager.status()).toMatchObject({ running: 2, slots: { used: 1 } });
  });
});

describe('the queue', () => {
  it('starts the oldest first, when a slot is free', async () => {
    const manager = await openManager({ maxRunningTasks: 1, whenFull: 'queue' });
    const heard = record(manager);
    const ends = Array.from({ length: 3 }, () => deferred());
    const tasks = [];
    for (const [n, end] of ends.entries()) {
      tasks.push(
        await manager.registerTask({ kind: 'function', taskId: `t${n}`, description: 'work', run: () => end.promise }),
      );
    }
    expect(tasks.map(({ status }) => status)).toEqual(['running', 'queued', 'queued']);
    expect(tasks[1]).toMatchObject({ startedAt: null });
    for (const [n, end] of ends.entries()) {
      end.resolve();
      await manager.waitForTask(`t${n}`);
    }
    expect(heard).toEqual([
      'task:started t0',
      'task:queued t1',
      'task:queued t2',
      'task:settled t0',
      'task:started t1',
      'task:settled t1',
      'task:started t2',
      'task:settled t2',
    ]);
  });

  it('lets a task of another group pass one whose group is full', async () => {
    const manager = await openManager({ maxRunningTasks: 2, maxRunningTasksPerGroup: 1, whenFull: 'queue' });
    const end = deferred();
    await manager.registerTask({ kind: 'function', taskId: 'a1', description: 'work', group: 'a', run: forever });
    await manager.registerTask({
      kind: 'function',
      taskId: 'b1',
      description: 'work',
      group: 'b',
      run: () => end.promise,
    });
    await manager.registerTask({ kind: 'function', taskId: 'a2', description: 'work', group: 'a', run: forever });
    await manager.registerTask({ kind: 'function', taskId: 'b2', description: 'work', group: 'b', run: forever });
    const started = next(manager, 'task:started', 'b2');
    end.resolve();
    await started;
    expect(manager.getTask('a2')?.status).toBe('queued');
  });

  it('never starts a task that was stopped while queued', async () => {
    const manager = await openManager({ maxRunningTasks: 1, whenFull: 'queue' });
    const end = deferred();
    await manager.registerTask({ kind: 'function', taskId: 'first', description: 'work', run: () => end.promise });
    let ran = false;
    await manager.registerTask({
      kind: 'function',
      taskId: 'second',
      description: 'work',
      run: () => {
        ran = true;
      },
    });
    const stopped = await manager.stopTask('second', { reason: 'changed my mind' });
    expect(stopped).toMatchObject({
      status: 'killed',
      startedAt: null,
      stop: { cause: 'user' },
      stopReason: 'changed my mind',
    });
    end.resolve();
    await manager.waitForIdle();
    expect(ran).toBe(false);
  });

  it('is emptied by a close that stops everything: what was never started is killed', async () => {
    const manager = await openManager({ maxRunningTasks: 1, whenFull: 'queue', stopGraceMs: 0 });
    await manager.registerTask(hanging);
    const { taskId } = await manager.registerTask(hanging);
    const settled = next(manager, 'task:settled', taskId);
    await manager.close({ tasks: 'stop' });
    expect((await settled).task).toMatchObject({ status: 'killed', stop: { cause: 'shutdown' } });
  });

  it('can be asked for, or refused, by a single task', async () => {
    const manager = await openManager({ maxRunningTasks: 1 });
    await manager.registerTask(hanging);
    expect((await manager.registerTask({ ...hanging, whenFull: 'queue' })).status).toBe('queued');
    await expect(manager.registerTask({ ...hanging, whenFull: 'reject' })).rejects.toMatchObject({
      code: 'CAPACITY_EXCEEDED',
    });
  });
});

describe('a reserved slot', () => {
  it('counts until it is released, and only once', async () => {
    const manager = await openManager({ maxRunningTasks: 1, whenFull: 'queue' });
    const slot = manager.reserveSlot();
    expect(manager.status().slots.used).toBe(1);
    expect(() => manager.reserveSlot()).toThrow(expect.objectContaining({ code: 'CAPACITY_EXCEEDED' }));
    slot.release();
    slot.release();
    expect(manager.status().slots.used).toBe(0);
    {
      using _ = manager.reserveSlot();
      expect(manager.status().slots.used).toBe(1);
    }
    expect(manager.status().slots.used).toBe(0);
  });

  it('goes over to the task', async () => {
    const manager = await openManager({ maxRunningTasks: 1 });
    const slot = manager.reserveSlot({ group: 'g' });
    const { taskId } = await manager.registerTask({ ...hanging, group: 'g', slot });
    slot.release();
    expect(manager.status().slots.used).toBe(1);
    await manager.stopTask(taskId, { graceMs: 0 });
    expect(manager.status().slots.used).toBe(0);
  });

  it('is given back when the registration is refused', async () => {
    const manager = await openManager({ maxRunningTasks: 1 });
    await expect(
      manager.registerTask({ ...hanging, description: 1 as never, slot: manager.reserveSlot() }),
    ).rejects.toMatchObject({ code: 'INVALID_SPEC' });
    expect(manager.status().slots.used).toBe(0);
    await expect(manager.registerTask({ ...hanging, group: 'g', slot: manager.reserveSlot() })).rejects.toMatchObject({
      code: 'INVALID_SPEC',
    });
    expect(manager.status().slots.used).toBe(0);
    const used = manager.reserveSlot();
    used.release();
    await expect(manager.registerTask({ ...hanging, slot: used })).rejects.toMatchObject({ code: 'INVALID_SPEC' });
  });
});

it('adds up, whatever is taken and released in whatever order', () => {
  const action = fc.record({
    take: fc.boolean(),
    forced: fc.boolean(),
    group: fc.option(fc.constantFrom('a', 'b'), { nil: undefined }),
    index: fc.nat(20),
  });
  fc.assert(
    fc.property(
      fc.array(action, { maxLength: 60 }),
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 0, max: 3 }),
      (actions, limit, groupLimit) => {
        const slots = new Slots(
          () => limit,
          () => groupLimit,
        );
        const held: { group: string | undefined; hold: { release(): void } }[] = [];
        for (const { take, forced, group, index } of actions) {
          if (take) {
            const before = { all: held.length, group: held.filter((one) => one.group === group).length };
            const hold = forced ? slots.take(group) : slots.tryTake(group);
            const free = before.all < limit && (group === undefined || before.group < groupLimit);
            expect(hold !== undefined).toBe(forced || free);
            if (hold) held.push({ group, hold });
          } else if (held.length > 0) {
            const [one] = held.splice(index % held.length, 1);
            one!.hold.release();
            one!.hold.release();
          }
          expect(slots.used).toBe(held.length);
        }
      },
    ),
  );
});
