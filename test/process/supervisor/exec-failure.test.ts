import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { openManager, scratch } from '../../helpers/manager.js';

async function endOf(command: string | readonly string[], more: object = {}) {
  const manager = await openManager();
  const spec = { kind: 'process' as const, description: 'work', command, ...more };
  return manager.waitForTask((await manager.registerTask(spec)).taskId);
}

it.each([
  ['on the PATH', 'holdfast-no-such-program', 'there is no program "holdfast-no-such-program" on the PATH'],
  ['at a path', './no/such/program', 'there is no program "./no/such/program"'],
])('a program that is not there, %s, is said on record', async (_, program, message) => {
  expect(await endOf([program, 'x'], { cwd: await scratch() })).toMatchObject({
    status: 'failed',
    details: { exitCode: 127 },
    error: { name: 'CommandNotFoundError', message },
  });
});

it('a program that cannot be executed is said on record', async () => {
  const cwd = await scratch();
  await writeFile(join(cwd, 'script'), 'exit 0\n');
  await mkdir(join(cwd, 'folder'));
  for (const program of ['./script', './folder', '/']) {
    expect(await endOf([program], { cwd })).toMatchObject({
      status: 'failed',
      details: { exitCode: 126 },
      error: {
        name: 'CommandNotExecutableError',
        message: `${JSON.stringify(program)} is there, and cannot be executed`,
      },
    });
  }
});

it('the PATH of the task decides, not that of the host', async () => {
  const folder = await scratch();
  await writeFile(join(folder, 'holdfast-own'), '#!/bin/sh\nexit 127\n');
  await chmod(join(folder, 'holdfast-own'), 0o755);
  const env = { PATH: folder };
  expect(await endOf(['holdfast-own'], { env })).toMatchObject({ error: { name: 'ProcessExitError' } });
  expect(await endOf(['env'], { env })).toMatchObject({ error: { name: 'CommandNotFoundError' } });
});

it.each([
  [['sh', '-c', 'exit 127'], 127],
  [['sh', '-c', 'exit 126'], 126],
  [['env', 'holdfast-no-such-program'], 127],
  ['holdfast-no-such-program', 127],
])('%j exits with its own code, and is not called so', async (command, exitCode) => {
  expect(await endOf(command)).toMatchObject({
    details: { exitCode },
    error: { name: 'ProcessExitError', message: `exited with code ${exitCode}` },
  });
});
