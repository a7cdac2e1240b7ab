/* Sentences about single calls. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { BackgroundTaskError, defineTaskKind } from '../../src/index.js';
import { FakeClock } from '../helpers/clock.js';
import { deferred, next, openManager, record, scratch } from '../helpers/manager.js';
import { until } from '../helpers/wait.js';

const forever = () => new Promise<void>(() => undefined);

it('readResult gives null where null was returned', async () => {
  const manager = await openManager();
  const { taskId } = await manager.registerTask({ kind: 'function', description: 'work', run: () => null });
  await manager.waitForTask(taskId);
  expect(await manager.readResult(taskId)).toBe(null);
});

it('a result file that no record vouches for is not the result', async () => {
  const directory = await scratch();
  await mkdir(join(directory, 'f'));
  await writeFile(join(directory, 'f', 'result.json'), '"of somebody else"\n');
  const manager = await openManager({ directory });
  await manager.registerTask({ kind: 'function', taskId: 'f', description: 'work', run: () => undefined });
  await manager.waitForTask('f');
  expect(await manager.readResult('f')).toBeUndefined();
});

describe('waits', () => {
  it('waitForAny refuses what is no list of ids with an error of ours', async () => {
    const manager = await openManager();
    await expect(manager.waitForAny([1] as never)).rejects.toBeInstanceOf(BackgroundTaskError);
  });

  it('waitForAny rejects with the reason of an aborted signal, also where there is nothing to wait for', async () => {
    const manager = await openManager();
    const reason = new Error('enough');
    await expect(manager.waitForAny(undefined, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });

  it('waitForIdle sees a task leave its filter without ending', async () => {
    const manager = await openManager({ maxRunningTasks: 1, whenFull: 'queue' });
    const end = deferred();
    await manager.registerTask({ kind: 'function', description: 'work', run: () => end.promise });
    await manager.registerTask({ kind: 'function', description: 'work', run: forever });
    const idle = manager.waitForIdle({ filter: { status: 'queued' } });
    const started = next(manager, 'task:started');
    end.resolve();
    await started;
    expect(await idle).toBe(true);
  });
});

it('snapshots are frozen through and through, also with progress that is not on disk yet', async () => {
  const directory = await scratch();
  const manager = await openManager({ directory });
  let report: (progress: { current: number }) => void = () => undefined;
  await manager.registerTask({
    kind: 'function',
    taskId: 'f',
    description: 'work',
    run: ({ reportProgress }) => {
      report = reportProgress;
      reportProgress({ current: 1 });
      return forever();
    },
  });
  await until(async () => JSON.parse(await readFile(join(directory, 'f.json'), 'utf8')).progress);
  report({ current: 2 });
  expect(Object.isFrozen(manager.getTask('f')?.progress)).toBe(true);
});

it('an update of a task that is being pruned does not bring its record back', async () => {
  const directory = await scratch();
  const manager = await openManager({ directory });
  for (let round = 0; round < 20; round++) {
    const { taskId } = await manager.registerTask({
      kind: 'function',
      taskId: `t${round}`,
      description: 'work',
      run: () => 1,
    });
    await manager.waitForTask(taskId);
    const updates = [1, 2, 3].map((n) => manager.updateTask(taskId, { metadata: { n } }).catch(() => undefined));
    await manager.pruneTasks();
    await Promise.all(updates);
  }
  expect((await readdir(directory)).filter((name) => name.endsWith('.json'))).toEqual([]);
});

it('a group limit that throws does not keep a settlement from being heard of', async () => {
  let broken = false;
  const manager = await openManager({
    whenFull: 'queue',
    maxRunningTasksPerGroup: () => {
      if (broken) throw new Error('the host made a mistake');
      return 1;
    },
  });
  manager.on('error', () => undefined);
  const end = deferred();
  await manager.registerTask({
    kind: 'function',
    taskId: 'a',
    group: 'g',
    description: 'work',
    run: () => end.promise,
  });
  await manager.registerTask({ kind: 'function', taskId: 'b', group: 'g', description: 'work', run: forever });
  const heard = record(manager);
  broken = true;
  end.resolve();
  await until(() => manager.getTask('a')?.status === 'completed');
  broken = false;
  await manager.reconcile();
  expect(heard).toContain('task:settled a');
});

it('the queue is served oldest first: a newer registration does not overtake one that is being written', async () => {
  const manager = await openManager({ maxRunningTasks: 1, whenFull: 'queue' });
  const slot = manager.reserveSlot();
  const older = manager.registerTask({ kind: 'function', taskId: 'b', description: 'work', run: forever });
  slot.release();
  const newer = manager.registerTask({ kind: 'function', taskId: 'c', description: 'work', run: forever });
  await Promise.all([older, newer]);
  await until(() => manager.status().running === 1);
  expect(manager.getTask('b')?.status).toBe('running');
  expect(manager.getTask('c')?.status).toBe('queued');
});

it('what close finds queued stays queued, also when it was about to be launched', async () => {
  const directory = await scratch();
  const remote = defineTaskKind({
    name: 'remote',
    details: z.object({}),
    start: ({ signal }) => signal.throwIfAborted(),
    probe: () => ({ state: 'gone' as const }),
    stop: () => undefined,
  });
  const manager = await openManager({ directory, kinds: [remote], maxRunningTasks: 1, whenFull: 'queue' });
  manager.on('error', () => undefined);
  const end = deferred();
  await manager.registerTask({ kind: 'function', taskId: 'a', description: 'work', run: () => end.promise });
  await manager.registerTask({ kind: 'remote', taskId: 'q', description: 'work', details: {} });
  const closed = new Promise<void>((resolve) => {
    manager.on('task:settled', ({ task }) => {
      if (task.taskId === 'a') resolve(Promise.resolve().then(() => manager.close()));
    });
  });
  end.resolve();
  await closed;
  const disk = JSON.parse(await readFile(join(directory, 'q.json'), 'utf8'));
  expect(disk).toMatchObject({ status: 'queued', startedAt: null });
  expect(disk).not.toHaveProperty('stop');
});

it('a task adopted from the foreground keeps what its spec says of detaching', async () => {
  const clock = new FakeClock();
  const directory = await scratch();
  let over = false;
  const remote = defineTaskKind({
    name: 'remote',
    details: z.object({}),
    start: () => undefined,
    probe: () => (over ? { state: 'completed' as const } : { state: 'running' as const }),
    stop: () => undefined,
  });
  const first = await openManager({ directory, kinds: [remote], reconcileIntervalMs: 0, stopGraceMs: 0 }, clock);
  await first.registerTask({
    kind: 'remote',
    taskId: 'r',
    description: 'work',
    details: {},
    detached: false,
    timeoutMs: 1_000,
    detachOnTimeout: true,
  });
  const left = await readFile(join(directory, 'r.json'));
  await first.detachTask('r');
  await first.close();
  await writeFile(join(directory, 'r.json'), left); // as a killed host leaves it
  const second = await openManager({ directory, kinds: [remote], reconcileIntervalMs: 0, stopGraceMs: 0 }, clock);
  expect(second.getTask('r')).toMatchObject({ detached: true, status: 'running' });
  await clock.advance(5_000);
  await second.reconcile();
  over = true;
  const { stop } = second.getTask('r')!;
  await second.reconcile();
  expect(stop).toBeUndefined();
});

it('a fenced owner writes nothing any more, output included', async () => {
  const directory = await scratch();
  const manager = await openManager({ directory, reconcileIntervalMs: 0 });
  manager.on('error', () => undefined);
  let append: (chunk: string) => Promise<void> = () => Promise.resolve();
  await manager.registerTask({
    kind: 'function',
    taskId: 'f',
    description: 'work',
    run: async ({ appendOutput }) => {
      append = appendOutput;
      await appendOutput('mine\n');
      await forever();
    },
  });
  await until(async () => (await manager.readOutput('f')).size > 0);
  const fenced = next(manager, 'manager:fenced');
  await writeFile(join(directory, '.owner', 'epoch-99'), JSON.stringify(manager.status().owner));
  await Promise.all([manager.reconcile().catch(() => undefined), fenced]);
  await append('not mine any more\n').catch(() => undefined);
  expect(await readFile(join(directory, 'f', 'output.log'), 'utf8')).toBe('mine\n');
});

it('calls during a pass share one more, and a later call begins its own', async () => {
  const manager = await openManager({ reconcileIntervalMs: 0 });
  await next(manager, 'manager:reconciled'); // of open
  let passes = 0;
  manager.on('manager:reconciled', () => {
    passes++;
  });
  const first = manager.reconcile();
  const [second, third] = [manager.reconcile(), manager.reconcile()];
  expect(await second).toBe(await third);
  expect(await first).not.toBe(await second);
  expect(passes).toBe(2);
  await manager.reconcile();
  expect(passes).toBe(3);
});

it('the pass that finds out that the directory is lost says so', async () => {
  const directory = await scratch();
  const manager = await openManager({ directory, reconcileIntervalMs: 0 });
  await writeFile(join(directory, '.owner', 'epoch-99'), JSON.stringify(manager.status().owner));
  await expect(manager.reconcile()).rejects.toMatchObject({ code: 'OWNERSHIP_LOST' });
});

it('updateDetails keeps details that this version of the kind does not know', async () => {
  const directory = await scratch();
  const before = defineTaskKind({ name: 'agent', details: z.object({ a: z.number(), b: z.number() }) });
  const first = await openManager({ directory, kinds: [before], stopGraceMs: 0 });
  await first.registerTask({ kind: 'agent', taskId: 'x', description: 'work', details: { a: 1, b: 2 }, run: forever });
  const left = await readFile(join(directory, 'x.json'));
  await first.close();
  await writeFile(join(directory, 'x.json'), left); // as a killed host leaves it
  const after = defineTaskKind({
    name: 'agent',
    details: z.object({ a: z.number() }),
    recover:
      () =>
      async ({ updateDetails }) => {
        await updateDetails({ a: 3 });
        return null;
      },
  });
  const second = await openManager({ directory, kinds: [after] });
  expect((await second.waitForTask('x')).details).toEqual({ a: 3, b: 2 });
});

describe('waiting', () => {
  it('until idle waits for registrations under way, also where they are refused', async () => {
    const manager = await openManager();
    const end = deferred();
    const registered = manager.registerTask({
      kind: 'function',
      taskId: 'f',
      description: 'work',
      run: () => end.promise,
    });
    const idle = manager.waitForIdle();
    await registered;
    expect(await manager.waitForIdle({ timeoutMs: 0 })).toBe(false);
    end.resolve();
    expect(await idle).toBe(true);
    expect(manager.getTask('f')?.status).toBe('completed');
    const huge = { kind: 'process', description: 'work', command: ['true', 'x'.repeat(600_000)] } as const;
    const refused = manager.registerTask(huge).catch(({ code }) => code);
    expect(await manager.waitForIdle()).toBe(true);
    expect(await refused).toBe('INVALID_SPEC');
  });

  it('for any gives the one that ended first, not the one named first', async () => {
    const clock = new FakeClock();
    const manager = await openManager({ reconcileIntervalMs: 0 }, clock);
    const ends = { a: deferred(), b: deferred() };
    for (const taskId of ['a', 'b'] as const)
      await manager.registerTask({ kind: 'function', taskId, description: 'work', run: () => ends[taskId].promise });
    for (const taskId of ['b', 'a'] as const) {
      ends[taskId].resolve();
      await manager.waitForTask(taskId);
      await clock.advance(1);
    }
    expect((await manager.waitForAny(['a', 'b']))?.taskId).toBe('b');
  });

  it('and stopping mean foreground tasks too, where includeForeground is undefined', async () => {
    const manager = await openManager({ stopGraceMs: 0 });
    await manager.registerTask({ kind: 'function', taskId: 'f', description: 'work', run: forever, detached: false });
    const filter = { includeForeground: undefined };
    expect(await manager.waitForIdle({ filter, timeoutMs: 0 })).toBe(false);
    expect(await manager.waitForIdle({ filter: { includeForeground: false }, timeoutMs: 0 })).toBe(true);
    expect(await manager.stopAll({ filter })).toHaveLength(1);
    expect(await manager.pruneTasks({ filter })).toEqual(['f']);
  });
});

it('what is no JSON is refused with a code, also from inside the work', async () => {
  const manager = await openManager();
  const codes = deferred<unknown[]>();
  const kind = defineTaskKind({ name: 'job', details: z.object({ a: z.any() }) });
  const other = await openManager({ kinds: [kind] });
  const code = (promise: Promise<unknown>) =>
    promise.then(
      () => undefined,
      (error) => error.code,
    );
  const run = async ({ updateDetails, requestInput }: any) =>
    codes.resolve([await code(updateDetails({ a: 1n })), await code(requestInput('?', { data: 1n }))]);
  await other.registerTask({ kind: 'job', description: 'work', details: { a: 1 }, run });
  expect(await codes.promise).toEqual(['INVALID_SPEC', 'INVALID_SPEC']);
  await manager.close();
});

it('a schema that throws on an old record keeps nobody from opening, and refuses a new one', async () => {
  const directory = await scratch();
  const details = z.any().transform((value) => value.deep.length);
  const kind = defineTaskKind({ name: 'job', details });
  const ended = {
    ...{ schemaVersion: 1, taskId: 'j', kind: 'job', description: 'work', status: 'completed', detached: true },
    ...{ createdAt: 1_000, startedAt: 2_000, endedAt: 3_000, attempt: 1, owner: null },
    ...{ details: {}, metadata: {}, hooks: {} },
  };
  await writeFile(join(directory, 'j.json'), JSON.stringify(ended), { mode: 0o600 });
  const manager = await openManager({ directory, kinds: [kind] });
  const task = manager.getTask('j')!;
  expect(kind.is(task)).toBe(false);
  const spec = { kind: 'job', description: 'work', details: {}, run: () => 1 } as never;
  await expect(manager.registerTask(spec)).rejects.toMatchObject({ code: 'INVALID_SPEC' });
});
