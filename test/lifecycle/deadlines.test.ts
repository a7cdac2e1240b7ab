import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Deadline } from '../../src/lifecycle/task/deadline.js';
import { FakeClock } from '../helpers/clock.js';
import { deferred, next, openManager, scratch } from '../helpers/manager.js';

const DAY = 86_400_000;

/** Work that ends when it is told to. */
const obedient = {
  kind: 'function',
  description: 'work',
  run: ({ signal }: { signal: AbortSignal }) =>
    new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
} as const;

describe('a deadline', () => {
  it('is absolute, on record, and ends the task', async () => {
    const directory = await scratch();
    const clock = new FakeClock();
    const manager = await openManager({ directory, reconcileIntervalMs: 0 }, clock);
    const { taskId, startedAt } = await manager.registerTask({ ...obedient, timeoutMs: 1_000 });
    const onDisk = JSON.parse(await readFile(join(directory, `${taskId}.json`), 'utf8'));
    expect(onDisk).toMatchObject({ timeoutMs: 1_000, deadlineAt: startedAt! + 1_000 });
    const settled = next(manager, 'task:settled', taskId);
    await clock.advance(999);
    expect(manager.getTask(taskId)?.status).toBe('running');
    await clock.advance(1);
    expect((await settled).task).toMatchObject({
      status: 'timed_out',
      stop: { cause: 'deadline' },
      stopReason: expect.stringContaining('1000 ms'),
    });
  });

  it('is right beyond what a timer can hold', async () => {
    const clock = new FakeClock();
    const manager = await openManager({ reconcileIntervalMs: 0 }, clock);
    const { taskId } = await manager.registerTask({ ...obedient, timeoutMs: 40 * DAY });
    await clock.advance(39 * DAY);
    expect(manager.getTask(taskId)?.status).toBe('running');
    const settled = next(manager, 'task:settled', taskId);
    await clock.advance(DAY);
    expect((await settled).task.status).toBe('timed_out');
  });

  it('waits longer when the clock was set back, and is found by a reconcile when it was set forward', async () => {
    const clock = new FakeClock();
    const manager = await openManager({ reconcileIntervalMs: 0 }, clock);
    const { taskId } = await manager.registerTask({ ...obedient, timeoutMs: 1_000 });
    clock.jump(-3_600_000);
    await clock.advance(2_000);
    await manager.reconcile();
    expect(manager.getTask(taskId)?.status).toBe('running');
    const settled = next(manager, 'task:settled', taskId);
    clock.jump(3_600_000);
    await manager.reconcile();
    const { task } = await settled;
    expect(task.status).toBe('timed_out');
    expect(task.endedAt).toBeGreaterThanOrEqual(task.startedAt!);
  });

  it('leaves no timer behind when the task ends', async () => {
    const clock = new FakeClock();
    const manager = await openManager({ reconcileIntervalMs: 10_000 }, clock);
    const idle = clock.pendingTimers;
    const end = deferred();
    const { taskId } = await manager.registerTask({
      kind: 'function',
      description: 'work',
      timeoutMs: 1_000,
      run: () => end.promise,
    });
    expect(clock.pendingTimers).toBe(idle + 2);
    end.resolve();
    await manager.waitForTask(taskId);
    expect(clock.pendingTimers).toBe(idle);
  });

  it('of a queued task counts from its registration', async () => {
    const clock = new FakeClock();
    const manager = await openManager({ maxRunningTasks: 1, whenFull: 'queue', reconcileIntervalMs: 0 }, clock);
    const end = deferred();
    await manager.registerTask({ kind: 'function', description: 'work', run: () => end.promise });
    const { taskId } = await manager.registerTask({ ...obedient, queueTimeoutMs: 500, timeoutMs: 1_000 });
    const settled = next(manager, 'task:settled', taskId);
    await clock.advance(500);
    expect((await settled).task).toMatchObject({ status: 'timed_out', startedAt: null, stop: { cause: 'deadline' } });
    end.resolve();
  });

  it('does not count while queued, only from the start', async () => {
    const clock = new FakeClock();
    const manager = await openManager({ maxRunningTasks: 1, whenFull: 'queue', reconcileIntervalMs: 0 }, clock);
    const end = deferred();
    await manager.registerTask({ kind: 'function', description: 'work', run: () => end.promise });
    const { taskId, createdAt } = await manager.registerTask({ ...obedient, timeoutMs: 1_000 });
    expect(manager.getTask(taskId)).not.toHaveProperty('deadlineAt');
    await clock.advance(5_000);
    const started = next(manager, 'task:started', taskId);
    end.resolve();
    expect((await started).task).toMatchObject({ startedAt: createdAt + 5_000, deadlineAt: createdAt + 6_000 });
  });
});

it('fires once, never before its time, whatever the clocks do', async () => {
  const move = fc.oneof(
    fc.record({ advance: fc.nat(5_000) }),
    fc.record({ jump: fc.integer({ min: -5_000, max: 5_000 }) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.nat(10_000), fc.array(move, { maxLength: 30 }), async (timeoutMs, moves) => {
      const clock = new FakeClock();
      const deadlineAt = clock.now() + timeoutMs;
      let fired = 0;
      const deadline = new Deadline(
        clock,
        () => (fired === 0 ? deadlineAt : undefined),
        () => {
          fired++;
          expect(clock.now()).toBeGreaterThanOrEqual(deadlineAt);
        },
      );
      deadline.arm();
      for (const one of moves) {
        if ('jump' in one) clock.jump(one.jump);
        else await clock.advance(one.advance);
      }
      expect(fired).toBeLessThanOrEqual(1);
      if (fired === 0) {
        clock.jump(Math.max(0, deadlineAt - clock.now()));
        deadline.check();
        expect(fired).toBe(1);
      }
      deadline.clear();
      expect(clock.pendingTimers).toBe(0);
    }),
    { numRuns: 200 },
  );
});
