import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { readTasks } from '../src/index.js';
import { type Host, startHost } from './helpers/host.js';
import { openManager, scratch } from './helpers/manager.js';
import { until } from './helpers/wait.js';
import { onDisk } from './helpers/world.js';

const opens = `const manager = await BackgroundTaskManager.open({ directory, reconcileIntervalMs: 0 });
const start = (taskId, command, more) => manager.registerTask({ kind: 'process', taskId, description: 'work', command, ...more });
`;

/** A host that starts what the script says, and is killed. */
async function left(directory: string, script: string): Promise<Host> {
  const host = startHost(`${opens}${script}\nsay('ready'); setInterval(() => {}, 1e6);`, directory);
  await host.next();
  return host;
}

/** Everything below the directory, as it is. */
const contents = (directory: string) =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((path) => [path, readFileSync(path, 'latin1')]);

const find = async (directory: string, taskId: string, judge = true) =>
  (await readTasks(directory, { judge })).tasks.find((task) => task.taskId === taskId);
const exitOf = (directory: string, taskId: string) => join(directory, '.run', `${taskId}.exit`);

describe('readTasks', () => {
  it('says who owns the directory', async () => {
    const directory = await scratch();
    expect((await readTasks(directory)).owner).toBeNull();
    const manager = await openManager({ directory });
    expect((await readTasks(directory)).owner).toEqual({ identity: manager.status().owner, alive: true });
    await manager.close();
    expect((await readTasks(directory)).owner).toBeNull();
    writeFileSync(join(directory, '.owner', 'epoch-9'), 'scribble');
    expect(await readTasks(directory)).toMatchObject({
      owner: null,
      rejected: [{ path: join(directory, '.owner', 'epoch-9'), reason: expect.stringContaining('owner') }],
    });
  });

  it('judges what ended while nobody lived as an owner would, and writes nothing', async () => {
    const directory = await scratch();
    const host = await left(
      directory,
      `await start('good', 'while [ ! -e "$G" ]; do sleep 0.02; done', { env: { G: directory + '/go' } });
       await start('bad', 'while [ ! -e "$G" ]; do sleep 0.02; done; exit 3', { env: { G: directory + '/go' } });
       await start('lives', 'exec sleep 1000');
       await start('gone', 'exec sleep 1000');`,
    );
    await host.kill();
    const { owner } = await readTasks(directory);
    expect(owner).toMatchObject({ alive: false, identity: { pid: host.child.pid } });
    process.kill(-(onDisk(directory, 'gone') as any).details.pid, 'SIGKILL');
    writeFileSync(join(directory, 'go'), '');
    await until(() => existsSync(exitOf(directory, 'good')) && existsSync(exitOf(directory, 'bad')));
    await until(async () => (await find(directory, 'gone'))?.status !== 'running');
    const before = contents(directory);
    expect(await find(directory, 'good', false)).toMatchObject({ status: 'running' });
    const good = (await find(directory, 'good'))!;
    expect(good).toMatchObject({ status: 'completed', details: { exitCode: 0, signal: null } });
    expect(await find(directory, 'bad')).toMatchObject({
      status: 'failed',
      details: { exitCode: 3 },
      error: { name: 'ProcessExitError' },
    });
    expect(await find(directory, 'lives')).toMatchObject({ status: 'running', endedAt: null });
    expect(await find(directory, 'gone')).toMatchObject({
      status: 'lost',
      stopReason: expect.stringContaining('owner died'),
    });
    // Nobody took the right to run: a supervisor may still come, or the next owner launches it.
    rmSync(join(directory, '.run', 'gone.pid'));
    expect(await find(directory, 'gone')).toMatchObject({ status: 'running' });
    const after = contents(directory);
    expect(after).toEqual(before.filter(([path]) => !path!.endsWith('gone.pid')));
    // The next owner says the same.
    const manager = await openManager({ directory, reconcileIntervalMs: 0 });
    for (const key of ['status', 'endedAt', 'details', 'hooks', 'detached'] as const) {
      expect(manager.getTask('good')![key], key).toEqual(good[key]);
    }
    await manager.stopTask('lives', { graceMs: 0 });
  });

  it('shows what a stop on record made of it', async () => {
    const directory = await scratch();
    const host = await left(directory, `await start('t', 'exec sleep 1000');`);
    await host.kill();
    const path = join(directory, 't.json');
    const record = JSON.parse(readFileSync(path, 'utf8'));
    writeFileSync(path, JSON.stringify({ ...record, stop: { cause: 'user', requestedAt: record.startedAt } }));
    process.kill(-record.details.pid, 'SIGKILL');
    await until(async () => (await find(directory, 't'))?.status === 'killed');
  });

  it('leaves what left no trace to an owner that lives, and believes an exit record that waits for it', async () => {
    const directory = await scratch();
    const host = await left(directory, `await start('done', 'exit 4'); await start('cut', 'exec sleep 1000');`);
    // It stands still, so that it settles nothing.
    process.kill(host.child.pid!, 'SIGSTOP');
    process.kill(-(onDisk(directory, 'cut') as any).details.pid, 'SIGKILL');
    await until(async () => {
      const status = (await find(directory, 'done'))?.status;
      return status === 'failed';
    });
    expect(await find(directory, 'cut')).toMatchObject({ status: 'running' });
    expect((await readTasks(directory)).owner).toMatchObject({ alive: true });
    process.kill(host.child.pid!, 'SIGCONT');
  });

  it('is never wrong while a manager settles the same tasks', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    const tasks = Array.from({ length: 12 }, (_, i) => `t-${i}`);
    const seen = new Set<string>();
    let over = false;
    const reading = (async () => {
      while (!over) {
        for (const { taskId, status } of (await readTasks(directory, { judge: true })).tasks)
          seen.add(`${taskId} ${status}`);
        await sleep(1);
      }
    })();
    for (const taskId of tasks) {
      await manager.registerTask({ kind: 'process', taskId, description: 'work', command: ['true'] });
      await manager.waitForTask(taskId);
    }
    over = true;
    await reading;
    const statuses = new Set([...seen].map((one) => one.split(' ')[1]));
    expect([...statuses].filter((status) => !['running', 'completed'].includes(status!))).toEqual([]);
    expect(seen.size).toBeGreaterThan(0);
  });

  it('refuses options that it does not know', async () => {
    const directory = await scratch();
    for (const bad of [{ judge: 1 }, { jugde: true }, true]) {
      await expect(readTasks(directory, bad as never)).rejects.toMatchObject({ code: 'INVALID_SPEC' });
    }
  });
});
