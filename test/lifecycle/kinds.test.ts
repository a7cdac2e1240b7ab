import { statSync } from 'node:fs';
import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineTaskKind, isTerminal } from '../../src/index.js';
import { FakeClock } from '../helpers/clock.js';
import { deferred, next, openManager, record, scratch } from '../helpers/manager.js';
import { until } from '../helpers/wait.js';
import { afterKill, jobKind, onDisk, recoveringJobKind, World } from '../helpers/world.js';

const job = { kind: 'job', taskId: 'j', description: 'work', details: { place: 'here' } } as const;

/** A manager whose jobs are judged when the test says so. */
async function withWorld(options: object = {}, clock = new FakeClock()) {
  const directory = await scratch();
  const world = new World();
  const kinds = [jobKind(world)];
  const manager = await openManager({ directory, reconcileIntervalMs: 0, stopGraceMs: 0, kinds, ...options }, clock);
  return { directory, world, manager, clock };
}

/** The folder and the world as a host that is killed now leaves them. */
async function killed(directory: string, world: World) {
  const left = await afterKill(directory);
  return { directory: left, world: world.fork() };
}

describe('start', () => {
  it('gets what it needs, and its input is never recorded', async () => {
    const directory = await scratch();
    let given: any;
    const kind = defineTaskKind({
      name: 'job',
      idPrefix: 'build',
      details: z.object({ place: z.string(), ref: z.string().optional() }),
      start: async (context, input: { token: string }) => {
        given = {
          ...context,
          input,
          mode: statSync(context.outputPath).mode & 0o777,
          disk: onDisk(directory, context.taskId),
        };
        await appendFile(context.outputPath, 'hello\n');
        return { ref: 'r1' };
      },
      probe: () => ({ state: 'completed' }),
    });
    const manager = await openManager({ directory, reconcileIntervalMs: 0, kinds: [kind] });
    let whenStarted: unknown;
    manager.on('task:started', ({ task }) => {
      whenStarted = [task, onDisk(directory, task.taskId)];
    });
    const task = await manager.registerTask({
      kind: 'job',
      description: 'work',
      details: { place: 'here' },
      input: { token: 'a secret' },
    });
    expect(task.taskId).toMatch(/^build-[0-9a-z]{8}$/);
    expect(given).toMatchObject({
      taskId: task.taskId,
      attempt: 1,
      details: { place: 'here' },
      input: { token: 'a secret' },
    });
    expect(given.mode).toBe(0o600);
    expect(given.signal).toBeInstanceOf(AbortSignal);
    expect(given.disk).toMatchObject({ status: 'running', details: { place: 'here' } });
    expect(task.details).toEqual({ place: 'here', ref: 'r1' });
    expect(whenStarted).toEqual([task, task]);
    expect(await readFile(join(directory, `${task.taskId}.json`), 'utf8')).not.toContain('secret');
    expect((await manager.readOutput(task.taskId)).text).toBe('hello\n');
    await manager.reconcile();
  });

  it('that throws is a launch that failed: on record, its slot free, its hooks skipped, and the caller told', async () => {
    const kind = defineTaskKind({
      name: 'job',
      details: z.object({}),
      start: () => {
        throw Object.assign(new Error('no such image'), { code: 'E404' });
      },
      probe: () => ({ state: 'running' }),
    });
    const manager = await openManager({ kinds: [kind], maxRunningTasks: 1, hooks: { inbox: 'pull' } });
    const heard = record(manager);
    await expect(
      manager.registerTask({ kind: 'job', taskId: 'j', description: 'x', details: {} }),
    ).rejects.toMatchObject({ code: 'LAUNCH_FAILED', taskId: 'j', message: expect.stringContaining('no such image') });
    expect(manager.getTask('j')).toMatchObject({
      status: 'failed',
      startedAt: null,
      error: { name: 'Error', message: 'no such image', code: 'E404' },
      hooks: { inbox: { state: 'skipped' } },
    });
    expect(manager.status().slots.used).toBe(0);
    expect(heard).toEqual(['task:settled j']);
  });
});

describe('probe', () => {
  it('is asked by the reconcile timer, which stops when nothing is active', async () => {
    const { world, manager, clock } = await withWorld({ reconcileIntervalMs: 10_000 });
    const idle = clock.pendingTimers;
    await manager.registerTask(job);
    await clock.advance(9_999);
    expect(world.job('j').probes).toBe(0);
    await clock.advance(1);
    await until(() => manager.status().lastReconcile?.report.checked === 1);
    expect(world.job('j').probes).toBe(1);
    const endedAt = clock.now() + 2_000;
    world.job('j').probe = { state: 'completed', result: { built: true }, endedAt };
    const settled = next(manager, 'task:settled', 'j');
    await clock.advance(10_000);
    expect((await settled).task).toMatchObject({ status: 'completed', result: { built: true }, endedAt });
    await until(() => clock.pendingTimers === idle);
  });

  const error = { name: 'ExitError', message: 'exit code 3' };
  const ends = {
    completed: { state: 'completed' },
    failed: { state: 'failed', error },
    gone: { state: 'gone' },
  } as const;
  it.each([
    ['nothing', 'completed', 'completed'],
    ['nothing', 'failed', 'failed'],
    ['nothing', 'gone', 'lost'],
    ['user', 'completed', 'completed'],
    ['user', 'failed', 'killed'],
    ['user', 'gone', 'killed'],
    ['deadline', 'completed', 'timed_out'],
    ['deadline', 'failed', 'timed_out'],
    ['deadline', 'gone', 'timed_out'],
  ] as const)('with %s on record, %s is %s', async (cause, state, status) => {
    const { world, manager, clock } = await withWorld();
    world.onStop = (one) => {
      one.probe = ends[state];
    };
    await manager.registerTask({ ...job, timeoutMs: 1_000 });
    const settled = next(manager, 'task:settled', 'j');
    if (cause === 'deadline') await clock.advance(1_000);
    else if (cause === 'user') void manager.stopTask('j');
    else world.job('j').probe = ends[state];
    const [report, { task }] = await Promise.all([manager.reconcile(), settled]);
    expect(task.status).toBe(status);
    expect(task.stop?.cause).toBe(cause === 'nothing' ? undefined : cause);
    expect(task.error).toEqual(status === 'failed' ? error : undefined);
    if (cause === 'nothing') {
      expect(report).toMatchObject({ checked: 1, settled: ['j'], lost: status === 'lost' ? ['j'] : [], failures: [] });
    }
  });

  it('that finds the work ended is believed before a stop that comes too late', async () => {
    const { world, manager } = await withWorld();
    await manager.registerTask(job);
    world.job('j').probe = { state: 'failed', error };
    const stopped = await manager.stopTask('j');
    expect(stopped).toMatchObject({ status: 'failed', error });
    expect(stopped).not.toHaveProperty('stop');
    expect(world.job('j').stops).toEqual([]);
  });

  it('that throws settles nothing, is counted as a failure, and stops nobody else from being judged', async () => {
    const { directory, world, manager } = await withWorld();
    await manager.registerTask(job);
    await manager.registerTask({ ...job, taskId: 'k' });
    const broken = new Error('the daemon does not answer');
    world.job('j').probe = broken;
    world.job('k').probe = { state: 'completed' };
    const before = onDisk(directory, 'j');
    const report = await manager.reconcile();
    expect(report).toMatchObject({ checked: 2, settled: ['k'], lost: [], failures: [{ taskId: 'j', error: broken }] });
    expect(onDisk(directory, 'j')).toEqual(before);
    expect(manager.getTask('j')?.status).toBe('running');
    world.job('j').probe = { state: 'completed' };
    expect((await manager.reconcile()).settled).toEqual(['j']);
  });

  it('that hangs holds nobody up for longer than half a minute', async () => {
    const clock = new FakeClock();
    const asked = deferred();
    const answer = deferred<{ state: 'gone' }>();
    const hung = defineTaskKind({
      name: 'hung',
      details: z.object({}),
      start: () => undefined,
      probe: () => {
        asked.resolve();
        return answer.promise;
      },
    });
    const manager = await openManager({ reconcileIntervalMs: 0, kinds: [hung] }, clock);
    await manager.registerTask({ kind: 'hung', taskId: 'h', description: 'work', details: {} });
    const pass = manager.reconcile();
    await asked.promise;
    await clock.advance(30_000);
    expect(await pass).toMatchObject({ checked: 1, settled: [], failures: [{ taskId: 'h' }] });
    expect(manager.getTask('h')?.status).toBe('running');
    answer.resolve({ state: 'gone' });
    expect((await manager.reconcile()).lost).toEqual(['h']);
  });

  it('tells of details and progress: durable, with an event where something is new', async () => {
    const { directory, world, manager } = await withWorld();
    await manager.registerTask(job);
    const heard = record(manager);
    const progress = { message: 'pulling', current: 1, total: 4 };
    world.job('j').probe = { state: 'running', details: { ref: 'container-7' }, progress };
    await manager.reconcile();
    await manager.reconcile();
    expect(heard).toEqual(['task:updated j', 'task:progress j']);
    await until(() => onDisk(directory, 'j').progress);
    expect(onDisk(directory, 'j')).toMatchObject({ details: { place: 'here', ref: 'container-7' }, progress });
    world.job('j').probe = { state: 'completed', details: { ref: 'container-8' } };
    await manager.reconcile();
    expect(onDisk(directory, 'j')).toMatchObject({
      status: 'completed',
      details: { place: 'here', ref: 'container-8' },
      progress,
    });
  });

  it('whose details do not fit the kind has failed: nothing is written', async () => {
    const { directory, world, manager } = await withWorld();
    await manager.registerTask(job);
    const before = onDisk(directory, 'j');
    world.job('j').probe = { state: 'running', details: { place: 7 as never } };
    expect((await manager.reconcile()).failures).toMatchObject([{ taskId: 'j' }]);
    expect(onDisk(directory, 'j')).toEqual(before);
  });

  it.each([
    ['nothing', undefined],
    ['an unknown state', { state: 'exited' }],
    ['a text', 'completed'],
  ])('that answers %s has failed, and settles nothing', async (_, answer) => {
    const { directory, world, manager } = await withWorld();
    await manager.registerTask(job);
    const before = onDisk(directory, 'j');
    world.job('j').probe = answer as never;
    const report = await manager.reconcile();
    expect(report).toMatchObject({ settled: [], lost: [], failures: [{ taskId: 'j' }] });
    expect(onDisk(directory, 'j')).toEqual(before);
    world.job('j').probe = { state: 'running' };
  });

  it.each([
    ['an error as it was thrown', { state: 'failed', error: new TypeError('boom') }],
    ['a failure without an error', { state: 'failed' }],
    ['an end that is no time', { state: 'completed', endedAt: Number.NaN }],
    ['an end before the start', { state: 'completed', endedAt: -5 }],
    ['a result that is no JSON', { state: 'completed', result: { f: () => 1 } }],
    ['a question that is no text', { state: 'waiting', prompt: 7 }],
    ['details that are a list', { state: 'completed', details: [1] }],
    ['progress that is none', { state: 'running', progress: { current: 'half', total: Number.NaN, message: 1 } }],
    ['a question of a megabyte', { state: 'waiting', prompt: 'x'.repeat(1 << 20) }],
  ])('that answers with %s leaves a record that can be read again', async (_, answer) => {
    const { directory, world, manager } = await withWorld();
    await manager.registerTask(job);
    world.job('j').probe = answer as never;
    await manager.reconcile();
    const task = manager.getTask('j')!;
    if (task.status === 'failed')
      expect(task.error).toMatchObject({ name: expect.any(String), message: expect.any(String) });
    if (isTerminal(task)) expect(task.endedAt).toBeGreaterThanOrEqual(task.startedAt!);
    const after = await killed(directory, world);
    const again = await openManager({ directory: after.directory, reconcileIntervalMs: 0 });
    expect(again.getTask('j')).toEqual(task);
    world.job('j').probe = { state: 'gone' };
  });

  it('whose result does not fit the schema makes the task failed, and says so', async () => {
    const kind = defineTaskKind({
      name: 'job',
      details: z.object({}),
      result: z.object({ answer: z.string() }),
      start: () => undefined,
      probe: () => ({ state: 'completed', result: { answer: 42 as never } }),
    });
    const manager = await openManager({ kinds: [kind], reconcileIntervalMs: 0 });
    await manager.registerTask({ kind: 'job', taskId: 'j', description: 'work', details: {} });
    await manager.reconcile();
    expect(manager.getTask('j')).toMatchObject({ status: 'failed', error: { name: 'InvalidResultError' } });
  });
});

describe('stop', () => {
  it('asks to terminate, and kills when the grace is over; the task ends when a probe finds it gone', async () => {
    const { world, manager, clock } = await withWorld({ stopGraceMs: 5_000 });
    world.onStop = (one, how) => {
      if (how === 'kill') one.probe = { state: 'gone' };
    };
    await manager.registerTask(job);
    const stopped = manager.stopTask('j', { reason: 'enough' });
    await next(manager, 'task:stopping', 'j');
    await until(() => world.job('j').stops.length > 0);
    await clock.advance(4_000);
    expect(world.job('j').stops).toEqual(['terminate']);
    expect(manager.getTask('j')?.status).toBe('running');
    await clock.advance(2_000);
    expect(await stopped).toMatchObject({ status: 'killed', stopReason: 'enough' });
    expect(world.job('j').stops.slice(0, 2)).toEqual(['terminate', 'kill']);
  });

  it('that a kind does not have is refused, and stopAll passes its tasks over', async () => {
    let ended = false;
    const kind = defineTaskKind({
      name: 'job',
      details: z.object({}),
      start: () => undefined,
      probe: () => (ended ? { state: 'completed' } : { state: 'running' }),
    });
    const manager = await openManager({ kinds: [kind], reconcileIntervalMs: 0 });
    await manager.registerTask({ kind: 'job', taskId: 'j', description: 'work', details: {} });
    await expect(manager.stopTask('j')).rejects.toMatchObject({ code: 'INVALID_SPEC', taskId: 'j' });
    expect(await manager.stopAll()).toEqual([]);
    expect(manager.getTask('j')).not.toHaveProperty('stop');
    ended = true;
    await manager.reconcile();
    expect(manager.getTask('j')?.status).toBe('completed');
  });

  it('on record when the host died is carried on by the next one, and the kill is due when it was', async () => {
    const first = await withWorld({ stopGraceMs: 5_000 });
    first.world.onStop = () => undefined;
    await first.manager.registerTask(job);
    const stopping = next(first.manager, 'task:stopping', 'j');
    const stopped = first.manager.stopTask('j', { reason: 'enough' });
    await stopping;
    const { directory, world } = await killed(first.directory, first.world);
    first.world.job('j').probe = { state: 'gone' };
    await first.manager.reconcile();
    await stopped;

    const clock = new FakeClock(first.clock.now() + 3_000);
    world.job('j').stops.length = 0;
    world.onStop = (one, how) => {
      if (how === 'kill') one.probe = { state: 'gone' };
    };
    const manager = await openManager(
      { directory, reconcileIntervalMs: 0, stopGraceMs: 5_000, kinds: [jobKind(world)] },
      clock,
    );
    const settled = next(manager, 'task:settled', 'j');
    await until(() => world.job('j').stops.length > 0);
    await clock.advance(1_900);
    expect(world.job('j').stops).toEqual(['terminate']);
    await clock.advance(200);
    expect((await settled).task).toMatchObject({ status: 'killed', stopReason: 'enough' });
  });
});

describe('the next host', () => {
  it('adopts what runs, by right: also beyond the limit', async () => {
    const first = await withWorld();
    await first.manager.registerTask(job);
    await first.manager.registerTask({ ...job, taskId: 'k' });
    const { directory, world } = await killed(first.directory, first.world);
    const manager = await openManager({
      directory,
      reconcileIntervalMs: 0,
      maxRunningTasks: 1,
      kinds: [jobKind(world)],
    });
    const heard = record(manager);
    const { report } = manager.status().lastReconcile!;
    expect(report).toMatchObject({ checked: 2, settled: [], lost: [], failures: [] });
    expect([...report.adopted].sort()).toEqual(['j', 'k']);
    expect(onDisk(directory, 'j')).toMatchObject({ status: 'running', attempt: 1, owner: manager.status().owner });
    expect(manager.status().slots).toEqual({ used: 2, limit: 1 });
    await until(() => heard.length === 2);
    expect(heard.sort()).toEqual(['task:adopted j', 'task:adopted k']);
    expect(world.launched).toEqual([]);
  });

  it('puts what the probe found on record with the adoption, in one write', async () => {
    const first = await withWorld();
    await first.manager.registerTask(job);
    const { directory, world } = await killed(first.directory, first.world);
    world.job('j').probe = { state: 'running', details: { ref: 'r-7' } };
    const manager = await openManager({ directory, reconcileIntervalMs: 0, kinds: [jobKind(world)] });
    const details: unknown[] = [];
    const heard: string[] = [];
    manager.on('task:adopted', ({ task }) => {
      details.push(task.details);
    });
    manager.on('task:updated', () => {
      heard.push('updated');
    });
    await until(() => details.length > 0);
    expect(details).toMatchObject([{ ref: 'r-7' }]);
    expect(heard).toEqual([]);
  });

  it('finds lost what is gone, completed what ended, and running what it cannot judge', async () => {
    const first = await withWorld();
    for (const taskId of ['gone', 'ended', 'mute']) await first.manager.registerTask({ ...job, taskId });
    const { directory, world } = await killed(first.directory, first.world);
    const endedAt = first.clock.now() + 500;
    world.job('gone').probe = { state: 'gone' };
    world.job('ended').probe = { state: 'completed', endedAt };
    world.job('mute').probe = new Error('the daemon is not up yet');
    const clock = new FakeClock(first.clock.now() + 60_000);
    const manager = await openManager({ directory, reconcileIntervalMs: 0, kinds: [jobKind(world)] }, clock);
    expect(manager.getTask('gone')).toMatchObject({
      status: 'lost',
      endedAt: clock.now(),
      stopReason: expect.any(String),
    });
    expect(manager.getTask('ended')).toMatchObject({ status: 'completed', endedAt });
    expect(manager.getTask('mute')).toMatchObject({ status: 'running' });
    expect(manager.status().lastReconcile?.report.failures).toMatchObject([{ taskId: 'mute' }]);
    expect(manager.status().slots.used).toBe(1);
    world.job('mute').probe = { state: 'running' };
    expect((await manager.reconcile()).adopted).toEqual(['mute']);
  });

  it('ends what is beyond its deadline, which counted while nobody was there', async () => {
    const first = await withWorld();
    await first.manager.registerTask({ ...job, timeoutMs: 10_000 });
    const { directory, world } = await killed(first.directory, first.world);
    const clock = new FakeClock(first.clock.now() + 10_000);
    const manager = await openManager(
      { directory, reconcileIntervalMs: 0, stopGraceMs: 0, kinds: [jobKind(world)] },
      clock,
    );
    await until(() => manager.getTask('j')?.status === 'timed_out');
    expect(world.job('j').stops[0]).toBe('terminate');
  });

  it('launches what was queued, once', async () => {
    const first = await withWorld({ maxRunningTasks: 1, whenFull: 'queue' });
    await first.manager.registerTask(job);
    await first.manager.registerTask({ ...job, taskId: 'q' });
    const { directory, world } = await killed(first.directory, first.world);
    const manager = await openManager({ directory, reconcileIntervalMs: 0, kinds: [jobKind(world)] });
    await until(() => manager.getTask('q')?.status === 'running' && world.launched.length > 0);
    expect(world.launched).toEqual([{ taskId: 'q', attempt: 1, input: undefined }]);
  });

  it.each([
    [
      'without anybody who knows its input',
      {},
      /ended before it began, and its input is on no record \(the kind "job" has no recover\)/,
    ],
    ['that was told not to', { resumeQueued: false }, /ended before it began.*resumeQueued: false/],
  ])('%s calls what was queued lost', async (_which, options, why) => {
    const first = await withWorld({ maxRunningTasks: 1, whenFull: 'queue' });
    await first.manager.registerTask(job);
    await first.manager.registerTask({ ...job, taskId: 'q', input: { token: 'secret' } });
    const { directory, world } = await killed(first.directory, first.world);
    const manager = await openManager({ directory, reconcileIntervalMs: 0, kinds: [jobKind(world)], ...options });
    expect(manager.getTask('q')).toMatchObject({
      status: 'lost',
      startedAt: null,
      stopReason: expect.stringMatching(why),
    });
    expect(world.launched).toEqual([]);
  });
});

describe('recover', () => {
  const recovering = async (answer: (task: any) => any) => {
    const first = await withWorld({ maxRunningTasks: 1, whenFull: 'queue' });
    await first.manager.registerTask(job);
    await first.manager.registerTask({ ...job, taskId: 'q', input: { token: 'first' } });
    const { directory, world } = await killed(first.directory, first.world);
    world.job('j').probe = { state: 'gone' };
    const asked: any[] = [];
    const kind = recoveringJobKind(world, (task) => {
      asked.push(task);
      return answer(task);
    });
    const manager = await openManager({
      directory,
      reconcileIntervalMs: 0,
      maxRunningTasks: 1,
      stopGraceMs: 0,
      kinds: [kind],
    });
    return { directory, world, manager, asked, kind };
  };

  it('is asked once, and what it returns is the input of the next attempt; a queued task keeps its first', async () => {
    const { directory, world, manager, asked } = await recovering(({ taskId }) => ({
      input: { token: `again-${taskId}` },
    }));
    const heard = record(manager);
    expect(asked.map(({ taskId, attempt, status }) => `${taskId} ${attempt} ${status}`).sort()).toEqual([
      'j 1 running',
      'q 1 queued',
    ]);
    expect(world.launched).toEqual([{ taskId: 'j', attempt: 2, input: { token: 'again-j' } }]);
    expect(onDisk(directory, 'j')).toMatchObject({ status: 'running', attempt: 2, details: { ref: 'j/2' } });
    expect(onDisk(directory, 'q')).toMatchObject({ status: 'queued', attempt: 1 });
    expect(manager.status().slots).toEqual({ used: 1, limit: 1 });
    await until(() => heard.length > 0);
    world.job('j').probe = { state: 'completed' };
    await manager.reconcile();
    await until(() => world.launched.length === 2);
    expect(world.launched[1]).toEqual({ taskId: 'q', attempt: 1, input: { token: 'again-q' } });
    expect(asked).toHaveLength(2);
    await until(() => heard.includes('task:started q'));
    expect(heard).toEqual(['task:started j', 'task:settled j', 'task:started q']);
    expect(manager.getTask('q')).toMatchObject({ status: 'running', attempt: 1 });
  });

  it('that returns nothing leaves the task lost', async () => {
    const { world, manager, asked } = await recovering(() => undefined);
    expect(asked).toHaveLength(2);
    expect([manager.getTask('j')?.status, manager.getTask('q')?.status]).toEqual(['lost', 'lost']);
    expect(world.launched).toEqual([]);
    expect(manager.status().slots.used).toBe(0);
  });

  it('that throws is told of, and leaves the task lost', async () => {
    const { manager } = await recovering(() => {
      throw new Error('no idea');
    });
    const errors: string[] = [];
    manager.on('error', ({ error, taskId }) => void errors.push(`${taskId}: ${error.message}`));
    expect(manager.getTask('j')?.status).toBe('lost');
    await until(() => errors.length === 2);
    expect(errors.sort()).toEqual(['j: no idea', 'q: no idea']);
  });

  it('is not asked for a task that was being stopped', async () => {
    const first = await withWorld({ stopGraceMs: 60_000 });
    first.world.onStop = () => undefined;
    await first.manager.registerTask(job);
    const stopping = next(first.manager, 'task:stopping', 'j');
    const stopped = first.manager.stopTask('j');
    await stopping;
    const { directory, world } = await killed(first.directory, first.world);
    first.world.job('j').probe = { state: 'gone' };
    await first.manager.reconcile();
    await stopped;
    world.job('j').probe = { state: 'gone' };
    const kind = recoveringJobKind(world, () => ({ input: undefined }));
    const manager = await openManager({ directory, reconcileIntervalMs: 0, kinds: [kind] });
    expect(manager.getTask('j')).toMatchObject({ status: 'killed', attempt: 1 });
  });

  it('is not asked when the work goes away while its owner lives', async () => {
    const world = new World();
    let asked = 0;
    const kind = recoveringJobKind(world, () => {
      asked++;
      return { input: undefined };
    });
    const manager = await openManager({ reconcileIntervalMs: 0, kinds: [kind] });
    await manager.registerTask(job);
    world.job('j').probe = { state: 'gone' };
    await manager.reconcile();
    expect(manager.getTask('j')?.status).toBe('lost');
    expect(asked).toBe(0);
  });

  it('of in-process work gives the run of the next attempt', async () => {
    const agent = defineTaskKind({ name: 'agent', details: z.object({ agentId: z.string().optional() }) });
    const directory = await scratch();
    const first = await openManager({ directory, kinds: [agent] });
    const learnt = deferred();
    await first.registerTask({
      kind: 'agent',
      taskId: 'a',
      description: 'work',
      details: {},
      run: async ({ updateDetails, signal }) => {
        await updateDetails({ agentId: 'a7' });
        learnt.resolve();
        await new Promise((_, reject) => signal.addEventListener('abort', reject));
      },
    });
    await learnt.promise;
    const left = await afterKill(directory);
    const recovering = defineTaskKind({
      name: 'agent',
      details: z.object({ agentId: z.string().optional() }),
      recover:
        ({ details }) =>
        async ({ attempt }) => ({ agent: details.agentId ?? null, attempt }),
    });
    const manager = await openManager({ directory: left, kinds: [recovering] });
    expect(await manager.waitForTask('a')).toMatchObject({
      status: 'completed',
      attempt: 2,
      result: { agent: 'a7', attempt: 2 },
    });
  });
});

describe('a kind that this host does not have', () => {
  async function strange(change: (record: any) => any = (record) => record, options: object = {}) {
    const first = await withWorld();
    await first.manager.registerTask({ ...job, timeoutMs: 1_000 });
    const { directory, world } = await killed(first.directory, first.world);
    await writeFile(join(directory, 'j.json'), JSON.stringify(change(onDisk(directory, 'j'))));
    const clock = new FakeClock(first.clock.now() + 60_000);
    const manager = await openManager({ directory, stopGraceMs: 0, reconcileIntervalMs: 0, ...options }, clock);
    return { directory, world, manager, clock };
  }

  /** Listed and kept; never probed, never lost, never in anybody's way. */
  async function expectKept({ directory, world, manager, clock }: Awaited<ReturnType<typeof strange>>) {
    const before = onDisk(directory, 'j');
    expect(manager.listTasks({ active: true }).map((task) => [String(task.kind), task.taskId])).toEqual([['job', 'j']]);
    expect(manager.status()).toMatchObject({
      running: 1,
      slots: { used: 0 },
      lastReconcile: { report: { checked: 0 } },
    });
    expect(await manager.waitForIdle({ timeoutMs: 0 })).toBe(true);
    expect(await manager.waitForAny()).toBeUndefined();
    expect(await manager.stopAll()).toEqual([]);
    await expect(manager.stopTask('j')).rejects.toMatchObject({ code: 'UNKNOWN_KIND' });
    await expect(manager.detachTask('j')).resolves.toMatchObject({ status: 'running' });
    await clock.advance(60_000);
    await manager.reconcile();
    await manager.close({ tasks: 'stop' });
    expect(onDisk(directory, 'j')).toEqual(before);
    expect(world.job('j').probes).toBe(0);
    expect(world.job('j').stops).toEqual([]);
  }

  it('is listed and kept, never probed, never lost, never in anybody’s way', async () => {
    await expectKept(await strange());
  });

  it('so is one whose details do not fit the kind', async () => {
    const world = new World();
    const kind = jobKind(world);
    const opened = await strange((one) => ({ ...one, details: { place: 7 } }), { kinds: [kind] });
    const [task] = opened.manager.listTasks();
    expect(kind.is(task!)).toBe(false);
    await expectKept({ ...opened, world });
  });

  it('may still be annotated, and is adopted by a host that has the kind', async () => {
    const { directory, world, manager, clock } = await strange((one) => ({ ...one, unknownKey: { kept: true } }));
    await manager.updateTask('j', { metadata: { seen: true } });
    await manager.close();
    const again = await openManager(
      { directory, reconcileIntervalMs: 0, kinds: [jobKind(world)], stopGraceMs: 0 },
      clock,
    );
    expect(again.status().lastReconcile?.report.adopted).toEqual(['j']);
    expect(onDisk(directory, 'j')).toMatchObject({ unknownKey: { kept: true }, metadata: { seen: true } });
  });
});

describe('updateDetails', () => {
  const agent = defineTaskKind({ name: 'agent', details: z.object({ agentId: z.string().optional() }) });

  it('is durable when it resolves, and an event', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, kinds: [agent] });
    const heard = record(manager);
    let whenResolved: any;
    const spec = { kind: 'agent', taskId: 'a', description: 'work', details: {} } as const;
    await manager.registerTask({
      ...spec,
      run: async (context) => {
        await context.updateDetails({ agentId: 'a7' });
        whenResolved = [onDisk(directory, 'a').details, context.details];
      },
    });
    expect(await manager.waitForTask('a')).toMatchObject({ status: 'completed', details: { agentId: 'a7' } });
    expect(whenResolved).toEqual([{ agentId: 'a7' }, { agentId: 'a7' }]);
    expect(heard).toEqual(['task:started a', 'task:updated a', 'task:settled a']);
  });

  it('refuses what does not fit the kind', async () => {
    const manager = await openManager({ kinds: [agent] });
    await manager.registerTask({
      kind: 'agent',
      taskId: 'a',
      description: 'work',
      details: { agentId: 'a7' },
      run: ({ updateDetails }) => updateDetails({ agentId: 7 as never }),
    });
    expect(await manager.waitForTask('a')).toMatchObject({
      status: 'failed',
      details: { agentId: 'a7' },
      error: { code: 'INVALID_SPEC' },
    });
  });
});

describe('close while stops are under way', () => {
  it('resolves, and tells nobody of errors: what it finds ended is written, and the next owner carries on the rest', async () => {
    const errors: string[] = [];
    for (let turns = 0; turns < 40; turns++) {
      const { directory, world, manager, clock } = await withWorld();
      const taskIds = ['a', 'b', 'c', 'd', 'e'];
      await Promise.all(taskIds.map((taskId) => manager.registerTask({ ...job, taskId })));
      manager.on('error', ({ error }) => void errors.push(`after ${turns} turns: ${error.code} ${error.message}`));
      const outcomes = Promise.allSettled(taskIds.map((taskId) => manager.stopTask(taskId)));
      for (let n = 0; n < turns; n++) await turn();
      await manager.close().catch((error) => errors.push(`close after ${turns} turns: ${error.message}`));
      for (const one of await outcomes) {
        if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'MANAGER_CLOSED' });
        else expect(one.value.status).toBe('killed');
      }
      const options = { directory, reconcileIntervalMs: 0, stopGraceMs: 0, kinds: [jobKind(world)] };
      const again = await openManager(options, clock);
      for (const taskId of taskIds) {
        // A stop that is on record is carried out, by whom it may be.
        const { stop } = again.getTask(taskId)!;
        const { status } = stop ? await again.waitForTask(taskId) : again.getTask(taskId)!;
        expect([status, stop?.cause]).toEqual(
          world.job(taskId).stops.length ? ['killed', 'user'] : ['running', undefined],
        );
      }
      await again.close({ tasks: 'stop', graceMs: 0 });
    }
    expect(errors).toEqual([]);
  });
});
