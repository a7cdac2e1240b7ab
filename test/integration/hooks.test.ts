/* Completions that arrive, through the whole manager: hooks under failure, restarts and kills. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type BackgroundTaskManager, defineTaskKind, PermanentDeliveryError } from '../../src/index.js';
import { FakeClock } from '../helpers/clock.js';
import { startHost, supervisors } from '../helpers/host.js';
import { leave, leftRecord, nothingPending, onDisk, seeded, tally } from '../helpers/integration.js';
import { deferred, next, openManager, record, scratch } from '../helpers/manager.js';
import { until } from '../helpers/wait.js';

const forever = () => new Promise<never>(() => undefined);
const fn = { kind: 'function', description: 'work', run: () => 'done' } as const;
const endless = { kind: 'function', description: 'work', run: forever } as const;
const quick = { minDelayMs: 0, maxDelayMs: 2 };

describe('1,000 tasks and hooks that fail at random half of the time', () => {
  const TASKS = 1_000;

  it('with enough attempts all are delivered; with the default of 4 those given up are failed, and redeliver brings them home', {
    timeout: 120_000,
  }, async () => {
    const directory = await scratch();
    const atOnce = { now: 0, most: 0 };
    const patient = flakyHook(1, atOnce);
    const usual = flakyHook(2, atOnce);
    const manager = await openManager({
      directory,
      reconcileIntervalMs: 0,
      hooks: {
        patient: { ...quick, maxAttempts: 64, deliver: patient.deliver },
        usual: { ...quick, deliver: usual.deliver },
      },
    });
    const heard: Record<string, number> = {};
    for (const event of ['hook:delivered', 'hook:retrying', 'hook:failed'] as const) {
      manager.on(event, ({ hook }) => {
        heard[`${event} ${hook}`] = (heard[`${event} ${hook}`] ?? 0) + 1;
      });
    }
    await Promise.all(Array.from({ length: TASKS }, (_, n) => manager.registerTask({ ...fn, taskId: `t${n}` })));
    await manager.waitForIdle();
    const given = () =>
      (heard['hook:delivered patient'] ?? 0) + (heard['hook:delivered usual'] ?? 0) + (heard['hook:failed usual'] ?? 0);
    await until(() => given() >= 2 * TASKS, { timeoutMs: 100_000, message: () => `${given()} deliveries` });

    expect(tally(manager, 'patient')).toEqual({ delivered: TASKS });
    const givenUp = [...usual.calls].filter(([, made]) => !made.includes(true)).map(([taskId]) => taskId);
    expect(givenUp.length).toBeGreaterThan(0);
    const failed = manager.listDeliveries({ state: 'failed' });
    expect(failed.map(({ taskId }) => taskId).sort()).toEqual(givenUp.sort());
    expect(tally(manager, 'usual')).toEqual({ delivered: TASKS - givenUp.length, failed: givenUp.length });
    for (const { taskId, hook, state, attempts, lastError, deliveredAt } of manager.listDeliveries()) {
      const made = (hook === 'usual' ? usual : patient).calls.get(taskId)!;
      expect(made.indexOf(true), `${taskId} is not called again after its success`).toBe(
        state === 'delivered' ? made.length - 1 : -1,
      );
      expect(attempts).toBe(made.length);
      const outcome = state === 'failed' ? { lastError } : { deliveredAt };
      expect(onDisk(directory, taskId).hooks[hook]).toEqual({ state, attempts, ...outcome });
      if (state === 'failed') expect([attempts, lastError]).toEqual([4, { name: 'TypeError', message: 'no 4' }]);
    }
    expect(heard).toEqual({
      'hook:delivered patient': TASKS,
      'hook:retrying patient': patient.failures(),
      'hook:delivered usual': TASKS - givenUp.length,
      'hook:retrying usual': usual.failures() - givenUp.length,
      'hook:failed usual': givenUp.length,
    });
    expect(atOnce.most).toBeLessThanOrEqual(8);

    // The hook goes on failing half of the time, so that some need more than one redelivery.
    for (let letters = failed; letters.length > 0; letters = manager.listDeliveries({ state: 'failed' })) {
      const goal = given() + letters.length;
      await Promise.all(letters.map(({ taskId }, n) => manager.redeliver(taskId, n % 2 ? 'usual' : undefined)));
      await until(() => given() >= goal, { timeoutMs: 60_000, message: 'those delivered again' });
    }
    expect(tally(manager)).toEqual({ delivered: 2 * TASKS });
    for (const { calls } of [patient, usual]) {
      expect([...calls.values()].map((made) => made.filter(Boolean).length)).toEqual(Array(TASKS).fill(1));
    }
  });
});

describe('no hook fires before its outcome is on disk', () => {
  it('however the task ended', async () => {
    const directory = await scratch();
    const seen = new Map<string, unknown>();
    const manager = await openManager({
      directory,
      stopGraceMs: 0,
      hooks: {
        told: (task) => {
          const { status, endedAt, hooks } = onDisk(directory, task.taskId);
          seen.set(task.taskId, { status, endedAt, state: hooks.told!.state });
          expect(task).toMatchObject({ status, endedAt });
        },
      },
    });
    await manager.registerTask({ ...fn, taskId: 'returned' });
    await manager.registerTask({ ...fn, taskId: 'threw', run: () => Promise.reject(new Error('no')) });
    await manager.registerTask({ kind: 'process', taskId: 'exited', description: 'work', command: 'exit 3' });
    await manager.registerTask({ ...endless, taskId: 'late', timeoutMs: 1 });
    await manager.registerTask({ ...endless, taskId: 'stopped' });
    await manager.stopTask('stopped');
    await manager.waitForIdle();
    await nothingPending(manager);
    const statuses = { returned: 'completed', threw: 'failed', exited: 'failed', late: 'timed_out', stopped: 'killed' };
    for (const [taskId, status] of Object.entries(statuses)) {
      expect(seen.get(taskId), taskId).toEqual({ status, endedAt: expect.any(Number), state: 'pending' });
    }
  });

  // Every call that changes a file, from the end of the work until its delivery is on record.
  it('with the host killed at every write of a settlement', { timeout: 120_000 }, async () => {
    const script = `
      const { createRequire, syncBuiltinESMExports } = await import('node:module');
      const fs = createRequire(import.meta.url)('node:fs');
      const { appendFileSync, readFileSync } = fs;
      const at = Number(process.env.KILL_AT);
      let calls = -1;
      const count = () => { if (calls >= 0 && calls++ === at) process.kill(process.pid, 'SIGKILL'); };
      const patch = (target, names) => {
        for (const name of names) {
          const real = target[name];
          target[name] = function (...args) { count(); return Reflect.apply(real, this, args); };
        }
      };
      const names = ['open', 'write', 'fsync', 'rename', 'unlink', 'link', 'chmod', 'mkdir'];
      patch(fs, [...names, ...names.map((name) => name + 'Sync')]);
      patch(fs.promises, names.filter((name) => fs.promises[name]));
      const handle = await fs.promises.open('/dev/null');
      patch(Object.getPrototypeOf(handle), ['write', 'writeFile', 'sync', 'datasync']);
      await handle.close();
      syncBuiltinESMExports();
      const manager = await BackgroundTaskManager.open({ directory, reconcileIntervalMs: 0, hooks: { told: (task) => {
        const { status, hooks } = JSON.parse(readFileSync(directory + '/t.json', 'utf8'));
        appendFileSync(directory + '/.fired', status + ' ' + hooks.told.state + '\\n');
      } } });
      manager.on('hook:delivered', () => { say('delivered after ' + calls); process.kill(process.pid, 'SIGKILL'); });
      let finish;
      await manager.registerTask({ kind: 'function', taskId: 't', description: 'work', run: () => new Promise((resolve) => { finish = resolve; }) });
      calls = 0;
      finish('answer');
      await new Promise((resolve) => setTimeout(resolve, 60_000));`;
    const onRecordThen = new Set<string>();
    /** `true`: the host came to the end of it all before that call. */
    const killedAt = async (at: number): Promise<boolean> => {
      const directory = await scratch();
      const fired = () =>
        existsSync(join(directory, '.fired')) ? readFileSync(join(directory, '.fired'), 'utf8') : '';
      const host = startHost(script, directory, { KILL_AT: String(at) });
      const said = host.next().catch(() => undefined); // it was killed before
      expect(await host.ended, host.stderr()).toBe('SIGKILL');
      expect(fired(), `killed at call ${at}`).toMatch(/^(completed pending\n)?$/);
      const { status, hooks } = onDisk(directory, 't');
      const state = hooks.told!.state;
      if (fired() !== '') expect(status).toBe('completed');
      if (state === 'delivered') expect(fired()).not.toBe('');
      onRecordThen.add(`${status} ${state}`);

      const again: string[] = [];
      const manager = await openManager({ directory, hooks: { told: (task) => void again.push(task.status) } });
      await nothingPending(manager);
      expect(manager.getTask('t')).toMatchObject({ hooks: { told: { state: 'delivered', attempts: 1 } } });
      // Never after its success was recorded; otherwise once more. A task whose end was not on record is lost with its host.
      const expected = state === 'delivered' ? [] : [status === 'running' ? 'lost' : 'completed'];
      expect(again, `killed at call ${at}`).toEqual(expected);
      await manager.close();
      return (await said) !== undefined;
    };
    for (let at = 0, over = false; !over; at += 4) {
      over = (await Promise.all([0, 1, 2, 3].map((n) => killedAt(at + n)))).some(Boolean);
    }
    expect([...onRecordThen].sort()).toEqual(['completed delivered', 'completed pending', 'running pending']);
  });
});

describe('a host with no listener', () => {
  it.each([0, 10_000])(
    'is told at once of a process that ended (reconcile interval %i)',
    async (reconcileIntervalMs) => {
      const told = deferred<string>();
      const manager = await openManager({
        reconcileIntervalMs,
        hooks: { told: async (task, { readOutput }) => told.resolve(`${task.status} ${(await readOutput()).text}`) },
      });
      await manager.registerTask({ kind: 'process', description: 'work', command: 'sleep 0.05; echo out' });
      expect(await told.promise).toBe('completed out\n');
    },
  );

  it('finds out by the timer alone of what makes no noise', async () => {
    const clock = new FakeClock();
    const told = deferred<string>();
    let state: 'running' | 'completed' = 'running';
    const silent = defineTaskKind({
      name: 'silent',
      details: z.object({}),
      start: () => undefined,
      probe: () => ({ state }),
    });
    const manager = await openManager(
      { kinds: [silent], reconcileIntervalMs: 10_000, hooks: { told: (task) => told.resolve(task.status) } },
      clock,
    );
    await manager.registerTask({ kind: 'silent', description: 'work', details: {} });
    state = 'completed';
    await clock.advance(10_000);
    expect(await told.promise).toBe('completed');
  });

  it('pays what it owed for tasks that ended while no host lived, and the hook may use the manager', async () => {
    const directory = await scratch();
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory, fsync: false, hooks: { told: () => {} } });
       await Promise.all(Array.from({ length: 20 }, (_, n) => manager.registerTask({
         kind: 'process', taskId: 't' + n, description: 'work', command: 'until [ -e "' + directory + '/.gate" ]; do sleep 0.02; done; echo end ' + n + '; exit ' + n % 3,
       })));
       say('registered');`,
      directory,
    );
    await host.next();
    await host.kill();
    await writeFile(join(directory, '.gate'), '');
    await until(() => supervisors(directory).length === 0);

    let manager: BackgroundTaskManager | undefined;
    const told: string[] = [];
    const early: string[] = [];
    const heard: string[] = [];
    manager = await openManager({
      directory,
      hooks: {
        told: async (task, { deliveryId }) => {
          if (!manager) return void early.push(deliveryId);
          await manager.updateTask(task.taskId, { metadata: { told: true } });
          told.push(`${deliveryId} ${task.status} ${(await manager.readOutput(task.taskId)).text.trim()}`);
        },
      },
    });
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    expect([told, early], 'nothing before a macrotask has passed').toEqual([[], []]);
    manager.on('task:settled', ({ task }) => void heard.push(task.taskId));
    await nothingPending(manager);
    expect(early).toEqual([]);
    expect(heard, 'events of the first pass reach whoever listens right after open').toHaveLength(20);
    const expected = Array.from({ length: 20 }, (_, n) => `t${n}:told ${n % 3 ? 'failed' : 'completed'} end ${n}`);
    expect(told.sort()).toEqual(expected.sort());
    expect(manager.listTasks({ metadata: { told: true } })).toHaveLength(20);
  });
});

describe('a restart', () => {
  it('goes on with the attempts and with what is left of the wait', async () => {
    const directory = await scratch();
    const attempts: number[] = [];
    const hooks = {
      told: {
        minDelayMs: 10_000,
        maxDelayMs: 30_000,
        deliver: (_: unknown, { attempt }: { attempt: number }) => {
          attempts.push(attempt);
          throw new Error(`attempt ${attempt}`);
        },
      },
    };
    const clock = new FakeClock(Date.now());
    let manager = await openManager({ directory, hooks, reconcileIntervalMs: 0 }, clock);
    const retrying = next(manager, 'hook:retrying', 't');
    await manager.registerTask({ ...fn, taskId: 't' });
    let { nextAttemptAt } = await retrying;
    for (let attempt = 2; attempt <= 4; attempt++) {
      expect(onDisk(directory, 't').hooks.told).toEqual({
        state: 'pending',
        attempts: attempt - 1,
        nextAttemptAt,
        lastError: { name: 'Error', message: `attempt ${attempt - 1}` },
      });
      await clock.advance(1_000);
      await manager.close();
      await clock.advance(4_000); // nobody is there
      manager = await openManager({ directory, hooks, reconcileIntervalMs: 0 }, clock);
      const outcome = attempt < 4 ? next(manager, 'hook:retrying', 't') : next(manager, 'hook:failed', 't');
      await clock.advance(nextAttemptAt - clock.now() - 1);
      expect(attempts).toHaveLength(attempt - 1);
      await clock.advance(1);
      ({ nextAttemptAt } = await outcome);
    }
    expect(attempts).toEqual([1, 2, 3, 4]);
    expect(manager.listDeliveries()).toMatchObject([
      { state: 'failed', attempts: 4, lastError: { message: 'attempt 4' } },
    ]);
    await manager.close();
    manager = await openManager({ directory, hooks, reconcileIntervalMs: 0 }, clock);
    await clock.advance(600_000);
    expect(attempts, 'a dead letter stays dead').toHaveLength(4);
  });

  it('after a SIGKILL does the same', async () => {
    const directory = await scratch();
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory, hooks: { told: { minDelayMs: 60_000, maxDelayMs: 60_000, deliver: () => { throw new Error('no'); } } } });
       manager.on('hook:retrying', ({ nextAttemptAt }) => say(nextAttemptAt));
       await manager.registerTask({ kind: 'function', taskId: 't', description: 'work', run: () => 1 });
       setInterval(() => {}, 1000);`,
      directory,
    );
    const nextAttemptAt = await host.next();
    await host.kill();
    const clock = new FakeClock(Date.now());
    const told = deferred<number>();
    let called = false;
    const manager = await openManager(
      {
        directory,
        hooks: {
          told: {
            maxDelayMs: 60_000,
            deliver: (_, { attempt }) => {
              called = true;
              told.resolve(attempt);
            },
          },
        },
      },
      clock,
    );
    await setImmediate();
    await clock.advance(nextAttemptAt - clock.now() - 1);
    expect(called).toBe(false);
    await clock.advance(1);
    expect(await told.promise).toBe(2);
    await nothingPending(manager);
    expect(onDisk(directory, 't').hooks.told).toMatchObject({ state: 'delivered', attempts: 2 });
  });
});

describe('a foreground task', () => {
  const hooks = { told: () => undefined, inbox: 'pull' } as const;

  it('owes nothing when it ends there', async () => {
    const directory = await scratch();
    const told: string[] = [];
    const manager = await openManager({ directory, hooks: { told: (task) => void told.push(task.taskId) } });
    const work = deferred();
    await manager.registerTask({ ...fn, taskId: 'inline', detached: false, run: () => work.promise });
    expect(onDisk(directory, 'inline').hooks).toEqual({ told: { state: 'pending', attempts: 0 } });
    work.resolve();
    expect(await manager.waitForTask('inline')).toMatchObject({ hooks: { told: { state: 'skipped' } } });
    expect(onDisk(directory, 'inline').hooks.told!.state).toBe('skipped');
    // A delivery that comes after it would have come after the other one.
    await manager.registerTask({ ...fn, taskId: 'other' });
    await manager.waitForTask('other');
    await nothingPending(manager);
    expect(told).toEqual(['other']);
    await expect(manager.redeliver('inline', 'told')).resolves.toMatchObject({ hooks: { told: { state: 'pending' } } });
    await nothingPending(manager);
    expect(told, 'by hand it can still be had').toEqual(['other', 'inline']);
  });

  it('owes its hooks once it was detached, by hand or by its deadline', async () => {
    const manager = await openManager({ hooks });
    const work = deferred();
    const spec = { ...fn, detached: false, run: () => work.promise };
    await manager.registerTask({ ...spec, taskId: 'by-hand' });
    await manager.registerTask({ ...spec, taskId: 'by-deadline', timeoutMs: 1, detachOnTimeout: true });
    await manager.detachTask('by-hand');
    expect(await manager.waitForRelease('by-deadline')).toBe('detached_by_timeout');
    work.resolve();
    await manager.waitForIdle();
    const inbox = () => manager.listDeliveries({ name: 'inbox', state: 'pending' }).map(({ taskId }) => taskId);
    expect(inbox().sort()).toEqual(['by-deadline', 'by-hand']);
    await until(() => manager.listDeliveries({ name: 'told', state: 'delivered' }).length === 2);
  });

  it('of a dead host is a background one, and owes its hooks', async () => {
    const directory = await scratch();
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory, hooks: { inbox: 'pull' } });
       await manager.registerTask({ kind: 'process', taskId: 'p', description: 'work', detached: false, command: 'until [ -e "' + directory + '/.gate" ]; do sleep 0.02; done' });
       say('registered');`,
      directory,
    );
    await host.next();
    await host.kill();
    await writeFile(join(directory, '.gate'), '');
    await until(() => supervisors(directory).length === 0);
    const manager = await openManager({ directory, hooks: { inbox: 'pull' } });
    expect(manager.listDeliveries()).toMatchObject([{ taskId: 'p', hook: 'inbox', state: 'pending' }]);
  });
});

describe('a launch that fails', () => {
  it('owes nothing when the caller was told, and everything when it was queued', async () => {
    const manager = await openManager({ maxRunningTasks: 1, hooks: { inbox: 'pull' } });
    const bad = { kind: 'process', description: 'work', command: 'true', cwd: '/no/such/folder' } as const;
    const { promise, resolve } = deferred();
    await expect(manager.registerTask({ ...bad, taskId: 'told' })).rejects.toMatchObject({ code: 'LAUNCH_FAILED' });
    await manager.registerTask({ ...fn, taskId: 'first', hooks: [], run: () => promise });
    await manager.registerTask({ ...bad, taskId: 'queued', whenFull: 'queue' });
    resolve();
    await manager.waitForIdle();
    const states = manager.listDeliveries().map(({ taskId, state }) => [taskId, state]);
    expect(states.sort()).toEqual([
      ['queued', 'pending'],
      ['told', 'skipped'],
    ]);
  });
});

describe('which hooks a task owes', () => {
  it('is fixed at its registration, and a hook that does not exist is refused before anything happened', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, maxRunningTasks: 1, hooks: { a: 'pull', b: 'pull' } });
    await expect(manager.registerTask({ ...fn, taskId: 'bad', hooks: ['a', 'nope'] })).rejects.toMatchObject({
      code: 'UNKNOWN_HOOK',
      message: expect.stringContaining('nope'),
    });
    expect([existsSync(join(directory, 'bad.json')), manager.status().slots.used]).toEqual([false, 0]);
    const work = deferred();
    await manager.registerTask({ ...fn, taskId: 'bad', run: () => work.promise });
    manager.addHook('c', 'pull');
    work.resolve();
    await manager.waitForTask('bad');
    await manager.registerTask({ ...fn, taskId: 'one', hooks: ['b'] });
    await manager.waitForTask('one');
    await manager.registerTask({ ...fn, taskId: 'none', hooks: [] });
    await manager.waitForTask('none');
    await manager.registerTask({ ...fn, taskId: 'all' });
    await manager.waitForTask('all');
    const owed = (taskId: string) => Object.keys(onDisk(directory, taskId).hooks).sort();
    expect(['bad', 'one', 'none', 'all'].map(owed)).toEqual([['a', 'b'], ['b'], [], ['a', 'b', 'c']]);
    await expect(manager.skipHook('one', 'a')).rejects.toMatchObject({ code: 'UNKNOWN_HOOK' });
  });
});

describe('skipHooks and skipHook', () => {
  it('withdraw what a stop would owe, in the same write', async () => {
    const directory = await scratch();
    const told: string[] = [];
    const hooks = { told: (task: { taskId: string }) => void told.push(task.taskId), inbox: 'pull' } as const;
    const manager = await openManager({ directory, hooks, stopGraceMs: 0 });
    for (const taskId of ['stopped', 'both', 'closed']) await manager.registerTask({ ...endless, taskId });
    const stopping = next(manager, 'task:stopping', 'stopped');
    const stopped = manager.stopTask('stopped', { skipHooks: true });
    expect((await stopping).task.hooks).toMatchObject({ told: { state: 'skipped' }, inbox: { state: 'skipped' } });
    await stopped;
    await manager.stopTask('both');
    await until(() => told.length === 1);
    await manager.close({ tasks: 'stop', skipHooks: true });
    const again = await openManager({ directory, hooks });
    expect(again.listDeliveries({ state: 'pending' })).toMatchObject([{ taskId: 'both', hook: 'inbox' }]);
    expect(again.listDeliveries({ state: 'skipped' })).toHaveLength(4);
    expect(told).toEqual(['both']);
  });

  it('withdraw one while the task runs, and abort an attempt under way', async () => {
    const called = deferred<AbortSignal>();
    const manager = await openManager({
      hooks: {
        told: (_, { signal }) => {
          called.resolve(signal);
          return forever();
        },
        inbox: 'pull',
      },
    });
    const work = deferred();
    await manager.registerTask({ ...fn, taskId: 't', run: () => work.promise });
    expect(await manager.skipHook('t', 'inbox')).toMatchObject({ status: 'running' });
    work.resolve();
    const signal = await called.promise;
    expect(await manager.skipHook('t', 'told')).toMatchObject({ status: 'completed' });
    expect(signal.aborted).toBe(true);
    expect(tally(manager)).toEqual({ skipped: 2 });
  });
});

describe('a hook that this host does not have', () => {
  it('is owed until it is added, over restarts', async () => {
    const directory = await scratch();
    const host = { directory, reconcileIntervalMs: 0 };
    let manager = await openManager({ ...host, hooks: { told: { ...quick, deliver: forever } }, stopGraceMs: 0 });
    await manager.registerTask({ ...fn, taskId: 'before' });
    await manager.waitForTask('before');
    await manager.close();
    manager = await openManager(host);
    await manager.reconcile();
    expect(manager.listDeliveries()).toMatchObject([{ taskId: 'before', state: 'pending', attempts: 0 }]);
    const told: string[] = [];
    manager.addHook('told', (task, { deliveryId }) => void told.push(`${deliveryId} ${task.status}`));
    expect(told, 'not within the call').toEqual([]);
    await nothingPending(manager);
    expect(told).toEqual(['before:told completed']);
    expect(() => manager.addHook('told', () => undefined)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTIONS' }),
    );
    await manager.registerTask({ ...fn, taskId: 'after' });
    await until(() => told.length === 2);
    expect(told[1]).toBe('after:told completed');
  });
});

describe('a pull hook', () => {
  it('is an inbox that running tasks never appear in, and what is acknowledged stays so', async () => {
    const directory = await scratch();
    const hooks = { inbox: 'pull' } as const;
    let manager = await openManager({ directory, hooks });
    const inbox = () => manager.listDeliveries({ name: 'inbox', state: 'pending' });
    const work = deferred();
    await manager.registerTask({ ...fn, taskId: 'runs', run: () => work.promise });
    await manager.registerTask({ ...fn, taskId: 'ended' });
    await manager.waitForTask('ended');
    expect(inbox()).toMatchObject([
      { taskId: 'ended', deliveryId: 'ended:inbox', attempts: 0, task: { status: 'completed', result: 'done' } },
    ]);
    await expect(manager.acknowledge('runs', 'inbox')).rejects.toMatchObject({ code: 'INVALID_SPEC' });
    work.resolve();
    await manager.waitForTask('runs');
    expect(inbox()).toHaveLength(2);
    await manager.acknowledge('ended', 'inbox');
    await manager.acknowledge('ended', 'inbox');
    expect(inbox()).toMatchObject([{ taskId: 'runs' }]);
    await manager.close();
    manager = await openManager({ directory, hooks });
    expect(inbox()).toMatchObject([{ taskId: 'runs' }]);
    expect(onDisk(directory, 'ended').hooks.inbox).toMatchObject({ state: 'delivered' });
  });
});

describe('a task with an owed or a failed hook', () => {
  it('is never pruned', async () => {
    const directory = await scratch();
    const hooks = {
      dead: () => Promise.reject(new PermanentDeliveryError('never')),
      good: () => undefined,
      inbox: 'pull' as const,
    };
    let manager = await openManager({ directory, hooks, retention: { maxTasks: 0, maxAgeMs: 0 } });
    for (const name of Object.keys(hooks)) await manager.registerTask({ ...fn, taskId: name, hooks: [name] });
    await manager.waitForIdle();
    await until(() => manager.listDeliveries({ state: 'failed' }).length === 1);
    await until(
      () => onDiskIds(directory).length <= 3 && manager.listDeliveries({ name: 'good', state: 'pending' }).length === 0,
    );
    await manager.pruneTasks();
    expect(onDiskIds(directory)).toEqual(['dead', 'inbox']);
    await manager.close();
    manager = await openManager({ directory, hooks, retention: { maxTasks: 0, maxAgeMs: 0 } });
    await manager.reconcile();
    expect(onDiskIds(directory)).toEqual(['dead', 'inbox']);
    await manager.skipHook('dead', 'dead');
    await manager.acknowledge('inbox', 'inbox');
    expect((await manager.pruneTasks()).length + manager.listTasks().length).toBeLessThanOrEqual(2);
    expect(onDiskIds(directory)).toEqual([]);
  });
});

describe('close with an attempt under way', () => {
  it('waits for one that ends in time, and it is on record', async () => {
    const directory = await scratch();
    const called = deferred();
    const answer = deferred();
    const manager = await openManager({
      directory,
      hooks: {
        told: () => {
          called.resolve();
          return answer.promise;
        },
      },
    });
    await manager.registerTask({ ...fn, taskId: 't' });
    await called.promise;
    const closed = manager.close();
    await setImmediate();
    answer.resolve();
    await closed;
    expect(onDisk(directory, 't').hooks.told).toMatchObject({ state: 'delivered', attempts: 1 });
  });

  it('leaves one that does not to the next open, as not made', async () => {
    const directory = await scratch();
    const called = deferred<AbortSignal>();
    const manager = await openManager({
      directory,
      hooks: {
        told: (_, { signal }) => {
          called.resolve(signal);
          return forever();
        },
      },
    });
    const ids = Array.from({ length: 20 }, (_, n) => `t${n}`);
    for (const taskId of ids) await manager.registerTask({ ...fn, taskId });
    const signal = await called.promise;
    await manager.waitForIdle();
    await manager.close({ graceMs: 20 });
    expect(signal.aborted).toBe(true);
    for (const taskId of ids) expect(onDisk(directory, taskId).hooks.told).toEqual({ state: 'pending', attempts: 0 });
    const told: string[] = [];
    const again = await openManager({
      directory,
      hooks: { told: (_, { deliveryId, attempt }) => void told.push(`${deliveryId} ${attempt}`) },
    });
    await nothingPending(again);
    expect(told.sort()).toEqual(ids.map((taskId) => `${taskId}:told 1`).sort());
  });
});

describe('debts of hosts that are gone', () => {
  it('are paid to the hooks that are here: only what is pending, only of tasks that ended', async () => {
    const directory = await scratch();
    const states = ['pending', 'delivered', 'failed', 'skipped'] as const;
    for (const state of states) await leave(directory, leftRecord(state, { hooks: { told: { state, attempts: 3 } } }));
    await leave(
      directory,
      leftRecord('newer', { schemaVersion: 2, hooks: { told: { state: 'pending', attempts: 0 } } }),
    );
    const told: string[] = [];
    const manager = await openManager({
      directory,
      hooks: { told: { maxAttempts: 4, deliver: (task, { attempt }) => void told.push(`${task.taskId} ${attempt}`) } },
    });
    const heard = record(manager);
    await until(() => told.length > 0 && manager.getTask('pending')!.hooks.told!.state === 'delivered');
    expect(told).toEqual(['pending 4']);
    expect(heard).toEqual(['hook:delivered pending']);
    expect(onDisk(directory, 'newer').hooks.told).toEqual({ state: 'pending', attempts: 0 });
  });
});

/** A hook that fails half of the time, and what came of its calls: of each task, whether they succeeded. */
function flakyHook(seed: number, atOnce: { now: number; most: number }) {
  const chance = seeded(seed);
  const calls = new Map<string, boolean[]>();
  return {
    calls,
    failures: () => [...calls.values()].flat().filter((arrived) => !arrived).length,
    async deliver({ taskId }: { taskId: string }) {
      const made = calls.get(taskId) ?? [];
      calls.set(taskId, made);
      atOnce.most = Math.max(atOnce.most, ++atOnce.now);
      await setImmediate();
      atOnce.now--;
      made.push(chance() < 0.5);
      if (!made.at(-1)) throw new TypeError(`no ${made.length}`);
    },
  };
}

function onDiskIds(directory: string): string[] {
  const names = readdirSync(directory).filter((name) => name.endsWith('.json'));
  return names.map((name) => name.slice(0, -'.json'.length)).sort();
}
