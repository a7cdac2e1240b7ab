/* A command that runs without a supervisor, as on Windows: the class does not ask on which system it runs. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { systemClock } from '../../../src/clock.js';
import { ProcessHost } from '../../../src/process/process-host.js';
import { AttachedSupervisor } from '../../../src/process/supervisor/attached.js';
import type { LaunchRequest } from '../../../src/process/supervisor/supervisor.js';
import type { ProcessTask } from '../../../src/task/types.js';
import { filesIn, isAlive, ProcessLab, stopping } from '../../helpers/process.js';
import { until } from '../../helpers/wait.js';

function attached(lab = new ProcessLab()) {
  const ignore = () => undefined;
  const { layout, owner } = lab;
  const host = new ProcessHost({
    files: filesIn(layout),
    owner,
    clock: systemClock,
    onHint: ignore,
    onHintAll: ignore,
    onError: ignore,
  });
  const task = lab.task();
  const supervisor = new AttachedSupervisor(task.taskId, host);
  let ends = 0;
  const launch = async (command: LaunchRequest['command'], more: Partial<LaunchRequest> = {}): Promise<ProcessTask> => {
    await filesIn(layout).output(task.taskId).prepare();
    const pid = await supervisor.launch({
      command,
      cwd: layout.directory,
      input: undefined,
      checkWanted: ignore,
      onBegin: ignore,
      onEnd: () => ends++,
      ...more,
    });
    return { ...task, details: { ...task.details, pid } };
  };
  const ended = (record: ProcessTask) =>
    until(async () => {
      const { probe, goesOn } = await supervisor.look(record);
      return !goesOn && probe;
    });
  return { lab, task, supervisor, launch, ended, ends: () => ends };
}

it('runs a line by the shell, and ends with the code that its parent saw', async () => {
  const { lab, supervisor, launch, ended, ends } = attached();
  const task = await launch('echo said; exit 3');
  expect(supervisor.isOwn).toBe(true);
  expect(await ended(task)).toMatchObject({ state: 'failed', details: { exitCode: 3, signal: null } });
  expect(ends()).toBe(1);
  expect(readFileSync(lab.layout.outputPath(task.taskId), 'utf8')).toBe('said\n');
});

it('runs a vector as it stands', async () => {
  const { lab, launch, ended } = attached();
  const task = await launch(['printf', '%s', 'a b;c']);
  expect(await ended(task)).toMatchObject({ state: 'completed', details: { exitCode: 0 } });
  expect(readFileSync(lab.layout.outputPath(task.taskId), 'utf8')).toBe('a b;c');
});

it('says which pid it has, where the record does not', async () => {
  const { task, supervisor, launch } = attached();
  const started = await launch(['sleep', '60']);
  expect(await supervisor.look(started)).toEqual({ probe: { state: 'running' }, goesOn: true });
  const { pid } = started.details;
  expect(await supervisor.look(task)).toEqual({ probe: { state: 'running', details: { pid } }, goesOn: true });
  await supervisor.kill();
});

it('does not believe an exit record that its own command wrote', async () => {
  const { lab, supervisor, launch } = attached();
  const task = await launch(['sleep', '60']);
  writeFileSync(lab.layout.exitPath(task.taskId), '0\n');
  expect(await supervisor.look(task)).toMatchObject({ probe: { state: 'running' }, goesOn: true });
  await supervisor.kill();
});

it.each(['terminate', 'kill'] as const)('ends at once when it is told to %s, and only while it lives', async (how) => {
  const { supervisor, launch, ended } = attached();
  await supervisor[how]();
  const task = await launch(['sleep', '60']);
  expect(await supervisor.reach()).toBe(true);
  await supervisor[how]();
  expect(await ended(stopping(task))).toMatchObject({
    state: 'failed',
    details: { exitCode: null, signal: 'SIGKILL' },
  });
  expect(isAlive(task.details.pid!)).toBe(false);
  expect(await supervisor.reach()).toBe(false);
  await supervisor.killSupervisor();
});

it('is not launched once it is no longer wanted, and says in words why it cannot be', async () => {
  const { lab, supervisor, launch } = attached();
  const ran = join(lab.layout.directory, 'ran');
  const checkWanted = () => {
    throw new Error('no longer');
  };
  await expect(launch(['touch', ran], { checkWanted })).rejects.toThrow('no longer');
  await expect(launch('true', { cwd: join(lab.layout.directory, 'none') })).rejects.toThrow('cwd does not exist');
  expect(supervisor.isOwn).toBe(false);
  expect(existsSync(ran)).toBe(false);
});

it('of another host is gone with it, unless it runs where it cannot be seen', async () => {
  const lab = new ProcessLab();
  const { supervisor, task } = attached(lab);
  const begun = { ...task, details: { ...task.details, pid: 7 } };
  expect(await supervisor.look(begun)).toEqual({ probe: { state: 'gone' }, goesOn: false });
  const elsewhere = { ...begun, owner: { ...lab.owner, hostname: 'other', bootId: 'other' } };
  expect(await supervisor.look(elsewhere)).toMatchObject({
    probe: { state: 'running', outOfReach: expect.stringContaining('on another machine') },
    goesOn: false,
  });
  writeFileSync(lab.layout.exitPath(task.taskId), '3\n');
  expect(await supervisor.look(elsewhere)).toMatchObject({ probe: { state: 'failed', details: { exitCode: 3 } } });
});

it('never began where its right to run was taken before the machine was restarted', async () => {
  const lab = new ProcessLab();
  const { supervisor, task } = attached(lab);
  writeFileSync(lab.layout.pidPath(task.taskId), 'void\n');
  const before = { ...task, owner: { ...lab.owner, bootId: 'before' } };
  expect(await supervisor.look(before)).toMatchObject({ probe: { state: 'gone', neverBegan: true } });
});
