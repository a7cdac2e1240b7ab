/* What kinds and work of the host's may answer, and what must never come of it. */
import { mkdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { BackgroundTaskError, defineTaskKind } from '../../src/index.js';
import { openManager, scratch } from '../helpers/manager.js';

const onDisk = async (directory: string, taskId: string) =>
  JSON.parse(await readFile(join(directory, `${taskId}.json`), 'utf8'));

async function ended(answer: unknown, directory?: string) {
  directory ??= await scratch();
  let over = false;
  const remote = defineTaskKind({
    name: 'remote',
    details: z.object({ n: z.number() }),
    start: () => undefined,
    probe: () => (over ? { state: 'gone' } : (answer as { state: 'gone' })),
    stop: () => {
      over = true;
    },
  });
  const manager = await openManager({ directory, kinds: [remote], reconcileIntervalMs: 0 });
  manager.on('error', () => undefined);
  await manager.registerTask({ kind: 'remote', taskId: 'r', description: 'work', details: { n: 1 } });
  const report = await manager.reconcile();
  return { manager, report, directory, task: manager.getTask('r')! };
}

describe('a probe', () => {
  it('may answer with an Error: its name and message go on record, and the record can be read again', async () => {
    const { manager, directory, task } = await ended({ state: 'failed', error: new TypeError('x'.repeat(20_000)) });
    expect(task.error).toMatchObject({ name: 'TypeError' });
    expect(Buffer.byteLength((await onDisk(directory, 'r')).error.message)).toBeLessThanOrEqual(8 * 1024);
    await manager.close();
    const again = await openManager({ directory });
    expect(again.getTask('r')?.status).toBe('failed');
  });

  it('that answers with an unknown state has failed: nothing is made up', async () => {
    const { task, report } = await ended({ state: 'exited' });
    expect(report.failures).toHaveLength(1);
    expect(task.status).toBe('running');
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('with endedAt %s: times on record are finite', async (endedAt) => {
    const { directory } = await ended({ state: 'completed', endedAt });
    const { status, endedAt: recorded } = await onDisk(directory, 'r');
    if (status !== 'running') expect(recorded).toEqual(expect.any(Number));
  });

  it('ends with details that fit the kind, or not at all', async () => {
    const { directory } = await ended({ state: 'completed', details: { n: 'one' } });
    expect((await onDisk(directory, 'r')).details.n).toBe(1);
  });

  it('cannot make a record grow beyond what can be written: the task ends all the same', async () => {
    const { task } = await ended({ state: 'completed', details: { big: 'x'.repeat(1024 * 1024) } });
    expect(task.status).not.toBe('running');
  });
});

describe('a value that cannot be shown', () => {
  const unshowable = Object.create(null) as object;

  it('thrown by work makes the task failed', async () => {
    const manager = await openManager({ reconcileIntervalMs: 0 });
    const { taskId } = await manager.registerTask({
      kind: 'function',
      description: 'work',
      run: () => {
        throw unshowable;
      },
    });
    expect((await manager.waitForTask(taskId)).status).toBe('failed');
  });

  it('thrown by a probe is one failure of the pass', async () => {
    const remote = defineTaskKind({
      name: 'remote',
      details: z.object({}),
      start: () => undefined,
      probe: () => {
        throw unshowable;
      },
    });
    const manager = await openManager({ kinds: [remote], reconcileIntervalMs: 0 });
    await manager.registerTask({ kind: 'remote', description: 'work', details: {} });
    expect((await manager.reconcile()).failures).toHaveLength(1);
  });
});

it('a start that learns too much does not make a task that can never end', async () => {
  const remote = defineTaskKind({
    name: 'remote',
    details: z.looseObject({}),
    start: () => ({ big: 'x'.repeat(1024 * 1024) }),
    probe: () => ({ state: 'completed' as const }),
  });
  const manager = await openManager({ kinds: [remote], reconcileIntervalMs: 0 });
  manager.on('error', () => undefined);
  const { taskId } = await manager.registerTask({ kind: 'remote', description: 'work', details: {} });
  await manager.reconcile();
  expect(manager.getTask(taskId)?.status).toBe('completed');
});

it('an answer that the work took is accepted, also when a probe saw it first', async () => {
  let waiting = true;
  let reconcile: () => Promise<unknown> = () => Promise.resolve();
  const remote = defineTaskKind({
    name: 'remote',
    details: z.object({}),
    start: () => undefined,
    probe: () => (waiting ? { state: 'waiting' as const, prompt: '?' } : { state: 'running' as const }),
    provideInput: async () => {
      waiting = false;
      await reconcile();
    },
  });
  const manager = await openManager({ kinds: [remote], reconcileIntervalMs: 0 });
  reconcile = () => manager.reconcile();
  const { taskId } = await manager.registerTask({ kind: 'remote', description: 'work', details: {} });
  await manager.reconcile();
  expect((await manager.provideInput(taskId, 'yes')).status).toBe('running');
});

it('what a kind throws at provideInput reaches the one who answers as an error of ours', async () => {
  const remote = defineTaskKind({
    name: 'remote',
    details: z.object({}),
    start: () => undefined,
    probe: () => ({ state: 'waiting' as const, prompt: '?' }),
    provideInput: () => {
      throw new Error('no such session');
    },
  });
  const manager = await openManager({ kinds: [remote], reconcileIntervalMs: 0 });
  const { taskId } = await manager.registerTask({ kind: 'remote', description: 'work', details: {} });
  await manager.reconcile();
  await expect(manager.provideInput(taskId, 'yes')).rejects.toBeInstanceOf(BackgroundTaskError);
});

it('recover is asked once, also when the next attempt cannot be written at first', async () => {
  const directory = await scratch();
  const base = { name: 'agent', details: z.object({}) } as const;
  const first = await openManager({ directory, kinds: [defineTaskKind(base)], stopGraceMs: 0 });
  await first.registerTask({
    kind: 'agent',
    taskId: 'a',
    description: 'work',
    details: {},
    run: () => new Promise(() => undefined),
  });
  const path = join(directory, 'a.json');
  const left = await readFile(path);
  await first.close();
  await rm(path);
  await writeFile(path, left);
  let asked = 0;
  const blocked = `${path}.next`;
  const agent = defineTaskKind({
    ...base,
    recover: async () => {
      if (asked++ === 0) await mkdir(blocked);
      return () => 'done';
    },
  });
  const second = await openManager({ directory, kinds: [agent], reconcileIntervalMs: 0 });
  await rmdir(blocked);
  await second.reconcile();
  expect((await second.waitForTask('a')).status).toBe('completed');
  expect(asked).toBe(1);
});
