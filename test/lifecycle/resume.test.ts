// What was accepted runs, once: tasks that were queued, or whose launch was cut short, when their host ended.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineTaskKind } from '../../src/index.js';
import { FakeClock } from '../helpers/clock.js';
import { deferred, next, openManager, record, scratch } from '../helpers/manager.js';
import { until } from '../helpers/wait.js';
import { afterKill, onDisk } from '../helpers/world.js';

const hanging = { kind: 'function', description: 'hangs', run: () => new Promise(() => undefined) } as const;

/** A host whose one slot is taken. */
async function full(options: object = {}) {
  const directory = await scratch();
  const manager = await openManager({ directory, maxRunningTasks: 1, whenFull: 'queue', ...options });
  await manager.registerTask({ ...hanging, taskId: 'first' });
  return { directory, manager };
}

/** A process that leaves a line of its own each time it runs. */
function marking(directory: string, name: string) {
  const proof = join(directory, 'proof');
  return { kind: 'process', taskId: name, description: name, command: `echo ${name} >>${proof}` } as const;
}

const ran = (directory: string) => readFileSync(join(directory, 'proof'), 'utf8').trim().split('\n');

/** A record as a host leaves it that was killed between the record and the launch. */
function cutShort(directory: string, taskId: string, createdAt: number, more: object = {}) {
  const record = {
    ...{ schemaVersion: 1, taskId, kind: 'process', description: 'work', status: 'running', detached: true, createdAt },
    ...{ startedAt: createdAt, endedAt: null, attempt: 1, metadata: {}, hooks: {}, ...more },
  };
  const owner = readOwner(directory);
  const details = {
    ...{
      cwd: directory,
      pid: null,
      exitCode: null,
      signal: null,
      command: `echo ${taskId} >>${join(directory, 'proof')}`,
    },
    ...(more as { details?: object }).details,
  };
  writeFileSync(join(directory, `${taskId}.json`), JSON.stringify({ ...record, owner, details }), { mode: 0o600 });
}

/** The owner that is on record anywhere in the directory. */
function readOwner(directory: string): unknown {
  const [name] = readdirSync(join(directory, '.owner')).filter((one) => one.endsWith('.released'));
  return JSON.parse(readFileSync(join(directory, '.owner', name!), 'utf8'));
}

/** A directory that has been owned once. */
async function owned(): Promise<string> {
  const directory = await scratch();
  await (await openManager({ directory })).close();
  return directory;
}

describe('queued processes', () => {
  it.each(['a close', 'a kill'])('run under the next host after %s, in order, with all they had', async (how) => {
    const { directory, manager } = await full({ hooks: { inbox: 'pull' } });
    const names = ['a', 'b', 'c', 'd'];
    for (const name of names) {
      await manager.registerTask({ ...marking(directory, name), idempotencyKey: `k-${name}`, timeoutMs: 60_000 });
    }
    let left = directory;
    if (how === 'a close') await manager.close({ graceMs: 0 });
    else left = await afterKill(directory);
    expect(onDisk(left, 'a')).toMatchObject({ status: 'queued', attempt: 1, hooks: { inbox: { state: 'pending' } } });
    const again = await openManager({ directory: left, maxRunningTasks: 1, hooks: { inbox: 'pull' } });
    expect(again.listTasks({ active: true }).map(({ taskId }) => taskId)).toContain('d');
    const same = await again.registerTask({
      ...marking(directory, 'a'),
      taskId: undefined,
      idempotencyKey: 'k-a',
      timeoutMs: 60_000,
    });
    expect(same.taskId).toBe('a');
    await again.waitForIdle();
    expect(ran(directory)).toEqual(names);
    for (const name of names)
      expect(again.getTask(name)).toMatchObject({ status: 'completed', attempt: 1, details: { exitCode: 0 } });
    expect(again.listDeliveries({ state: 'pending' }).map(({ taskId }) => taskId)).toEqual(
      expect.arrayContaining(names),
    );
    expect(again.getTask('a')!.owner!.instanceId).toBe(again.status().owner.instanceId);
  });

  it('are timed out by their queue timeout, which went on while nobody lived', async () => {
    const clock = new FakeClock();
    const directory = await scratch();
    const options = { directory, maxRunningTasks: 1, whenFull: 'queue' } as const;
    const first = await openManager(options, clock);
    await first.registerTask(hanging);
    await first.registerTask({ ...marking(directory, 'late'), queueTimeoutMs: 1_000 });
    await first.registerTask({ ...marking(directory, 'patient'), queueTimeoutMs: 100_000 });
    const left = await afterKill(directory);
    await clock.advance(5_000);
    const manager = await openManager({ ...options, directory: left, maxRunningTasks: 2 }, clock);
    await until(() => manager.listTasks({ active: true }).length === 0);
    expect(manager.getTask('late')).toMatchObject({ status: 'timed_out', startedAt: null });
    expect(manager.getTask('patient')).toMatchObject({ status: 'completed' });
    expect(ran(directory)).toEqual(['patient']);
    await first.close({ tasks: 'stop', graceMs: 0 });
  });

  describe('with an environment that no record holds', () => {
    const secret = { env: { SECRET: 'hush', REMOVED: undefined } };

    async function left(more: object) {
      const { directory, manager } = await full();
      await manager.registerTask({
        kind: 'process',
        taskId: 'q',
        description: 'work',
        command: 'echo "$SECRET"',
        ...more,
      });
      await manager.close({ graceMs: 0 });
      return directory;
    }

    it('has its names on record, and never their values', async () => {
      const directory = await left(secret);
      expect(onDisk(directory, 'q').details).toMatchObject({ envNames: ['SECRET', 'REMOVED'] });
      expect(readFileSync(join(directory, 'q.json'), 'utf8')).not.toContain('hush');
    });

    it('run with what recoverProcess gives', async () => {
      const directory = await left(secret);
      const asked: unknown[] = [];
      const manager = await openManager({
        directory,
        recoverProcess: (task) => {
          asked.push(task.details.envNames);
          return { env: { SECRET: 'hush' } };
        },
      });
      await manager.waitForIdle();
      expect(asked).toEqual([['SECRET', 'REMOVED']]);
      expect((await manager.readOutput('q')).text).toBe('hush\n');
      expect(manager.getTask('q')).toMatchObject({ status: 'completed', attempt: 1 });
    });

    it('keep inheritEnv: false, which needs an answer too', async () => {
      const directory = await left({ inheritEnv: false, env: { SECRET: 'hush' }, command: 'echo "$SECRET/$HOME"' });
      const manager = await openManager({ directory, recoverProcess: () => ({ env: { SECRET: 'again' } }) });
      await manager.waitForIdle();
      expect((await manager.readOutput('q')).text).toBe('again/\n');
    });

    it.each<[string, object, RegExp]>([
      [
        'nobody to ask',
        {},
        /ended before it began, and the values of its environment variables \(SECRET, REMOVED\) are on no record: open with recoverProcess/,
      ],
      [
        'no answer',
        { recoverProcess: () => undefined },
        /SECRET, REMOVED\) are on no record: recoverProcess gave none/,
      ],
      [
        'an answer that throws',
        {
          recoverProcess: () => {
            throw new Error('vault is locked');
          },
        },
        /recoverProcess gave none/,
      ],
      ['an answer that is none', { recoverProcess: () => ({ env: { SECRET: 7 } }) }, /recoverProcess gave none/],
    ])('are lost with %s, and say what is missing', async (_what, options, why) => {
      const directory = await left(secret);
      const manager = await openManager({ directory, ...options });
      const errors: string[] = [];
      manager.on('error', ({ error }) => void errors.push(error.message));
      expect(manager.getTask('q')).toMatchObject({
        status: 'lost',
        startedAt: null,
        stopReason: expect.stringMatching(why),
      });
      await new Promise(setImmediate);
      expect(errors.join()).not.toContain('hush');
    });
  });

  it('stay queued for as long as no host has room for them', async () => {
    const { directory, manager } = await full();
    await manager.registerTask({ ...marking(directory, 'q'), group: 'g' });
    await manager.close({ graceMs: 0 });
    for (const _ of [1, 2]) {
      const host = await openManager({ directory, maxRunningTasksPerGroup: 0 });
      await host.reconcile();
      expect(host.getTask('q')?.status).toBe('queued');
      await host.close();
    }
    const last = await openManager({ directory, maxRunningTasksPerGroup: 1 });
    await last.waitForIdle();
    expect(ran(directory)).toEqual(['q']);
  });
});

describe('a launch that was cut short before anything ran', () => {
  it('goes back to its place in the queue, and runs once', async () => {
    const directory = await owned();
    for (const [index, name] of ['one', 'two', 'three'].entries()) cutShort(directory, name, 1_000 + index);
    cutShort(directory, 'four', 2_000, { status: 'queued', startedAt: null });
    const manager = await openManager({ directory, maxRunningTasks: 1 });
    const heard = record(manager);
    await manager.waitForIdle();
    expect(ran(directory)).toEqual(['one', 'two', 'three', 'four']);
    expect(heard.filter((event) => event.startsWith('task:queued'))).toEqual(
      expect.arrayContaining(['task:queued one', 'task:queued two', 'task:queued three']),
    );
    for (const name of ['one', 'four'])
      expect(manager.getTask(name)).toMatchObject({ status: 'completed', attempt: 1 });
    expect(manager.status().slots.used).toBe(0);
  });

  it('holds no slot, and its deadline counts from its start', async () => {
    const directory = await owned();
    cutShort(directory, 'q', 1_000, { timeoutMs: 60_000, deadlineAt: 61_000 });
    const manager = await openManager({ directory, maxRunningTasks: 1, whenFull: 'queue' });
    const started = (await next(manager, 'task:started', 'q')).task;
    expect(started.deadlineAt).toBe(started.startedAt + 60_000);
    await manager.waitForIdle();
    expect(manager.getTask('q')).toMatchObject({ status: 'completed' });
  });

  it('was a foreground one: runs detached, since nobody waits for it any more', async () => {
    const directory = await owned();
    cutShort(directory, 'q', 1_000, { detached: false });
    const manager = await openManager({ directory });
    await manager.waitForIdle();
    expect(manager.getTask('q')).toMatchObject({ status: 'completed', detached: true });
  });

  it('was a foreground one: a deadline that was only to detach it does not end it, and detachTimeoutMs does', async () => {
    const directory = await owned();
    const foreground = { detached: false, timeoutMs: 60_000, deadlineAt: 61_000, detachOnTimeout: true };
    cutShort(directory, 'one', 1_000, foreground);
    cutShort(directory, 'two', 1_001, { ...foreground, detachTimeoutMs: 90_000 });
    const manager = await openManager({ directory });
    await manager.waitForIdle();
    expect(manager.getTask('one')).toMatchObject({ status: 'completed', detached: true });
    expect(manager.getTask('one')?.deadlineAt).toBeUndefined();
    const { startedAt, deadlineAt } = manager.getTask('two')!;
    expect(deadlineAt).toBe(startedAt! + 90_000);
  });

  it('is not launched where a stop is on record', async () => {
    const directory = await owned();
    cutShort(directory, 'q', 1_000, { stop: { cause: 'user', requestedAt: 1_500 } });
    const manager = await openManager({ directory });
    expect(manager.getTask('q')).toMatchObject({ status: 'killed', startedAt: null });
    expect(() => ran(directory)).toThrow('ENOENT');
  });

  it('runs once though the supervisor of the first launch comes late: during the second, and after it', async () => {
    const directory = await owned();
    cutShort(directory, 'q', 1_000, { details: { command: `echo q >>${join(directory, 'proof')}; sleep 0.2` } });
    const manager = await openManager({ directory });
    await next(manager, 'task:started', 'q');
    await manager.waitForIdle();
    // The right to run stays taken for as long as there is a record.
    await until(() => readFileSync(join(directory, '.run/q.pid'), 'utf8') === 'void\n');
    await manager.close();
    const again = await openManager({ directory });
    expect(readFileSync(join(directory, '.run/q.pid'), 'utf8')).toBe('void\n');
    expect(again.getTask('q')).toMatchObject({ status: 'completed' });
    expect(ran(directory)).toEqual(['q']);
  });

  it('of an earlier version of the record, is launched too', async () => {
    const directory = await owned();
    cutShort(directory, 'q', 1_000);
    const { revision: _, updatedAt: __, ...older } = onDisk(directory, 'q');
    writeFileSync(join(directory, 'q.json'), JSON.stringify(older));
    const manager = await openManager({ directory });
    await manager.waitForIdle();
    expect(manager.getTask('q')).toMatchObject({ status: 'completed' });
  });
});

describe('queued in-process work', () => {
  const agent = (asked: string[], answer: (task: { taskId: string; attempt: number }) => unknown) =>
    defineTaskKind({
      name: 'agent',
      details: z.object({}),
      recover: (task) => {
        asked.push(`${task.taskId} ${task.attempt} ${task.status}`);
        return answer(task) as never;
      },
    });

  it('runs with what recover gives, at its first attempt', async () => {
    const asked: string[] = [];
    const kind = agent(
      asked,
      ({ taskId }) =>
        ({ attempt }: { attempt: number }) =>
          `${taskId} ${attempt}`,
    );
    const { directory, manager } = await full({ kinds: [kind] });
    await manager.registerTask({
      kind: 'agent',
      taskId: 'q',
      description: 'work',
      details: {},
      run: () => 'never',
    } as never);
    await manager.close({ graceMs: 0 });
    const again = await openManager({ directory, kinds: [kind] });
    await again.waitForIdle();
    expect(again.getTask('q')).toMatchObject({ status: 'completed', attempt: 1, result: 'q 1' });
    expect(asked).toEqual(['q 1 queued']);
  });

  it('of a kind without recover is lost, and says why', async () => {
    const { directory, manager } = await full();
    await manager.registerTask({ ...hanging, taskId: 'q' });
    await manager.close({ graceMs: 0 });
    const again = await openManager({ directory });
    expect(again.getTask('q')).toMatchObject({
      status: 'lost',
      stopReason: 'its owner ended before it began, and its run is on no record (the kind "function" has no recover)',
    });
    expect(again.getTask('first')).toMatchObject({ status: 'killed', stop: { cause: 'shutdown' } });
  });
});

describe('close, and in-process work whose kind has recover', () => {
  const kindWith = (attempts: string[]) =>
    defineTaskKind({
      name: 'agent',
      details: z.object({}),
      recover:
        () =>
        async ({ attempt }) => {
          attempts.push(`attempt ${attempt}`);
          return attempt;
        },
    });

  async function closed(run: (context: { signal: AbortSignal }) => unknown, options: object = {}) {
    const directory = await scratch();
    const attempts: string[] = [];
    const kind = kindWith(attempts);
    const manager = await openManager({ directory, kinds: [kind] });
    await manager.registerTask({ kind: 'agent', taskId: 'w', description: 'work', details: {}, run } as never);
    const heard = record(manager);
    await manager.close({ graceMs: 50, ...options });
    return { directory, attempts, kind, heard };
  }

  it.each<[string, (context: { signal: AbortSignal }) => unknown]>([
    [
      'heeds its signal',
      ({ signal }) => new Promise((_, no) => signal.addEventListener('abort', () => no(signal.reason))),
    ],
    [
      'throws something else because of it',
      ({ signal }) => new Promise((_, no) => signal.addEventListener('abort', () => no(new Error('socket closed')))),
    ],
    ['ignores its signal', () => new Promise(() => undefined)],
  ])('that %s is left to the next owner, as a crash would leave it', async (_which, run) => {
    const { directory, attempts, kind, heard } = await closed(run);
    expect(onDisk(directory, 'w')).toMatchObject({ status: 'running', attempt: 1 });
    expect(onDisk(directory, 'w')).not.toHaveProperty('stop');
    expect(heard).toEqual([]);
    const again = await openManager({ directory, kinds: [kind] });
    await again.waitForIdle();
    expect(attempts).toEqual(['attempt 2']);
    expect(again.getTask('w')).toMatchObject({ status: 'completed', result: 2 });
  });

  it('that returns within the grace has completed, with its result', async () => {
    const { directory, attempts, heard } = await closed(
      ({ signal }) =>
        new Promise((yes) => signal.addEventListener('abort', () => yes((signal.reason as DOMException).name))),
    );
    expect(onDisk(directory, 'w')).toMatchObject({ status: 'completed', result: 'AbortError' });
    expect(heard).toEqual(['task:settled w']);
    expect(attempts).toEqual([]);
  });

  it('is told why by the cause of its signal', async () => {
    const told = deferred<unknown>();
    await closed(
      ({ signal }) =>
        new Promise((_, no) =>
          signal.addEventListener('abort', () => {
            told.resolve((signal.reason as Error).cause);
            no(signal.reason);
          }),
        ),
    );
    expect(await told.promise).toMatchObject({ cause: 'shutdown' });
  });

  it('is killed by a close that stops everything', async () => {
    const { directory } = await closed(() => new Promise(() => undefined), { tasks: 'stop', graceMs: 0 });
    expect(onDisk(directory, 'w')).toMatchObject({ status: 'killed', stop: { cause: 'shutdown' } });
  });

  it('ends by a stop that was on record before', async () => {
    const directory = await scratch();
    const kind = kindWith([]);
    const manager = await openManager({ directory, kinds: [kind], stopGraceMs: 20 });
    await manager.registerTask({
      kind: 'agent',
      taskId: 'w',
      description: 'work',
      details: {},
      run: () => new Promise(() => undefined),
    } as never);
    const stopping = next(manager, 'task:stopping', 'w');
    const stopped = manager.stopTask('w');
    await stopping;
    await manager.close();
    expect(await stopped).toMatchObject({ status: 'killed' });
    expect(onDisk(directory, 'w')).toMatchObject({ status: 'killed', stop: { cause: 'user' } });
  });
});
