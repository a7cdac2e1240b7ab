import { mkdir, readdir, readFile, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { judge } from '../../src/task/status.js';
import { deferred, next, openManager, record, scratch } from '../helpers/manager.js';

/** Makes every write of this task's record fail, on the real disk: a folder stands where the new record would be written. */
async function blockWrites(directory: string, taskId: string): Promise<() => Promise<void>> {
  const path = join(directory, `${taskId}.json.next`);
  await mkdir(path);
  return () => rmdir(path);
}

const onDisk = async (directory: string, taskId: string) =>
  JSON.parse(await readFile(join(directory, `${taskId}.json`), 'utf8'));

describe('an outcome that cannot be written', () => {
  it('is reported once, changes nothing anybody sees, and is written as it was by a later reconcile', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, maxRunningTasks: 1, reconcileIntervalMs: 0 });
    const end = deferred();
    await manager.registerTask({ kind: 'function', taskId: 'f', description: 'work', run: () => end.promise });
    const heard = record(manager);
    const unblock = await blockWrites(directory, 'f');
    const failed = next(manager, 'error', 'f');
    end.resolve();
    expect((await failed).error).toMatchObject({ code: 'STORAGE_FAILED', taskId: 'f' });
    const settledBy = Date.now();
    expect(manager.getTask('f')).toMatchObject({ status: 'running', endedAt: null });
    expect(manager.status().slots.used).toBe(1);
    expect((await manager.waitForTask('f', { timeoutMs: 0 })).status).toBe('running');
    expect((await manager.reconcile()).settled).toEqual([]);
    await unblock();
    expect((await manager.reconcile()).settled).toEqual(['f']);
    const task = await onDisk(directory, 'f');
    expect(task.status).toBe('completed');
    expect(task.endedAt).toBeLessThanOrEqual(settledBy);
    expect(manager.status().slots.used).toBe(0);
    expect(heard).toEqual(['error f', 'task:settled f']);
  });

  it('is tried once more by close, which never replaces it', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, reconcileIntervalMs: 0, stopGraceMs: 0 });
    await manager.registerTask({ kind: 'function', taskId: 'f', description: 'work', run: () => 42 });
    const unblock = await blockWrites(directory, 'f').catch(() => undefined);
    if (unblock) {
      await unblock();
    }
    await manager.close();
    expect(await onDisk(directory, 'f')).toMatchObject({ status: 'completed', result: 42 });
  });

  it('makes close reject, and the directory is free all the same', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, reconcileIntervalMs: 0, stopGraceMs: 0 });
    const end = deferred();
    await manager.registerTask({ kind: 'function', taskId: 'f', description: 'work', run: () => end.promise });
    manager.on('error', () => undefined);
    const unblock = await blockWrites(directory, 'f');
    end.resolve();
    await expect(manager.close()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    await unblock();
    const again = await openManager({ directory });
    expect(again.getTask('f')).toMatchObject({ status: 'lost' });
  });
});

describe('a stop that cannot be written', () => {
  it('is carried out, reported, and written with the outcome', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, reconcileIntervalMs: 0 });
    await manager.registerTask({
      kind: 'function',
      taskId: 'f',
      description: 'work',
      run: ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
    });
    const heard = record(manager);
    const unblock = await blockWrites(directory, 'f');
    const stopped = manager.stopTask('f', { reason: 'full', skipHooks: true });
    await next(manager, 'error', 'f');
    await unblock();
    await manager.reconcile();
    expect(await stopped).toMatchObject({
      status: 'killed',
      stop: { cause: 'user', reason: 'full' },
      stopReason: 'full',
    });
    expect(heard.at(-1)).toBe('task:settled f');
  });
});

describe('a registration that cannot be written', () => {
  it('leaves no record, no slot, and its id free; nothing ran', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, maxRunningTasks: 1 });
    const unblock = await blockWrites(directory, 'f');
    let ran = 0;
    const spec = { kind: 'function', taskId: 'f', description: 'work', idempotencyKey: 'k', run: () => ++ran } as const;
    await expect(manager.registerTask(spec)).rejects.toMatchObject({ code: 'STORAGE_FAILED', taskId: 'f' });
    expect(manager.status()).toMatchObject({ running: 0, slots: { used: 0 } });
    expect(manager.getTask('f')).toBeUndefined();
    await unblock();
    expect((await readdir(directory)).filter((name) => name.startsWith('f'))).toEqual([]);
    expect(ran).toBe(0);
    await manager.registerTask(spec);
    expect(await manager.waitForTask('f')).toMatchObject({ status: 'completed', result: 1 });
  });
});

describe('an update that cannot be written', () => {
  it('rejects, and memory is as it was', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    await manager.registerTask({ kind: 'function', taskId: 'f', description: 'before', run: () => 1 });
    await manager.waitForTask('f');
    const unblock = await blockWrites(directory, 'f');
    await expect(manager.updateTask('f', { description: 'after' })).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    expect(manager.getTask('f')?.description).toBe('before');
    await unblock();
    expect(await manager.updateTask('f', { description: 'after', metadata: { a: 1 } })).toMatchObject({
      description: 'after',
      metadata: { a: 1 },
    });
    expect(await manager.updateTask('f', { metadata: { b: 2 } })).toMatchObject({
      description: 'after',
      metadata: { a: 1, b: 2 },
    });
    expect(await onDisk(directory, 'f')).toMatchObject({ description: 'after', metadata: { a: 1, b: 2 } });
  });
});

describe('the judgement', () => {
  it.each([
    ['completed', undefined, 'completed'],
    ['failed', undefined, 'failed'],
    ['gone', undefined, 'lost'],
    ['completed', 'user', 'completed'],
    ['failed', 'user', 'killed'],
    ['gone', 'user', 'killed'],
    ['completed', 'shutdown', 'completed'],
    ['failed', 'shutdown', 'killed'],
    ['gone', 'shutdown', 'killed'],
    ['completed', 'deadline', 'timed_out'],
    ['failed', 'deadline', 'timed_out'],
    ['gone', 'deadline', 'timed_out'],
    ['completed', 'output_limit', 'killed'],
    ['failed', 'output_limit', 'killed'],
    ['gone', 'output_limit', 'killed'],
  ] as const)('%s after the stop cause %s is %s', (ending, cause, status) => {
    expect(judge(ending, cause && { cause })).toBe(status);
  });
});
