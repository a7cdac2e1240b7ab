import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineTaskKind, type JsonValue } from '../../src/index.js';
import { FakeClock } from '../helpers/clock.js';
import { startHost } from '../helpers/host.js';
import { deferred, next, openManager, record, scratch } from '../helpers/manager.js';
import { afterKill, jobKind, onDisk, World } from '../helpers/world.js';

type Ask = (prompt: string, options?: { data?: JsonValue; schema?: any }) => Promise<any>;

/** Work that asks whatever the test asks, and returns the last answer. */
function asker() {
  const ready = deferred<Ask>();
  const end = deferred<unknown>();
  const run = ({ requestInput }: { requestInput: Ask }) => {
    ready.resolve(requestInput);
    return end.promise;
  };
  const ask: Ask = (prompt, options) => {
    const answer = ready.promise.then((requestInput) => requestInput(prompt, options));
    answer.catch(() => undefined); // the test looks at it in its own time, or not at all
    return answer;
  };
  return { ask, run, end };
}

const spec = { kind: 'function', taskId: 't', description: 'work' } as const;

describe('requestInput', () => {
  it('makes the task waiting, on disk before anybody hears of it', async () => {
    const directory = await scratch();
    const clock = new FakeClock();
    const manager = await openManager({ directory, reconcileIntervalMs: 0 }, clock);
    const { ask, run, end } = asker();
    await manager.registerTask({ ...spec, run });
    let whenHeard: unknown;
    manager.on('task:waiting', ({ task }) => {
      whenHeard = [onDisk(directory, task.taskId), task];
    });
    await clock.advance(250);
    const waiting = next(manager, 'task:waiting', 't');
    const answer = ask('Deploy to production?', { data: { commit: 'abc' } });
    const { task } = await waiting;
    expect(task).toMatchObject({
      status: 'waiting',
      waitingFor: { prompt: 'Deploy to production?', data: { commit: 'abc' }, requestedAt: clock.now() },
    });
    expect(whenHeard).toEqual([task, task]);
    expect(manager.status()).toMatchObject({ running: 0, waiting: 1, slots: { used: 1 } });
    expect(manager.listTasks({ status: 'waiting' })).toEqual([task]);

    await manager.provideInput('t', 'yes');
    expect(await answer).toBe('yes');
    end.resolve(await answer);
    expect(await manager.waitForTask('t')).toMatchObject({ status: 'completed', result: 'yes' });
  });

  it('has its answer on disk before the work sees it', async () => {
    const directory = await scratch();
    const clock = new FakeClock();
    const manager = await openManager({ directory, reconcileIntervalMs: 0 }, clock);
    const heard = record(manager);
    let whenSeen: any;
    await manager.registerTask({
      ...spec,
      run: async ({ requestInput }) => {
        const answer = await requestInput('Which files?');
        whenSeen = onDisk(directory, 't');
        return answer;
      },
    });
    await next(manager, 'task:waiting');
    await clock.advance(70);
    const resumed = await manager.provideInput('t', { glob: '*.ts' });
    expect(resumed).toMatchObject({
      status: 'running',
      lastInput: { prompt: 'Which files?', value: { glob: '*.ts' }, answeredAt: clock.now() },
    });
    expect(resumed).not.toHaveProperty('waitingFor');
    const ended = await manager.waitForTask('t');
    expect(whenSeen).toEqual(resumed);
    expect(ended).toMatchObject({ status: 'completed', result: { glob: '*.ts' }, lastInput: resumed.lastInput });
    expect(heard).toEqual(['task:started t', 'task:waiting t', 'task:resumed t', 'task:settled t']);
  });

  it('waits its turn while another request is open', async () => {
    const manager = await openManager();
    const { ask, run, end } = asker();
    await manager.registerTask({ ...spec, run });
    const answers: unknown[] = [];
    const first = ask('one').then((value) => answers.push(value));
    const second = ask('two').then((value) => answers.push(value));
    await next(manager, 'task:waiting');
    expect(manager.getTask('t')?.waitingFor?.prompt).toBe('one');
    const waiting = next(manager, 'task:waiting');
    await manager.provideInput('t', 1);
    await first;
    expect((await waiting).task.waitingFor.prompt).toBe('two');
    expect(answers).toEqual([1]);
    await manager.provideInput('t', 2);
    await second;
    expect(answers).toEqual([1, 2]);
    end.resolve(undefined);
    await manager.waitForTask('t');
  });

  it('checks the answer: one that does not fit is the answerer’s error, and the task goes on waiting', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    const { ask, run, end } = asker();
    await manager.registerTask({ ...spec, run });
    const answer = ask('Which files?', { schema: z.object({ glob: z.string() }) });
    const { task } = await next(manager, 'task:waiting');
    const heard = record(manager);
    await expect(manager.provideInput('t', { glob: 1 })).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      taskId: 't',
      message: expect.stringContaining('glob'),
    });
    await expect(manager.provideInput('t', (() => 1) as never)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    await expect(manager.provideInput('t', { at: Number.NaN })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    expect(manager.getTask('t')).toEqual(task);
    expect(onDisk(directory, 't')).toEqual(task);
    expect(heard).toEqual([]);
    await manager.provideInput('t', { glob: '*' });
    expect(await answer).toEqual({ glob: '*' });
    end.resolve(undefined);
    await manager.waitForTask('t');
  });

  it('refuses data that is no JSON, and the task does not wait', async () => {
    const manager = await openManager();
    const { taskId } = await manager.registerTask({
      kind: 'function',
      description: 'work',
      run: ({ requestInput }) => requestInput('?', { data: { f: (() => 1) as never } }),
    });
    expect(await manager.waitForTask(taskId)).toMatchObject({
      status: 'failed',
      error: { message: expect.stringContaining('data.f') },
    });
  });
});

describe('provideInput', () => {
  it('answers only a task that waits', async () => {
    const manager = await openManager({ maxRunningTasks: 1, whenFull: 'queue' });
    const { run, end } = asker();
    await manager.registerTask({ ...spec, run });
    await manager.registerTask({ kind: 'function', taskId: 'q', description: 'work', run: () => 1 });
    const refused = { code: 'TASK_NOT_WAITING' };
    await expect(manager.provideInput('t', 1)).rejects.toMatchObject(refused);
    await expect(manager.provideInput('q', 1)).rejects.toMatchObject(refused);
    end.resolve(undefined);
    await manager.waitForIdle();
    await expect(manager.provideInput('t', 1)).rejects.toMatchObject(refused);
    await expect(manager.provideInput('nobody', 1)).rejects.toMatchObject({ code: 'TASK_NOT_FOUND' });
  });

  it('given twice at once is taken once', async () => {
    const manager = await openManager();
    const { ask, run, end } = asker();
    await manager.registerTask({ ...spec, run });
    const answer = ask('?');
    await next(manager, 'task:waiting');
    const results = await Promise.allSettled([manager.provideInput('t', 1), manager.provideInput('t', 2)]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    expect(results[1]).toMatchObject({ reason: { code: 'TASK_NOT_WAITING' } });
    expect(await answer).toBe(1);
    expect(manager.getTask('t')?.lastInput?.value).toBe(1);
    end.resolve(undefined);
    await manager.waitForTask('t');
  });
});

describe('a wait for input', () => {
  it.each([
    ['a stop', 'AbortError', 'never mind', 'killed'],
    ['a deadline', 'TimeoutError', undefined, 'timed_out'],
  ])('is ended by %s with its signal.reason', async (how, name, reason, status) => {
    const clock = new FakeClock();
    const manager = await openManager({ reconcileIntervalMs: 0 }, clock);
    let thrown: any;
    let same = false;
    await manager.registerTask({
      ...spec,
      timeoutMs: 5_000,
      run: async ({ requestInput, signal }) => {
        const second = requestInput('second?');
        second.catch(() => undefined);
        await requestInput('first?').catch((error) => {
          thrown = error;
        });
        same = thrown === signal.reason;
        await expect(second).rejects.toBe(signal.reason);
        await expect(requestInput('third?')).rejects.toBe(signal.reason);
        throw thrown;
      },
    });
    await next(manager, 'task:waiting');
    const settled = next(manager, 'task:settled');
    if (how === 'a stop') void manager.stopTask('t', { reason });
    else await clock.advance(5_000);
    const { task } = await settled;
    expect(task).toMatchObject({ status, stop: { cause: how === 'a stop' ? 'user' : 'deadline' } });
    expect(task).not.toHaveProperty('waitingFor');
    expect(thrown.name).toBe(name);
    if (reason) expect(thrown.message).toBe(reason);
    expect(thrown.cause).toEqual(task.stop);
    expect(same).toBe(true);
  });

  it('that a stop has ended takes no answer any more, though the work is still tidying up', async () => {
    const manager = await openManager();
    const tidy = deferred();
    await manager.registerTask({
      ...spec,
      run: async ({ requestInput }) => {
        await requestInput('?').catch(() => undefined);
        await tidy.promise;
        return 'tidied up';
      },
    });
    await next(manager, 'task:waiting');
    const stopping = next(manager, 'task:stopping');
    const stopped = manager.stopTask('t');
    await stopping;
    await expect(manager.provideInput('t', 'too late')).rejects.toMatchObject({ code: 'TASK_NOT_WAITING' });
    tidy.resolve();
    expect(await stopped).toMatchObject({ status: 'completed', result: 'tidied up' });
    expect(await stopped).not.toHaveProperty('lastInput');
  });

  it('keeps the slot', async () => {
    const manager = await openManager({ maxRunningTasks: 1 });
    const { ask, run, end } = asker();
    await manager.registerTask({ ...spec, run });
    void ask('?');
    await next(manager, 'task:waiting');
    await expect(manager.registerTask({ kind: 'function', description: 'work', run: () => 1 })).rejects.toMatchObject({
      code: 'CAPACITY_EXCEEDED',
    });
    end.resolve(undefined);
    expect(await manager.waitForTask('t')).toMatchObject({ status: 'completed' });
  });
});

describe('a host that died while its task waited', () => {
  it('leaves it lost where nothing takes it up', async () => {
    const directory = await scratch();
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory });
       manager.on('task:waiting', ({ task }) => say(task));
       await manager.registerTask({ kind: 'function', taskId: 't', description: 'work', run: ({ requestInput }) => requestInput('?') });`,
      directory,
    );
    expect(await host.next()).toMatchObject({ status: 'waiting', waitingFor: { prompt: '?' } });
    await host.kill();
    const manager = await openManager({ directory });
    expect(manager.getTask('t')).toMatchObject({ status: 'lost', stopReason: expect.any(String) });
    expect(manager.getTask('t')).not.toHaveProperty('waitingFor');
    await expect(manager.provideInput('t', 1)).rejects.toMatchObject({ code: 'TASK_NOT_WAITING' });
  });

  it('leaves a task that recover takes up again, with the question it had and the answer before it', async () => {
    const directory = await scratch();
    const host = startHost(
      `const schema = { '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value }) } };
       const kind = holdfast.defineTaskKind({ name: 'agent', details: schema });
       const manager = await BackgroundTaskManager.open({ directory, kinds: [kind] });
       manager.on('task:waiting', async ({ task }) => {
         if (task.waitingFor.prompt === 'first?') await manager.provideInput('t', 'one');
         else say(task);
       });
       await manager.registerTask({ kind: 'agent', taskId: 't', description: 'work', details: { step: 1 }, run: async ({ requestInput }) => {
         await requestInput('first?');
         await requestInput('second?', { data: [1] });
       } });`,
      directory,
    );
    await host.next();
    await host.kill();
    const seen: any[] = [];
    const agent = defineTaskKind({
      name: 'agent',
      details: z.object({ step: z.number() }),
      recover: (task) => {
        seen.push(task);
        return async ({ requestInput, attempt }) => [attempt, await requestInput(task.waitingFor!.prompt)];
      },
    });
    const manager = await openManager({ directory, kinds: [agent] });
    const { task } = await next(manager, 'task:waiting', 't');
    expect(seen).toHaveLength(1);
    expect(seen[0]).toMatchObject({
      status: 'waiting',
      attempt: 1,
      waitingFor: { prompt: 'second?', data: [1] },
      lastInput: { prompt: 'first?', value: 'one' },
    });
    expect(task).toMatchObject({ status: 'waiting', attempt: 2, waitingFor: { prompt: 'second?' } });
    await manager.provideInput('t', 'two');
    expect(await manager.waitForTask('t')).toMatchObject({ status: 'completed', result: [2, 'two'], attempt: 2 });
  });
});

describe('a kind that outlives the host', () => {
  const job = { kind: 'job', taskId: 'j', description: 'work', details: { place: 'here' } } as const;

  async function waitingJob(onInput?: World['onInput']) {
    const directory = await scratch();
    const world = new World();
    if (onInput) world.onInput = onInput;
    const manager = await openManager({ directory, reconcileIntervalMs: 0, kinds: [jobKind(world)] });
    await manager.registerTask(job);
    world.job('j').probe = { state: 'waiting', prompt: 'continue?' };
    await manager.reconcile();
    return { directory, world, manager };
  }

  it('waits when its probe says so, and runs again when it does not', async () => {
    const { directory, world, manager } = await waitingJob();
    const heard = record(manager);
    expect(onDisk(directory, 'j')).toMatchObject({ status: 'waiting', waitingFor: { prompt: 'continue?' } });
    await manager.reconcile();
    expect(heard).toEqual([]);
    world.job('j').probe = { state: 'waiting', prompt: 'and now?' };
    await manager.reconcile();
    expect(manager.getTask('j')?.waitingFor?.prompt).toBe('and now?');
    world.job('j').probe = { state: 'running' };
    await manager.reconcile();
    expect(onDisk(directory, 'j')).toMatchObject({ status: 'running' });
    expect(manager.getTask('j')).not.toHaveProperty('waitingFor');
    expect(heard).toEqual(['task:waiting j', 'task:resumed j']);
  });

  it('is given an answer that is on record before it sees it', async () => {
    let whenSeen: any;
    const { directory, world, manager } = await waitingJob((one) => {
      whenSeen = onDisk(directory, 'j');
      one.probe = { state: 'running' };
    });
    const resumed = await manager.provideInput('j', 'go on');
    expect(world.job('j').inputs).toEqual(['go on']);
    expect(whenSeen.lastInput).toMatchObject({ prompt: 'continue?', value: 'go on' });
    expect(resumed).toMatchObject({ status: 'running', lastInput: { prompt: 'continue?', value: 'go on' } });
    expect(resumed).not.toHaveProperty('waitingFor');
  });

  it('is given one of two answers that come at once', async () => {
    const { world, manager } = await waitingJob();
    const results = await Promise.allSettled([manager.provideInput('j', 1), manager.provideInput('j', 2)]);
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    expect(world.job('j').inputs).toHaveLength(1);
  });

  it('goes on waiting when it does not take the answer', async () => {
    const { manager } = await waitingJob(() => {
      throw new Error('the pipe is broken');
    });
    await expect(manager.provideInput('j', 1)).rejects.toThrow('the pipe is broken');
    expect(manager.getTask('j')).toMatchObject({ status: 'waiting', waitingFor: { prompt: 'continue?' } });
  });

  it('that takes no input says so', async () => {
    let stopped = false;
    const mute = defineTaskKind({
      name: 'mute',
      details: z.object({}),
      start: () => undefined,
      probe: () => (stopped ? { state: 'gone' } : { state: 'waiting', prompt: '?' }),
      stop: () => {
        stopped = true;
      },
    });
    const manager = await openManager({ reconcileIntervalMs: 0, kinds: [mute] });
    const { taskId } = await manager.registerTask({ kind: 'mute', description: 'work', details: {} });
    await manager.reconcile();
    await expect(manager.provideInput(taskId, 1)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    expect(manager.getTask(taskId)?.status).toBe('waiting');
  });

  it('still waits after its host died, and can be answered by the next one', async () => {
    const { directory, world, manager } = await waitingJob();
    const left = await afterKill(directory);
    const after = world.fork();
    await manager.close();
    const again = await openManager({ directory: left, reconcileIntervalMs: 0, kinds: [jobKind(after)] });
    expect(again.getTask('j')).toMatchObject({ status: 'waiting', waitingFor: { prompt: 'continue?' } });
    await again.provideInput('j', 'yes');
    expect(after.job('j').inputs).toEqual(['yes']);
    expect(again.getTask('j')).toMatchObject({ status: 'running', attempt: 1 });
  });
});
