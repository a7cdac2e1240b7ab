/* A task, or somebody else, replaces the files and folders that a manager works with. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { next, openManager, scratch } from '../helpers/manager.js';
import { until } from '../helpers/wait.js';

const replacements: [string, (path: string) => void][] = [
  ['a FIFO', (path) => execFileSync('mkfifo', [path])],
  ['a link to a device', (path) => symlinkSync('/dev/zero', path)],
  ['a folder', (path) => mkdirSync(path)],
];

describe.each(replacements)('an output that was replaced by %s', (_what, make) => {
  it('is refused by every reader and by who adds to it, and its task ends all the same', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    const output = join(directory, 'work', 'output.log');
    let append!: () => Promise<void>;
    let finish!: () => void;
    await manager.registerTask({
      kind: 'function',
      taskId: 'work',
      description: 'x',
      run: ({ appendOutput }) =>
        new Promise((resolve) => {
          append = () => appendOutput('more');
          finish = () => resolve(undefined);
        }),
    });
    mkdirSync(dirname(output), { recursive: true });
    rmSync(output, { force: true });
    make(output);
    manager.on('error', () => undefined);
    await expect(append()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    await expect(manager.readOutput('work')).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    const follower = manager.followOutput('work')[Symbol.asyncIterator]();
    await expect(follower.next()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    finish();
    expect(await manager.waitForTask('work')).toMatchObject({ status: 'completed' });
  });
});

it('an exit record that the task wrote itself is not believed: the task runs, can be stopped, and its end is its own', async () => {
  const directory = await scratch();
  const manager = await openManager({ directory });
  const ready = join(directory, 'ready');
  const gate = join(directory, 'gate');
  const forged = `echo 0 >'${directory}/.run/'"\${HOLDFAST_TASK##*/}".exit; touch '${ready}'`;
  const task = await manager.registerTask({
    kind: 'process',
    command: `${forged}; until [ -e '${gate}' ]; do sleep 0.02; done; exit 9`,
    description: 'forger',
  });
  await until(() => existsSync(ready));
  await manager.reconcile();
  expect(manager.getTask(task.taskId)).toMatchObject({ status: 'running' });
  writeFileSync(gate, '');
  expect(await manager.waitForTask(task.taskId)).toMatchObject({ status: 'failed', details: { exitCode: 9 } });
});

it('an exit record that a former task of the id writes late does not settle the next one', async () => {
  const directory = await scratch();
  const manager = await openManager({ directory });
  const gate = join(directory, 'gate');
  const late = `until [ -e '${gate}' ]; do sleep 0.02; done; echo 0 >'${directory}/.run/job.exit'; touch '${gate}.done'`;
  const spec = { kind: 'process', taskId: 'job', description: 'x' } as const;
  await manager.registerTask({ ...spec, command: `(${late}) & exit 1` });
  await manager.waitForTask('job');
  expect(await manager.pruneTasks({ olderThanMs: 0 })).toEqual(['job']);
  await manager.registerTask({ ...spec, command: ['sleep', '60'] });
  writeFileSync(gate, '');
  await until(() => existsSync(`${gate}.done`));
  await manager.reconcile();
  expect(manager.getTask('job')).toMatchObject({ status: 'running' });
  expect(await manager.stopTask('job')).toMatchObject({ status: 'killed', details: { exitCode: 143 } });
});

it('a deleted run folder costs no task', async () => {
  const directory = await scratch();
  const manager = await openManager({ directory });
  const gate = join(directory, 'gate');
  const command = `until [ -e '${gate}' ]; do sleep 0.02; done; exit 7`;
  const running = await manager.registerTask({ kind: 'process', command, description: 'x' });
  await until(() => existsSync(join(directory, '.run', `${running.taskId}.pid`)));
  rmSync(join(directory, '.run'), { recursive: true });
  const later = await manager.registerTask({ kind: 'process', command: 'exit 3', description: 'x' });
  expect(await manager.waitForTask(later.taskId)).toMatchObject({ status: 'failed', details: { exitCode: 3 } });
  writeFileSync(gate, '');
  expect(await manager.waitForTask(running.taskId)).toMatchObject({ status: 'failed', details: { exitCode: 7 } });
});

it('a deleted directory is called gone, not taken over', async () => {
  const directory = await scratch();
  const manager = await openManager({ directory });
  const fenced = next(manager, 'manager:fenced');
  rmSync(directory, { recursive: true });
  const refused = manager.registerTask({ kind: 'process', command: 'true', description: 'x' });
  await expect(refused).rejects.toMatchObject({
    code: 'OWNERSHIP_LOST',
    message: expect.stringContaining(`${directory} is gone`),
  });
  expect(await fenced).toEqual({ owner: null });
  expect(() => manager.listTasks()).toThrow(`${directory} is gone`);
});
