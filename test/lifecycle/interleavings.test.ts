/* What happens between two steps of one task: while a write, a probe or a launch of it is under way. */
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { z } from 'zod';
import { defineTaskKind } from '../../src/index.js';
import { FileStore } from '../../src/store/file-store.js';
import type { TaskRecord } from '../../src/task/record.js';
import { FakeClock } from '../helpers/clock.js';
import { leave, leftRecord } from '../helpers/integration.js';
import { deferred, openManager, record, scratch } from '../helpers/manager.js';
import { until } from '../helpers/wait.js';
import { jobKind, onDisk, World } from '../helpers/world.js';

const forever = () => new Promise<never>(() => undefined);
const job = (taskId: string, more: object = {}) =>
  ({ kind: 'job', taskId, description: 'work', details: { place: 'here' }, ...more }) as const;
const turns = () => new Promise((resolve) => setTimeout(resolve, 30));

/** A manager whose clock goes on by itself once the test is over: closing it may take time. */
async function open(options: object, clock: FakeClock): Promise<any> {
  let driver: NodeJS.Timeout | undefined;
  onTestFinished(() => clearInterval(driver));
  const manager = await openManager({ reconcileIntervalMs: 0, ...options }, clock);
  onTestFinished(() => {
    driver = setInterval(() => void clock.advance(5_000), 5);
  });
  return manager;
}

/** Writes of records that `held` answers for wait for its promise. */
function holdWrites(held: (record: TaskRecord) => Promise<void> | undefined): void {
  const put = FileStore.prototype.put;
  const spy = vi.spyOn(FileStore.prototype, 'put').mockImplementation(async function (this: FileStore, one) {
    await held(one);
    return put.call(this, one);
  });
  onTestFinished(() => spy.mockRestore());
}

/** A kind whose every probe waits for an answer of the test. */
function askingKind() {
  const probes: ReturnType<typeof deferred<any>>[] = [];
  const stops: string[] = [];
  const kind = defineTaskKind({
    name: 'asking',
    details: z.object({}),
    start: () => undefined,
    probe: () => {
      const answer = deferred<any>();
      probes.push(answer);
      return answer.promise;
    },
    stop: (_, how) => void stops.push(how),
  });
  return { kind, probes, stops };
}
const asking = (more: object = {}) =>
  ({ kind: 'asking', taskId: 'a', description: 'work', details: {}, ...more }) as const;

/** A kind whose first probe waits for an answer of the test; every later one answers this at once. */
function lateKind(later: object) {
  const first = deferred<any>();
  let probes = 0;
  const kind = defineTaskKind({
    name: 'asking',
    details: z.object({}),
    start: () => undefined,
    probe: () => (probes++ === 0 ? first.promise : (later as never)),
    stop: () => undefined,
  });
  return { kind, first };
}

async function complete(manager: any, probes: readonly { resolve(probe: object): void }[]): Promise<void> {
  const pass = manager.reconcile();
  for (let isOver = false; !isOver; isOver = manager.getTask('a').endedAt !== null) {
    for (const probe of probes) probe.resolve({ state: 'completed' });
    await turns();
  }
  await pass;
}

describe('a stop with a grace of its own', () => {
  it('is not hurried by a pass', async () => {
    const world = new World();
    world.onStop = () => undefined;
    const clock = new FakeClock();
    const manager = await open({ stopGraceMs: 1_000, kinds: [jobKind(world)] }, clock);
    await manager.registerTask(job('j'));
    const stopped = manager.stopTask('j', { graceMs: 60_000 });
    await until(() => world.job('j').stops.length > 0);
    await clock.advance(2_000);
    await manager.reconcile();
    await clock.advance(2_000);
    expect(world.job('j').stops).toEqual(['terminate']);
    world.job('j').probe = { state: 'gone' };
    await manager.reconcile();
    await stopped;
  });
});

describe('a stop of a task that ends meanwhile', () => {
  it('does not call it lost without a reason', async () => {
    const clock = new FakeClock();
    const { kind, first } = lateKind({ state: 'gone' });
    const written = deferred();
    holdWrites((one) => (one.stop && one.status === 'running' ? written.promise : undefined));
    const manager = await open({ kinds: [kind] }, clock);
    await manager.registerTask(asking());
    first.resolve({ state: 'running' });
    const stopped = manager.stopTask('a', { reason: 'not needed' });
    await turns();
    const pass = manager.reconcile();
    await turns();
    written.resolve();
    await pass;
    expect(await stopped).toMatchObject({ status: 'killed', stopReason: 'not needed' });
  });
});

describe('a foreground task that is being detached', () => {
  it('is not stopped by the deadline that it had before', async () => {
    const clock = new FakeClock();
    const { kind, probes } = askingKind();
    const manager = await open({ kinds: [kind] }, clock);
    await manager.registerTask(asking({ detached: false, timeoutMs: 1_000, detachTimeoutMs: 60_000 }));
    const detached = manager.detachTask('a');
    await until(() => probes.length === 1);
    await clock.advance(1_000);
    probes[0]!.resolve({ state: 'running' });
    expect(await detached).toMatchObject({ detached: true });
    await turns();
    for (const probe of probes) probe.resolve({ state: 'running' });
    await turns();
    expect(manager.getTask('a')?.stop).toBeUndefined();
    await complete(manager, probes);
  });

  it('is launched first', async () => {
    const launched = deferred();
    const kind = defineTaskKind({
      name: 'asking',
      details: z.object({}),
      start: () => launched.promise,
      probe: () => ({ state: 'running' as const }),
      stop: () => undefined,
    });
    const manager = await openManager({ reconcileIntervalMs: 0, kinds: [kind] });
    const registered = manager.registerTask(asking({ detached: false })).catch((error) => error.code);
    await until(() => manager.getTask('a') !== undefined);
    const detached = manager.detachTask('a');
    await turns();
    launched.reject(new Error('no room'));
    expect(await registered).toBe('LAUNCH_FAILED');
    expect(await detached).toMatchObject({ status: 'failed', detached: false });
    expect(await manager.waitForRelease('a')).toBe('terminal');
  });

  it('is not stopped by the signal of its caller', async () => {
    const clock = new FakeClock();
    const { kind, probes } = askingKind();
    const manager = await open({ kinds: [kind] }, clock);
    const caller = new AbortController();
    await manager.registerTask(asking({ detached: false, signal: caller.signal }));
    const detached = manager.detachTask('a');
    await until(() => probes.length === 1);
    caller.abort();
    probes[0]!.resolve({ state: 'running' });
    expect(await detached).toMatchObject({ detached: true });
    await turns();
    for (const probe of probes) probe.resolve({ state: 'running' });
    await turns();
    expect(manager.getTask('a')?.stop).toBeUndefined();
    await complete(manager, probes);
  });
});

describe('a queue deadline that passes while the start of the task is written', () => {
  it('does not stop it', async () => {
    const clock = new FakeClock();
    const world = new World();
    const written = deferred();
    let held = false;
    holdWrites((one) => {
      if (one.taskId !== 'q' || one.status !== 'running' || held) return undefined;
      held = true;
      return written.promise;
    });
    const manager = await open({ maxRunningTasks: 1, whenFull: 'queue', kinds: [jobKind(world)] }, clock);
    await manager.registerTask(job('j'));
    await manager.registerTask(job('q', { queueTimeoutMs: 1_000 }));
    world.job('j').probe = { state: 'completed' };
    await manager.reconcile();
    await until(() => held);
    await clock.advance(1_500);
    written.resolve();
    await until(() => world.jobs.has('q'));
    await turns();
    await manager.reconcile();
    expect(manager.getTask('q')).toMatchObject({ status: 'running' });
    expect(manager.getTask('q')?.stop).toBeUndefined();
  });
});

describe('work that a later owner may begin again', () => {
  it('is not begun again by a manager that closes', async () => {
    const directory = await scratch();
    let runs = 0;
    let asked = 0;
    const kind = defineTaskKind({
      name: 'agent',
      details: z.object({}),
      recover: () => {
        asked++;
        return () => {
          runs++;
          return forever();
        };
      },
    });
    await leave(
      directory,
      leftRecord('a', { kind: 'agent', status: 'running', createdAt: 1_000, startedAt: 2_000, endedAt: null }),
    );
    let isFull = true;
    holdWrites((one) => (isFull && one.taskId === 'a' ? Promise.reject(new Error('full')) : undefined));
    const manager = await openManager({ directory, reconcileIntervalMs: 0, stopGraceMs: 50, kinds: [kind] });
    manager.on('error', () => undefined);
    expect(manager.getTask('a')).toMatchObject({ status: 'running', attempt: 1 });
    isFull = false;
    await manager.close();
    expect({ runs, asked }).toEqual({ runs: 0, asked: 1 });
    expect(onDisk(directory, 'a')).toMatchObject({ status: 'running', attempt: 1 });
  });
});

describe('an answer to a task that ends meanwhile', () => {
  it('does not reach its work', async () => {
    const world = new World();
    const written = deferred();
    holdWrites((one) => (one.status === 'completed' ? written.promise : undefined));
    const manager = await openManager({ reconcileIntervalMs: 0, kinds: [jobKind(world)] });
    await manager.registerTask(job('j'));
    world.job('j').probe = { state: 'waiting', prompt: 'which?' };
    await manager.reconcile();
    world.job('j').probe = { state: 'completed' };
    const pass = manager.reconcile();
    await turns();
    const answered = manager.provideInput('j', 1).then(
      () => 'taken',
      (error) => error.code,
    );
    await turns();
    written.resolve();
    await pass;
    expect(await answered).toBe('TASK_NOT_WAITING');
    expect(world.job('j').inputs).toEqual([]);
  });
});

describe('a launch that never answers', () => {
  it('does not keep the manager from closing, also after its deadline', async () => {
    const clock = new FakeClock();
    const kind = defineTaskKind({
      name: 'hung',
      details: z.object({}),
      start: forever,
      probe: () => ({ state: 'running' as const }),
      stop: () => undefined,
    });
    const manager = await open({ stopGraceMs: 100, kinds: [kind] }, clock);
    void manager
      .registerTask({ kind: 'hung', taskId: 'h', description: 'work', details: {}, timeoutMs: 1_000 })
      .catch(() => undefined);
    await until(() => manager.getTask('h')?.status === 'running');
    await turns();
    await clock.advance(2_000);
    await until(() => manager.getTask('h')?.stop !== undefined);
    let isClosed = false;
    const closed = manager.close().then(() => {
      isClosed = true;
    });
    for (let i = 0; i < 40 && !isClosed; i++) {
      await clock.advance(1_000);
      await turns();
    }
    expect(isClosed).toBe(true);
    await closed;
  });
});

describe('a look that finds progress of a task that was abandoned meanwhile', () => {
  it('tells nothing of it', async () => {
    const clock = new FakeClock();
    const afar = { state: 'running', outOfReach: 'elsewhere' } as const;
    const { kind, first } = lateKind({ ...afar, progress: { message: 'late' } });
    const written = deferred();
    holdWrites((one) => (one.status === 'lost' ? written.promise : undefined));
    const manager = await open({ kinds: [kind] }, clock);
    manager.on('error', () => undefined);
    await manager.registerTask(asking());
    const heard = record(manager);
    const stopped = manager.stopTask('a', { abandon: true });
    await turns();
    const pass = manager.reconcile();
    await turns();
    first.resolve(afar);
    await turns();
    const second = manager.reconcile();
    await turns();
    written.resolve();
    await Promise.all([pass, second]);
    expect(await stopped).toMatchObject({ status: 'lost' });
    await turns();
    expect(heard.slice(heard.indexOf('task:settled a') + 1)).toEqual([]);
    expect(clock.pendingTimers).toBe(0);
  });
});
