// A host that was killed just after a launch leaves a supervisor that may not have come to its first line yet.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { SHELL, supervisorArguments } from '../../src/process/supervisor/shim.js';
import { TASK_VARIABLE } from '../../src/process/table/marks.js';
import { openManager, scratch } from '../helpers/manager.js';
import { stateOf } from '../helpers/process.js';
import { until } from '../helpers/wait.js';

/** A directory that its owner left while it launched a task, with a supervisor that stands still. */
async function leftBehind() {
  const directory = await scratch();
  const owner = await (async () => {
    await using manager = await openManager({ directory });
    return manager.status().owner;
  })();
  const command = `echo ran >>${join(directory, 'proof')}; exit 3`;
  const times = { createdAt: 1_000, startedAt: 1_000, endedAt: null };
  const record = {
    ...{ schemaVersion: 1, taskId: 'late', kind: 'process', description: 'late', status: 'running', detached: true },
    ...{ ...times, attempt: 1, owner, metadata: {}, hooks: {} },
    details: { command, cwd: directory, pid: null, exitCode: null, signal: null },
  };
  writeFileSync(join(directory, 'late.json'), JSON.stringify(record), { mode: 0o600 });
  const runDir = join(directory, '.run');
  mkdirSync(runDir, { recursive: true });
  const args = supervisorArguments({ runDir, taskId: 'late', umask: '0077', command });
  const supervisor = spawn(SHELL, ['-c', `kill -STOP $$; exec ${SHELL} "$@"`, 'stopped', ...args], {
    detached: true,
    stdio: 'ignore',
    env: { ...process.env, [TASK_VARIABLE]: `${runDir}/late` },
  });
  onTestFinished(() => void supervisor.kill('SIGKILL'));
  await until(() => stateOf(supervisor.pid!) === 'T');
  return { directory, supervisor };
}

it('a supervisor that comes after its task was looked at is refused, and the task runs once', async () => {
  const { directory, supervisor } = await leftBehind();
  const manager = await openManager({ directory });
  // Somebody of the task is there: whether that one will run anything shows later.
  expect(manager.getTask('late')).toMatchObject({ status: 'running' });
  const ended = once(supervisor, 'exit');
  supervisor.kill('SIGCONT');
  expect(await ended).toEqual([125, null]);
  await manager.reconcile();
  expect(await manager.waitForTask('late')).toMatchObject({
    status: 'failed',
    attempt: 1,
    details: { exitCode: 3 },
  });
  expect(readFileSync(join(directory, 'proof'), 'utf8')).toBe('ran\n');
});

it('a task whose supervisor comes to nothing is stopped like any other', async () => {
  const { directory, supervisor } = await leftBehind();
  const manager = await openManager({ directory, stopGraceMs: 60_000 });
  const stopped = manager.stopTask('late', { graceMs: 0 });
  expect(await stopped).toMatchObject({ status: 'killed', stop: { cause: 'user' } });
  expect(supervisor.signalCode ?? (await once(supervisor, 'exit'))).toBeTruthy();
});
