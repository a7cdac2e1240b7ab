/* Sentences about calls that meet: what one of them finds when its turn comes. */
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineTaskKind, type RunContext } from '../../src/index.js';
import { FakeClock } from '../helpers/clock.js';
import { leave, leftRecord } from '../helpers/integration.js';
import { deferred, next, openManager, record, scratch } from '../helpers/manager.js';
import { until } from '../helpers/wait.js';
import { jobKind, onDisk, World } from '../helpers/world.js';

/** A task that an owner left behind in the middle of its first attempt. */
async function leaveRunning(directory: string, taskId: string, kind: string): Promise<void> {
  const fields = { kind, status: 'running', createdAt: 1_000, startedAt: 2_000, endedAt: null };
  await leave(directory, leftRecord(taskId, fields));
}

const job = (taskId: string, more: object = {}) =>
  ({ kind: 'job', taskId, description: 'work', details: { place: 'here' }, ...more }) as const;
const untilAborted = ({ signal }: { signal: AbortSignal }) =>
  new Promise<never>((_, no) => signal.addEventListener('abort', () => no(signal.reason)));

/** A kind whose `start` answers when the test says so, or gives up when it is told to. */
function slowKind() {
  const starts = new Map<string, { go(): void; signal: AbortSignal }>();
  const stopped = new Set<string>();
  const kind = defineTaskKind({
    name: 'slow',
    details: z.object({}),
    start: ({ taskId, signal }) =>
      new Promise<void>((resolve, reject) => {
        starts.set(taskId, { go: resolve, signal });
        signal.addEventListener('abort', () => reject(signal.reason));
      }),
    probe: ({ taskId }) => ({ state: stopped.has(taskId) ? ('gone' as const) : ('running' as const) }),
    stop: ({ taskId }) => void stopped.add(taskId),
  });
  return { kind, starts };
}

describe('a launch that takes long', () => {
  it('holds up neither a pass nor the other tasks', async () => {
    const world = new World();
    const { kind, starts } = slowKind();
    const manager = await openManager({ reconcileIntervalMs: 0, kinds: [kind, jobKind(world)] });
    await manager.registerTask(job('j'));
    const registered = manager.registerTask({ kind: 'slow', taskId: 's', description: 'work', details: {} });
    await until(() => starts.has('s'));
    world.job('j').probe = { state: 'completed' };
    expect(await manager.reconcile()).toMatchObject({ checked: 2, settled: ['j'], failures: [] });
    starts.get('s')!.go();
    expect((await registered).status).toBe('running');
  });

  it('is told of a stop, which is on record by then', async () => {
    const directory = await scratch();
    const { kind, starts } = slowKind();
    const manager = await openManager({ directory, kinds: [kind] });
    const registered = manager.registerTask({ kind: 'slow', taskId: 's', description: 'work', details: {} });
    const refused = expect(registered).rejects.toMatchObject({ code: 'LAUNCH_FAILED' });
    await until(() => starts.has('s'));
    const aborted = new Promise((resolve) => {
      starts.get('s')!.signal.addEventListener('abort', () => resolve(onDisk(directory, 's')));
    });
    expect(await manager.stopTask('s', { reason: 'too slow' })).toMatchObject({ status: 'killed', startedAt: null });
    expect(await aborted).toMatchObject({ status: 'running', stop: { cause: 'user', reason: 'too slow' } });
    await refused;
  });

  it('of recovered work does not keep a directory from being opened', async () => {
    const directory = await scratch();
    const clock = new FakeClock();
    const starts = new Set<string>();
    const kind = defineTaskKind({
      name: 'slow',
      details: z.object({}),
      start: ({ taskId, signal }) =>
        new Promise<void>((_, no) => {
          starts.add(taskId);
          signal.addEventListener('abort', () => no(signal.reason));
        }),
      probe: () => ({ state: 'gone' as const }),
      stop: () => undefined,
      recover: () => ({ input: undefined }),
    });
    await leaveRunning(directory, 's', 'slow');
    const opening = openManager({ directory, reconcileIntervalMs: 0, kinds: [kind] }, clock);
    await until(() => starts.has('s'));
    await clock.advance(30_000);
    const manager = await opening;
    expect(manager.getTask('s')).toMatchObject({ status: 'running', attempt: 2 });
    const stopped = manager.stopTask('s');
    await clock.advance(100);
    expect(await stopped).toMatchObject({ status: 'killed' });
  });

  it('is told of the first of two stops, and only of that', async () => {
    const clock = new FakeClock();
    const { kind, starts } = slowKind();
    const manager = await openManager({ reconcileIntervalMs: 0, kinds: [kind] }, clock);
    const registered = manager.registerTask({ kind: 'slow', taskId: 's', description: 'work', details: {} });
    const refused = expect(registered).rejects.toMatchObject({ code: 'LAUNCH_FAILED' });
    await until(() => starts.has('s'));
    const heard = record(manager);
    const stops = [manager.stopTask('s', { reason: 'first' }), manager.stopTask('s', { reason: 'second' })];
    await clock.advance(100);
    for (const { stop } of await Promise.all(stops)) expect(stop).toMatchObject({ reason: 'first' });
    expect(heard).toEqual(['task:stopping s', 'task:settled s']);
    await refused;
  });

  it('is told of its deadline', async () => {
    const clock = new FakeClock();
    const { kind, starts } = slowKind();
    const manager = await openManager({ reconcileIntervalMs: 0, kinds: [kind] }, clock);
    const spec = { kind: 'slow', taskId: 's', description: 'work', details: {}, timeoutMs: 1_000 } as const;
    const refused = expect(manager.registerTask(spec)).rejects.toMatchObject({ code: 'LAUNCH_FAILED' });
    await until(() => starts.has('s'));
    const settled = next(manager, 'task:settled', 's');
    await clock.advance(1_000);
    await clock.advance(100);
    expect((await settled).task).toMatchObject({ status: 'timed_out', stop: { cause: 'deadline' } });
    await refused;
  });
});

describe('a launch that ends well although it was told of a stop', () => {
  /** Takes its time, whatever it is told. */
  function deafKind() {
    const starts = new Map<string, () => void>();
    const stops: string[] = [];
    const kind = defineTaskKind({
      name: 'deaf',
      details: z.object({}),
      start: ({ taskId }) => new Promise<void>((resolve) => starts.set(taskId, resolve)),
      probe: () => ({ state: stops.length > 0 ? ('gone' as const) : ('running' as const) }),
      stop: (_task, how) => void stops.push(how),
    });
    return { kind, starts, stops };
  }

  it('is stopped all the same by its deadline', async () => {
    const clock = new FakeClock();
    const { kind, starts, stops } = deafKind();
    const manager = await openManager({ reconcileIntervalMs: 0, kinds: [kind] }, clock);
    const registered = manager.registerTask({
      kind: 'deaf',
      taskId: 'd',
      description: 'work',
      details: {},
      timeoutMs: 50,
    });
    await until(() => starts.has('d'));
    await clock.advance(50);
    await clock.advance(100);
    await until(() => manager.getTask('d')?.stop);
    starts.get('d')!();
    await registered;
    await until(() => stops.length > 0);
    await until(async () => {
      await clock.advance(10);
      return manager.getTask('d')?.status === 'timed_out';
    });
  });

  it('and then closes keeps the first stop', async () => {
    const { kind, starts } = slowKind();
    const directory = await scratch();
    const options = { directory, kinds: [kind], maxRunningTasks: 1, whenFull: 'queue', stopGraceMs: 0 } as const;
    const manager = await openManager(options);
    const end = deferred();
    await manager.registerTask({ kind: 'function', taskId: 'first', description: 'work', run: () => end.promise });
    await manager.registerTask({ kind: 'slow', taskId: 's', description: 'work', details: {} });
    end.resolve();
    await until(() => starts.has('s'));
    const stopped = manager.stopTask('s', { reason: 'first' });
    await until(() => manager.getTask('s')?.stop);
    await manager.close();
    expect(await stopped).toMatchObject({ status: 'killed', stop: { cause: 'user', reason: 'first' } });
  });
});

it('a stop that meets a launch which has failed resolves with the task', async () => {
  const directory = await scratch();
  const clock = new FakeClock();
  const fail = deferred();
  const kind = defineTaskKind({
    name: 'failing',
    details: z.object({}),
    start: () => fail.promise.then(() => Promise.reject(new Error('no room'))),
    probe: () => ({ state: 'running' as const }),
    stop: () => undefined,
  });
  const manager = await openManager({ directory, reconcileIntervalMs: 0, kinds: [kind] }, clock);
  const registered = manager.registerTask({ kind: 'failing', taskId: 'x', description: 'work', details: {} });
  const refused = expect(registered).rejects.toMatchObject({ code: 'LAUNCH_FAILED' });
  await until(() => manager.getTask('x'));
  const stopped = manager.stopTask('x');
  fail.resolve();
  await clock.advance(100);
  expect((await stopped).status).toMatch(/failed|killed/);
  await refused;
});

it('a hint that comes during a launch is looked after when that is over', async () => {
  const clock = new FakeClock();
  const manager = await openManager({ reconcileIntervalMs: 0 }, clock);
  // With a clock that stands still nothing but the hint makes anybody look.
  for (let n = 0; n < 20; n++) {
    await manager.registerTask({ kind: 'process', taskId: `p${n}`, description: 'work', command: 'exit 3' });
    expect(await manager.waitForTask(`p${n}`)).toMatchObject({ status: 'failed', details: { exitCode: 3 } });
  }
});

it('a question that nobody awaits does not bring the host down', async () => {
  const unhandled: unknown[] = [];
  const onUnhandled = (reason: unknown) => void unhandled.push(reason);
  process.on('unhandledRejection', onUnhandled);
  const manager = await openManager();
  const run = ({ requestInput }: RunContext<object>) => {
    void requestInput('Well?');
    void requestInput('And this?', { data: 1n as never });
    return 1;
  };
  const { taskId } = await manager.registerTask({ kind: 'function', description: 'work', run });
  await manager.waitForTask(taskId);
  await new Promise((resolve) => setImmediate(resolve));
  process.off('unhandledRejection', onUnhandled);
  expect(unhandled).toEqual([]);
});

describe('a deadline whose turn comes late', () => {
  it('of the queue ends nobody who has left it', async () => {
    const clock = new FakeClock();
    const { kind, starts } = slowKind();
    const options = { maxRunningTasks: 1, whenFull: 'queue', reconcileIntervalMs: 0, kinds: [kind] } as const;
    const manager = await openManager(options, clock);
    const end = deferred();
    await manager.registerTask({ kind: 'function', taskId: 'first', description: 'work', run: () => end.promise });
    await manager.registerTask({ kind: 'slow', taskId: 's', description: 'work', details: {}, queueTimeoutMs: 1_000 });
    // Its slot comes in the very moment in which the timer fires.
    end.resolve();
    await until(() => manager.getTask('first')?.status === 'completed');
    await clock.advance(1_000);
    await until(() => starts.has('s'));
    starts.get('s')!.go();
    await manager.reconcile();
    expect(manager.getTask('s')).toMatchObject({ status: 'running' });
    expect(manager.getTask('s')).not.toHaveProperty('stop');
  });

  it('ends nobody who was detached without one', async () => {
    const clock = new FakeClock();
    const manager = await openManager({ reconcileIntervalMs: 0, stopGraceMs: 0 }, clock);
    const spec = { kind: 'function', taskId: 'f', description: 'work', run: untilAborted } as const;
    await manager.registerTask({ ...spec, detached: false, timeoutMs: 1_000, detachTimeoutMs: 0 });
    const detached = manager.detachTask('f');
    await clock.advance(1_000);
    expect(await detached).toMatchObject({ status: 'running', detached: true });
    await manager.reconcile();
    expect(manager.getTask('f')).toMatchObject({ status: 'running' });
  });

  it('is called by its own name', async () => {
    const clock = new FakeClock();
    const options = { maxRunningTasks: 1, whenFull: 'queue', reconcileIntervalMs: 0, stopGraceMs: 0 } as const;
    const manager = await openManager(options, clock);
    const end = deferred();
    const run = () => end.promise;
    await manager.registerTask({ kind: 'function', taskId: 'first', description: 'work', run });
    const queued = {
      kind: 'function',
      taskId: 'q',
      description: 'work',
      run,
      timeoutMs: 60_000,
      queueTimeoutMs: 25,
    } as const;
    await manager.registerTask(queued);
    const settled = next(manager, 'task:settled', 'q');
    await clock.advance(25);
    expect((await settled).task).toMatchObject({
      status: 'timed_out',
      stopReason: 'it was queued for longer than 25 ms',
    });
    end.resolve();
  });
});

it("a caller's signal that aborts while the task is being detached changes nothing", async () => {
  const manager = await openManager({ stopGraceMs: 0 });
  const caller = new AbortController();
  const spec = { kind: 'function', taskId: 'f', description: 'work', run: untilAborted, detached: false } as const;
  await manager.registerTask({ ...spec, signal: caller.signal });
  const detached = manager.detachTask('f');
  caller.abort();
  await detached;
  await manager.reconcile();
  expect(manager.getTask('f')).toMatchObject({ status: 'running', detached: true });
});

describe('a stop that withdraws hooks', () => {
  it('withdraws them also where its look finds that the work has ended', async () => {
    const world = new World();
    let calls = 0;
    const manager = await openManager({
      reconcileIntervalMs: 0,
      kinds: [jobKind(world)],
      hooks: { note: () => void calls++ },
    });
    await manager.registerTask(job('j'));
    world.job('j').probe = { state: 'completed' };
    const task = await manager.stopTask('j', { skipHooks: true });
    expect(task).toMatchObject({ status: 'completed', hooks: { note: { state: 'skipped' } } });
    expect(task.stop).toBeUndefined();
    expect(calls).toBe(0);
  });
});

describe('what is found at open', () => {
  it('is stopped also while nothing can be written', async () => {
    const directory = await scratch();
    const first = await openManager({ directory });
    for (const taskId of ['stopped', 'late'])
      await first.registerTask({ kind: 'process', taskId, description: 'work', command: ['sleep', '600'] });
    await first.close();
    const past = Date.now() - 60_000;
    const write = async (taskId: string, more: object) =>
      writeFile(join(directory, `${taskId}.json`), JSON.stringify({ ...onDisk(directory, taskId), ...more }), {
        mode: 0o600,
      });
    await write('stopped', { startedAt: past, createdAt: past, stop: { cause: 'user', requestedAt: past } });
    await write('late', { startedAt: past, createdAt: past, timeoutMs: 1, deadlineAt: past + 1 });
    const blocked = ['stopped', 'late'].map((taskId) => join(directory, `${taskId}.json.next`));
    for (const path of blocked) await mkdir(path);
    const manager = await openManager({ directory, stopGraceMs: 0, reconcileIntervalMs: 20 });
    const runs = async (taskId: string) => {
      const line = await readFile(`/proc/${onDisk(directory, taskId).details.pid}/cmdline`, 'utf8').catch(() => '');
      return line.includes(taskId);
    };
    await until(async () => !(await runs('stopped')) && !(await runs('late')));
    for (const path of blocked) await rmdir(path);
    await manager.waitForIdle();
    expect(manager.getTask('stopped')?.status).toBe('killed');
    expect(manager.getTask('late')?.status).toBe('timed_out');
  });

  it('keeps its place in the queue, whoever answers first', async () => {
    const directory = await scratch();
    const answers = { older: deferred(), newer: deferred() };
    const ran: string[] = [];
    const kind = defineTaskKind({
      name: 'job',
      details: z.object({}),
      recover: async (task) => {
        await answers[task.taskId as 'older'].promise;
        return () => ran.push(task.taskId);
      },
    });
    const left = (taskId: string, createdAt: number) => ({
      ...{ schemaVersion: 1, taskId, kind: 'job', description: 'work', status: 'queued', detached: true, createdAt },
      ...{ startedAt: null, endedAt: null, attempt: 1, owner: null, details: {}, metadata: {}, hooks: {} },
    });
    await writeFile(join(directory, 'older.json'), JSON.stringify(left('older', 1_000)), { mode: 0o600 });
    await writeFile(join(directory, 'newer.json'), JSON.stringify(left('newer', 2_000)), { mode: 0o600 });
    const opening = openManager({ directory, kinds: [kind], maxRunningTasks: 1, whenFull: 'queue' });
    answers.newer.resolve();
    await new Promise(setImmediate);
    answers.older.resolve();
    const manager = await opening;
    await manager.waitForIdle();
    expect(ran).toEqual(['older', 'newer']);
  });
});

describe('an answer', () => {
  it('resumes a task once, also where a probe sees the same', async () => {
    const world = new World();
    const manager = await openManager({ reconcileIntervalMs: 0, kinds: [jobKind(world)] });
    await manager.registerTask(job('j'));
    world.job('j').probe = { state: 'waiting', prompt: 'Well?' };
    await manager.reconcile();
    const heard = record(manager);
    const taken = deferred();
    world.onInput = async (one) => {
      one.probe = { state: 'running' };
      await taken.promise;
    };
    const answered = manager.provideInput('j', 7);
    await until(() => world.job('j').probe instanceof Error === false && world.job('j').inputs.length > 0);
    const passes = [manager.reconcile(), manager.reconcile()];
    taken.resolve();
    expect((await answered).status).toBe('running');
    await Promise.all(passes);
    expect(heard).toEqual(['task:resumed j']);
  });

  it('that is refused does not keep the next from being taken', async () => {
    const manager = await openManager();
    const asked = deferred<number>();
    const run = async ({ requestInput }: any) => asked.resolve(await requestInput('Well?', { schema: z.number() }));
    await manager.registerTask({ kind: 'function', taskId: 'f', description: 'work', run });
    await until(() => manager.getTask('f')?.status === 'waiting');
    const [bad, good] = await Promise.allSettled([
      manager.provideInput('f', 'no number'),
      manager.provideInput('f', 7),
    ]);
    expect(bad).toMatchObject({ status: 'rejected', reason: { code: 'INVALID_INPUT' } });
    expect(good.status).toBe('fulfilled');
    expect(await asked.promise).toBe(7);
  });
});

it('a listener that hears of an end finds the debt in listDeliveries', async () => {
  const manager = await openManager({ hooks: { inbox: 'pull' } });
  const found = new Promise((resolve) => {
    manager.on('task:settled', () => resolve(manager.listDeliveries({ state: 'pending', name: 'inbox' }).length));
  });
  await manager.registerTask({ kind: 'function', description: 'work', run: () => 1 });
  expect(await found).toBe(1);
});

it('a later attempt that cannot begin does not undo the first, and its pass says that it settled', async () => {
  const directory = await scratch();
  const kind = defineTaskKind({
    name: 'job',
    details: z.object({}),
    start: () => Promise.reject(new Error('no room')),
    probe: () => ({ state: 'gone' as const }),
    recover: () => ({ input: undefined }),
  });
  await leaveRunning(directory, 'j', 'job');
  const manager = await openManager({ directory, kinds: [kind] });
  expect(manager.getTask('j')).toMatchObject({ status: 'failed', attempt: 2, startedAt: 2_000 });
  expect(manager.status().lastReconcile?.report.settled).toEqual(['j']);
});
