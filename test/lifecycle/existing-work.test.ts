// Work that is there before its task: read, ended and told to end as the task is.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineTaskKind } from '../../src/index.js';
import { deferred, next, openManager, record, scratch } from '../helpers/manager.js';

const spec = { kind: 'function', description: 'remote' } as const;

async function* chunks(...given: (string | Uint8Array)[]) {
  yield* given;
}

/** A stream that ends only by being destroyed, and what was done to the work. */
function remote() {
  const told: string[] = [];
  const done = deferred<unknown>();
  const output = new PassThrough();
  return { told, done, output, stop: (how: string) => void told.push(how) };
}

describe('work that is there already', () => {
  it('keeps output of before the record, from all sources, and ends as its promise does with all of it in the file', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    const early = new PassThrough();
    early.write('before\n');
    const heard = record(manager);
    const done = deferred<{ n: number }>();
    const task = await manager.registerTask({
      ...spec,
      taskId: 'w',
      work: { output: [early, chunks('side\n', Buffer.from('bytes\n'))], done: done.promise },
    });
    expect(task).toMatchObject({ status: 'running' });
    done.resolve({ n: 4 });
    await setImmediate();
    expect(manager.getTask('w')?.status).toBe('running');
    early.end('after\n');
    expect(await manager.waitForTask(task)).toMatchObject({ status: 'completed', result: { n: 4 } });
    const text = await readFile(join(directory, 'w', 'output.log'), 'utf8');
    expect(text.split('\n').filter(Boolean).sort()).toEqual(['after', 'before', 'bytes', 'side']);
    expect(text.indexOf('before')).toBeLessThan(text.indexOf('after'));
    expect(heard).toEqual(['task:started w', 'task:settled w']);
  });

  it('is read no faster than it is written', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    let asked = 0;
    const sizes: number[] = [];
    async function* source() {
      for (; asked < 5; asked++) {
        const file = await readFile(join(directory, 'w', 'output.log')).catch(() => Buffer.alloc(0));
        sizes.push(file.length);
        yield 'x'.repeat(1000);
      }
    }
    const task = await manager.registerTask({
      ...spec,
      taskId: 'w',
      work: { output: source(), done: Promise.resolve() },
    });
    await manager.waitForTask(task);
    expect(sizes).toEqual([0, 1000, 2000, 3000, 4000]);
  });

  it('fails as its promise does, and with the error of a stream that fails before it, which is told to end', async () => {
    const manager = await openManager();
    const rejected = await manager.registerTask({ ...spec, work: { done: Promise.reject(new RangeError('too far')) } });
    expect(await manager.waitForTask(rejected)).toMatchObject({ status: 'failed', error: { name: 'RangeError' } });
    const { told, done, output, stop } = remote();
    const broken = await manager.registerTask({ ...spec, work: { output, done: done.promise, stop } });
    output.destroy(new RangeError('connection lost'));
    expect(await manager.waitForTask(broken)).toMatchObject({
      status: 'failed',
      error: { name: 'RangeError', message: 'connection lost' },
    });
    expect(told).toEqual(['terminate']);
  });

  it('reports a stream that fails once the work is done, whose end stands', async () => {
    const manager = await openManager();
    const errors: Error[] = [];
    manager.on('error', ({ error }) => void errors.push(error));
    const output = new PassThrough();
    const task = await manager.registerTask({ ...spec, work: { output, done: Promise.resolve('fine') } });
    await setImmediate();
    output.destroy(new Error('connection lost'));
    expect(await manager.waitForTask(task)).toMatchObject({ status: 'completed', result: 'fine' });
    expect(String(errors[0])).toContain('connection lost');
  });

  it('fails at a chunk that is no text and no bytes', async () => {
    const manager = await openManager();
    const output = Readable.from([{ a: 1 }]);
    const task = await manager.registerTask({ ...spec, work: { output, done: new Promise(() => undefined) } });
    expect((await manager.waitForTask(task)).error).toEqual({
      name: 'TypeError',
      message: 'work.output: expected chunks that are strings or Uint8Arrays, got an object',
    });
  });

  it('is told to terminate, to be killed once the grace is over, and has ended when its promise settles', async () => {
    const manager = await openManager();
    const { told, done, output } = remote();
    const stop = (how: string) => {
      told.push(how);
      if (how === 'kill') void setImmediate().then(() => done.reject(new Error('killed')));
    };
    const { taskId } = await manager.registerTask({ ...spec, work: { output, done: done.promise, stop } });
    const stopping = manager.stopTask(taskId, { graceMs: 30, reason: 'enough' });
    await next(manager, 'task:stopping', taskId);
    await expect.poll(() => told).toContain('kill');
    output.end();
    expect(await stopping).toMatchObject({ status: 'killed', stopReason: 'enough' });
    expect(told).toEqual(['terminate', 'kill']);
  });

  it('is not ended by the grace while it can be killed, and is once more told to where that failed', async () => {
    const manager = await openManager();
    const done = deferred();
    let kills = 0;
    manager.on('error', () => undefined);
    const stop = (how: string) => {
      if (how === 'kill' && ++kills === 1) throw new Error('unreachable');
    };
    const { taskId } = await manager.registerTask({ ...spec, work: { done: done.promise, stop } });
    const stopping = manager.stopTask(taskId, { graceMs: 0 });
    await expect.poll(() => kills).toBe(2);
    expect(manager.getTask(taskId)?.status).toBe('running');
    done.resolve();
    expect(await stopping).toMatchObject({ status: 'completed' });
  });

  it('without a stop it is given up on when the grace is over, and its streams are destroyed', async () => {
    const manager = await openManager();
    const { done, output } = remote();
    const { taskId } = await manager.registerTask({ ...spec, work: { output, done: done.promise } });
    expect(await manager.stopTask(taskId, { graceMs: 10 })).toMatchObject({ status: 'killed' });
    await expect.poll(() => output.destroyed).toBe(true);
    done.reject(new Error('late'));
    await setImmediate();
  });

  it('does not wait for the output of what is done when the grace is over: its own end stands', async () => {
    const manager = await openManager();
    const { output } = remote();
    const { taskId } = await manager.registerTask({ ...spec, work: { output, done: Promise.resolve('fine') } });
    expect(await manager.stopTask(taskId, { graceMs: 10 })).toMatchObject({ status: 'completed', result: 'fine' });
  });

  it('is told to end when the manager closes', async () => {
    const manager = await openManager();
    const { told, done, output } = remote();
    const stop = (how: string) => {
      told.push(how);
      output.end();
      done.reject(new Error('ended'));
    };
    const ended = next(manager, 'task:settled');
    await manager.registerTask({ ...spec, work: { output, done: done.promise, stop } });
    await manager.close();
    expect((await ended).task).toMatchObject({ status: 'killed', stop: { cause: 'shutdown' } });
    expect(told).toEqual(['terminate']);
  });

  it('takes its slot in the same turn, and is never queued', async () => {
    const manager = await openManager({ maxRunningTasks: 1, whenFull: 'queue' });
    const done = deferred();
    const first = manager.registerTask({ ...spec, work: { done: done.promise } });
    expect(manager.status().slots.used).toBe(1);
    await expect(manager.registerTask({ ...spec, work: { done: done.promise } })).rejects.toMatchObject({
      code: 'CAPACITY_EXCEEDED',
    });
    done.resolve();
    await manager.waitForTask(await first);
  });

  it.each([
    ['an unknown hook', { hooks: ['none'] }, 'UNKNOWN_HOOK'],
    ['a bad field', { timeoutMs: -1 }, 'INVALID_SPEC'],
    ['a taken id', { taskId: 'taken' }, 'TASK_EXISTS'],
    ['a full manager', {}, 'CAPACITY_EXCEEDED'],
    ['a closed manager', {}, 'MANAGER_CLOSED'],
  ])('is left alone when it is refused for %s', async (_, fields, code) => {
    const manager = await openManager({ maxRunningTasks: 1 });
    const busy = deferred();
    await manager.registerTask({ ...spec, taskId: 'taken', run: () => busy.promise });
    if (code === 'MANAGER_CLOSED') await manager.close({ graceMs: 0 });
    const { told, output, stop } = remote();
    output.write('unread');
    const done = Promise.reject(new Error('its own'));
    const refused = manager.registerTask({ ...spec, ...fields, work: { output, done, stop } });
    await expect(refused).rejects.toMatchObject({ code });
    await setImmediate();
    expect([told, String(output.read()), output.destroyed, output.listenerCount('error')]).toEqual([
      [],
      'unread',
      false,
      0,
    ]);
    busy.resolve();
  });

  it('is typed and checked by its kind', async () => {
    const agent = defineTaskKind({ name: 'agent', details: z.object({}), result: z.object({ answer: z.string() }) });
    const manager = await openManager({ kinds: [agent] });
    const register = (answer: unknown) =>
      manager.registerTask({
        kind: 'agent',
        description: 'review',
        details: {},
        work: { done: Promise.resolve({ answer: answer as string }) },
      });
    expect((await manager.waitForTask(await register('yes'))).result?.answer).toBe('yes');
    expect(await manager.waitForTask(await register(1))).toMatchObject({ error: { name: 'InvalidResultError' } });
  });
});

it('a run is told by killSignal that the grace is over, and not before', async () => {
  const manager = await openManager();
  const order: string[] = [];
  let reason: unknown;
  const { taskId } = await manager.registerTask({
    ...spec,
    run: ({ signal, killSignal }) => {
      signal.addEventListener('abort', () => order.push(`terminate ${killSignal.aborted}`));
      killSignal.addEventListener('abort', () => {
        order.push('kill');
        reason = killSignal.reason;
      });
      return new Promise(() => undefined);
    },
  });
  const stopped = await manager.stopTask(taskId, { graceMs: 20, reason: 'enough' });
  expect(order).toEqual(['terminate false', 'kill']);
  expect(reason).toMatchObject({ name: 'AbortError', message: 'enough', cause: stopped.stop });
  const done = await manager.registerTask({ ...spec, run: ({ killSignal }) => killSignal.aborted });
  expect((await manager.waitForTask(done)).result).toBe(false);
});
