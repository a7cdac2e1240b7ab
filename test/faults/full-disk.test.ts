/* A disk that is really full, under a manager with running work: a tmpfs of 64 KiB. */
import { rmSync } from 'node:fs';
import { access, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type BackgroundTaskError, type BackgroundTaskManager, readTasks } from '../../src/index.js';
import {
  canMount,
  fillDisk,
  killAllAfterwards,
  lives,
  onDisk,
  pidIn,
  slotsAddUp,
  tinyDisk,
} from '../helpers/faults.js';
import { supervisors } from '../helpers/host.js';
import { deferred, openManager } from '../helpers/manager.js';
import { tempDirectory, until } from '../helpers/wait.js';

function disk(kib?: number): string {
  const parent = tempDirectory('holdfast-full-');
  killAllAfterwards(parent);
  return tinyDisk(parent, kib);
}

function errorsOf(manager: BackgroundTaskManager<any>): BackgroundTaskError[] {
  const errors: BackgroundTaskError[] = [];
  manager.on('error', ({ error }) => void errors.push(error));
  return errors;
}

describe.skipIf(!canMount())('a full disk under a manager (needs the right to mount)', () => {
  it('refuses registrations, robs no running work, and goes on once there is space', async () => {
    const directory = disk();
    const elsewhere = tempDirectory();
    const manager = await openManager({ directory, fsync: true, reconcileIntervalMs: 50 });
    const errors = errorsOf(manager);
    const gate = deferred<string>();
    await manager.registerTask({ kind: 'function', taskId: 'inside', description: 'work', run: () => gate.promise });
    await manager.registerTask({
      kind: 'process',
      taskId: 'outside',
      description: 'work',
      command: `until [ -e "${elsewhere}/gate" ]; do sleep 0.05; done; exit 7`,
    });
    await pidIn(join(directory, '.run', 'outside.pid'));
    const registered: string[] = [];
    let refusal: unknown;
    for (let n = 0; refusal === undefined; n++) {
      await manager
        .registerTask({
          kind: 'function',
          taskId: `t${n}`,
          description: 'x'.repeat(1 + ((n * 997) % 3000)),
          run: () => n,
        })
        .then(() => registered.push(`t${n}`))
        .catch((error: unknown) => {
          refusal = error;
          expect(onDisk(directory, `t${n}`)).toBeUndefined();
          expect(manager.getTask(`t${n}`)).toBeUndefined();
        });
    }
    expect(refusal).toMatchObject({ code: 'STORAGE_FAILED', cause: { code: 'ENOSPC' } });
    expect(registered.length).toBeGreaterThan(3);
    // What is still being written holds pages that it may give back: so only once all were told or refused.
    const isToldOf = (id: string) =>
      manager.getTask(id)?.endedAt !== null || errors.some(({ taskId }) => taskId === id);
    await until(() => registered.every(isToldOf));
    const filler = fillDisk(directory);
    // An outcome that is tried again may have had its page, and given one back by now.
    for (let again = 0; again < 5; again++) {
      await manager.reconcile().catch(() => undefined);
      fillDisk(directory);
    }

    // Both end now, while not a byte is free: neither outcome can be told, and nothing is made up.
    let settled = 0;
    manager.on('task:settled', () => void settled++);
    gate.resolve('done');
    await writeFile(join(elsewhere, 'gate'), '');
    await until(() => errors.some(({ taskId }) => taskId === 'inside'));
    const told = settled;
    expect(manager.getTask('inside')).toMatchObject({ status: 'running' });
    expect(manager.getTask('outside')).toMatchObject({ status: 'running' });
    await manager.reconcile().catch(() => undefined);
    await manager.reconcile().catch(() => undefined);
    expect(errors.filter(({ taskId }) => taskId === 'inside')).toHaveLength(1);
    const { used, running } = slotsAddUp(manager);
    expect(used).toBe(running);
    expect(settled).toBe(told);
    const { tasks, rejected } = await readTasks(directory);
    expect(rejected).toEqual([]);
    expect(tasks).toHaveLength(registered.length + 2);

    rmSync(filler);
    await manager.pruneTasks({ filter: { kind: 'function', status: 'completed' } });
    expect(await manager.waitForTask('inside')).toMatchObject({ status: 'completed', result: 'done' });
    expect(await manager.waitForTask('outside')).toMatchObject({ status: 'failed', details: { exitCode: 7 } });
    await manager.registerTask({ kind: 'process', taskId: 'later', description: 'work', command: 'echo later' });
    expect(await manager.waitForTask('later')).toMatchObject({ status: 'completed' });
    expect(manager.status().slots.used).toBe(0);
    await manager.close();
    const next = await openManager({ directory });
    for (const taskId of ['inside', 'outside', 'later'])
      expect(onDisk(directory, taskId)).toEqual(next.getTask(taskId));
  });

  it('is freed by stopping the one that fills it, whose end is not lost', async () => {
    const directory = disk(256);
    const manager = await openManager({ directory, fsync: true, reconcileIntervalMs: 50, stopGraceMs: 2_000 });
    const errors = errorsOf(manager);
    await manager.registerTask({
      kind: 'process',
      taskId: 'flood',
      description: 'work',
      command: 'exec 2>/dev/null; trap "exit 9" TERM; while :; do yes | head -c 4096; sleep 0.01; done',
    });
    await until(async () => (await manager.readOutput('flood')).size > 100_000);
    // Not a byte more: neither the stop nor the exit record can be written now.
    const filler = fillDisk(directory);
    const before = onDisk(directory, 'flood');
    const stopped = manager.stopTask('flood', { reason: 'the disk is full' });
    await until(() => errors.some(({ code, taskId }) => code === 'STORAGE_FAILED' && taskId === 'flood'));
    await until(() => supervisors(directory).length === 0);
    expect(onDisk(directory, 'flood')).toEqual(before);
    expect(manager.getTask('flood')).toMatchObject({ status: 'running' });
    rmSync(filler);
    const task = await stopped;
    expect(task).toMatchObject({ status: 'killed', stopReason: 'the disk is full', stop: { cause: 'user' } });
    expect(onDisk(directory, 'flood')).toEqual(task);
    expect(manager.status().slots.used).toBe(0);
  });

  it('delays an exit code, and does not lose it', async () => {
    const directory = disk(256);
    const elsewhere = tempDirectory();
    const manager = await openManager({ directory, reconcileIntervalMs: 50 });
    await manager.registerTask({
      kind: 'process',
      taskId: 'ends',
      description: 'work',
      command: `until [ -e "${elsewhere}/gate" ]; do sleep 0.02; done; touch "${elsewhere}/ended"; exit 42`,
    });
    // On a disk that is full from the start a command is not run at all: so only once it was.
    const supervisor = await pidIn(join(directory, '.run', 'ends.pid'));
    const filler = fillDisk(directory);
    await writeFile(join(elsewhere, 'gate'), '');
    await until(() =>
      access(join(elsewhere, 'ended')).then(
        () => true,
        () => false,
      ),
    );
    await manager.reconcile().catch(() => undefined);
    expect(manager.getTask('ends')).toMatchObject({ status: 'running' });
    expect(lives(supervisor)).toBe(true);
    rmSync(filler);
    expect(await manager.waitForTask('ends')).toMatchObject({
      status: 'failed',
      details: { exitCode: 42, signal: null },
    });
  });

  it('does not keep a host from closing: the directory is given up, and the next one judges anew', async () => {
    const directory = disk(128);
    const manager = await openManager({ directory, reconcileIntervalMs: 0 });
    errorsOf(manager);
    const gate = deferred<number>();
    await manager.registerTask({ kind: 'function', taskId: 'inside', description: 'work', run: () => gate.promise });
    await manager.registerTask({ kind: 'process', taskId: 'outside', description: 'work', command: 'sleep 600' });
    await pidIn(join(directory, '.run', 'outside.pid'));
    const filler = fillDisk(directory);
    gate.resolve(1);
    await expect(manager.close()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    // Without a byte of space there can be no new owner either, and that attempt leaves nothing behind.
    await expect(openManager({ directory })).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    rmSync(filler);
    const next = await openManager({ directory });
    expect(next.getTask('inside')).toMatchObject({ status: 'lost' });
    expect(next.status().lastReconcile?.report.adopted).toEqual(['outside']);
    expect(await next.stopTask('outside')).toMatchObject({ status: 'killed' });
  });
});
