import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineTaskKind } from '../../src/index.js';
import { deferred, next, openManager, record, scratch } from '../helpers/manager.js';

describe('a function task', () => {
  it('runs, and ends as its promise does', async () => {
    const manager = await openManager();
    const heard = record(manager);
    const task = await manager.registerTask({
      kind: 'function',
      taskId: 'sum',
      description: 'add up',
      run: async () => ({ sum: 4 }),
    });
    expect(task).toMatchObject({ taskId: 'sum', kind: 'function', status: 'running', attempt: 1, detached: true });
    const done = await manager.waitForTask('sum');
    expect(done).toMatchObject({ status: 'completed', result: { sum: 4 } });
    expect(done.endedAt).toBeGreaterThanOrEqual(done.startedAt!);
    expect(heard).toEqual(['task:started sum', 'task:settled sum']);
    await expect(manager.readResult('sum')).resolves.toEqual({ sum: 4 });
  });

  it('is failed when it throws, also synchronously, with the error on record', async () => {
    const manager = await openManager();
    const fail = async (run: () => never) =>
      manager.waitForTask((await manager.registerTask({ kind: 'function', description: 'work', run })).taskId);
    const task = await fail(() => {
      throw Object.assign(new RangeError('too far'), { code: 'E_FAR' });
    });
    expect(task).toMatchObject({ status: 'failed', error: { name: 'RangeError', message: 'too far', code: 'E_FAR' } });
    const odd = await fail(() => {
      throw 'a text';
    });
    expect(odd).toMatchObject({ status: 'failed', error: { message: 'Thrown: a text' } });
  });

  it.each([
    ['a function', () => ({ deep: { here: [1, () => 1] } }), 'result.deep.here[1] is a function'],
    ['a number that JSON cannot hold', () => ({ n: Number.NaN }), 'result.n is NaN'],
    [
      'a cycle',
      () => {
        const cycle: Record<string, unknown> = {};
        cycle.self = cycle;
        return cycle;
      },
      'result.self refers back',
    ],
    ['a bigint', () => 1n, 'result is a bigint'],
    ['a map', () => ({ map: new Map() }), 'result.map is a Map'],
  ])('is failed when its result is %s, and says where', async (_, run, message) => {
    const manager = await openManager();
    const { taskId } = await manager.registerTask({ kind: 'function', description: 'work', run: run as () => unknown });
    const task = await manager.waitForTask(taskId);
    expect(task.status).toBe('failed');
    expect(task.error?.message).toContain(message);
  });

  it('keeps a result that is too large for the record in its own file', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, maxResultBytes: 100 });
    const { taskId } = await manager.registerTask({
      kind: 'function',
      description: 'work',
      run: () => 'x'.repeat(1000),
    });
    const task = await manager.waitForTask(taskId);
    expect(task).toMatchObject({ status: 'completed' });
    expect(task).not.toHaveProperty('result');
    await expect(manager.readResult(taskId)).resolves.toBe('x'.repeat(1000));
    expect(JSON.parse(await readFile(join(directory, taskId, 'result.json'), 'utf8'))).toHaveLength(1000);
  });

  it('writes its output in order, all of it before it ends', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    const { taskId } = await manager.registerTask({
      kind: 'function',
      description: 'work',
      run: ({ appendOutput }) => {
        for (let n = 0; n < 1000; n++) void appendOutput(`line ${n}\n`);
      },
    });
    await manager.waitForTask(taskId);
    const expected = Array.from({ length: 1000 }, (_, n) => `line ${n}\n`).join('');
    expect(await readFile(join(directory, taskId, 'output.log'), 'utf8')).toBe(expected);
    expect((await stat(join(directory, taskId, 'output.log'))).mode & 0o777).toBe(0o600);
  });

  it('tells its progress at once, and has it on record with the outcome', async () => {
    const manager = await openManager();
    const go = deferred();
    const { taskId } = await manager.registerTask({
      kind: 'function',
      description: 'work',
      run: async ({ reportProgress }) => {
        await go.promise;
        for (let n = 1; n <= 5; n++) reportProgress({ message: `${n} of 5`, current: n, total: 5 });
      },
    });
    const seen: unknown[] = [];
    manager.on('task:progress', ({ task }) => void seen.push(task.progress?.current));
    go.resolve();
    const task = await manager.waitForTask(taskId);
    expect(seen).toEqual([1, 2, 3, 4, 5]);
    expect(task.progress).toMatchObject({ message: '5 of 5', current: 5, total: 5 });
  });

  it('puts details on record that it only learns while it runs', async () => {
    const directory = await scratch();
    const agent = defineTaskKind({
      name: 'agent',
      details: z.object({ type: z.string(), agentId: z.string().optional() }),
    });
    const manager = await openManager({ directory, kinds: [agent] });
    const updated = deferred();
    const end = deferred();
    const { taskId } = await manager.registerTask({
      kind: 'agent',
      description: 'work',
      details: { type: 'coder' },
      run: async (context) => {
        await context.updateDetails({ agentId: 'a7' });
        expect(context.details).toEqual({ type: 'coder', agentId: 'a7' });
        await expect(context.updateDetails({ type: 1 as never })).rejects.toMatchObject({ code: 'INVALID_SPEC' });
        updated.resolve();
        await end.promise;
      },
    });
    await updated.promise;
    const onDisk = JSON.parse(await readFile(join(directory, `${taskId}.json`), 'utf8'));
    expect(onDisk).toMatchObject({ status: 'running', details: { type: 'coder', agentId: 'a7' } });
    end.resolve();
    expect((await manager.waitForTask(taskId)).status).toBe('completed');
  });

  it('fails when its result does not fit its kind', async () => {
    const agent = defineTaskKind({ name: 'agent', details: z.object({}), result: z.object({ answer: z.string() }) });
    const manager = await openManager({ kinds: [agent] });
    const { taskId } = await manager.registerTask({
      kind: 'agent',
      description: 'work',
      details: {},
      run: () => ({ answer: 1 as never }),
    });
    expect(await manager.waitForTask(taskId)).toMatchObject({
      status: 'failed',
      error: { name: 'InvalidResultError' },
    });
  });
});

describe('stopping a function task', () => {
  it.each(['returns', 'throws'])('aborts its signal; one that %s is judged by the table', async (how) => {
    const manager = await openManager();
    const heard = record(manager);
    let reason: any;
    const { taskId } = await manager.registerTask({
      kind: 'function',
      taskId: 'f',
      description: 'work',
      run: ({ signal }) =>
        new Promise((resolve, reject) => {
          signal.addEventListener('abort', () => {
            reason = signal.reason;
            if (how === 'returns') resolve('in time');
            else reject(signal.reason);
          });
        }),
    });
    const stopped = await manager.stopTask(taskId, { reason: 'no longer needed' });
    expect(stopped).toMatchObject(
      how === 'returns'
        ? { status: 'completed', result: 'in time' }
        : { status: 'killed', stopReason: 'no longer needed' },
    );
    expect(stopped.stop).toMatchObject({ cause: 'user', reason: 'no longer needed' });
    expect(reason).toMatchObject({ name: 'AbortError', message: 'no longer needed' });
    expect(reason.cause).toEqual(stopped.stop);
    expect(heard).toEqual(['task:started f', 'task:stopping f', 'task:settled f']);
  });

  it('settles one that ignores its signal when the grace is over, and what it does later changes nothing', async () => {
    const manager = await openManager();
    const late = deferred();
    const refused = deferred<unknown>();
    const { taskId } = await manager.registerTask({
      kind: 'function',
      description: 'work',
      run: async ({ appendOutput, reportProgress, updateDetails }) => {
        await late.promise;
        reportProgress({ message: 'still here' });
        await updateDetails({ a: 1 }).catch(() => undefined);
        await appendOutput('still here').catch(refused.resolve);
        return 'too late';
      },
    });
    const stopped = await manager.stopTask(taskId, { graceMs: 20, reason: '  ' });
    expect(stopped).toMatchObject({ status: 'killed' });
    expect(stopped.stop).not.toHaveProperty('reason');
    expect(stopped).not.toHaveProperty('stopReason');
    late.resolve();
    await expect(refused.promise).resolves.toMatchObject({ code: 'TASK_NOT_FOUND' });
    expect(manager.getTask(taskId)).toEqual(stopped);
  });

  it('resolves at once for a task that has ended, and leaves it as it is', async () => {
    const manager = await openManager();
    const { taskId } = await manager.registerTask({ kind: 'function', description: 'work', run: () => 1 });
    const done = await manager.waitForTask(taskId);
    expect(await manager.stopTask(taskId, { reason: 'late' })).toBe(done);
  });

  it('keeps the first cause', async () => {
    const manager = await openManager();
    const { taskId } = await manager.registerTask({
      kind: 'function',
      description: 'work',
      run: () => new Promise(() => undefined),
    });
    const stopping = next(manager, 'task:stopping', taskId);
    const first = manager.stopTask(taskId, { reason: 'first', graceMs: 60_000 });
    await stopping;
    const second = await manager.stopTask(taskId, { reason: 'second', graceMs: 0 });
    expect(second).toMatchObject({ status: 'killed', stopReason: 'first' });
    expect(await first).toEqual(second);
  });
});
