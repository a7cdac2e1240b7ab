/*
 * A host comes back to a directory with work of every sort, and one file system call of its `open` fails. An `open` that is refused leaves
 * nothing behind: no owner, no timer, nothing signalled, no record changed for the worse. One that succeeds all the same has judged right,
 * or does so at the next pass. By default a sample; HOLDFAST_FAULTS=all tries every call.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock.js';
import type { BackgroundTaskManager } from '../../src/index.js';
import { openWith } from '../../src/manager.js';
import { installFaults, killAllAfterwards, lives, slotsAddUp, within } from '../helpers/faults.js';
import { startHost } from '../helpers/host.js';
import { heldClaims } from '../helpers/store.js';
import { tempDirectory, until } from '../helpers/wait.js';

const everything = process.env.HOLDFAST_FAULTS === 'all';
const codes = (process.env.HOLDFAST_FAULT_CODES ?? 'EIO').split(',');
const stride = everything ? 1 : Number(process.env.HOLDFAST_FAULT_STRIDE ?? 29);

let restore: (() => void) | undefined;
afterEach(() => {
  restore?.();
  restore = undefined;
});

/** What a killed host left: `runs` and `doomed` live (the second with a stop that its owner had begun), `ended` did meanwhile. */
async function deserted(directory: string): Promise<{ runs: number; doomed: number }> {
  const host = startHost(
    `const manager = await BackgroundTaskManager.open({ directory, fsync: false, whenFull: 'queue', maxRunningTasks: 4 });
     await manager.registerTask({ kind: 'process', taskId: 'runs', description: 'work', command: 'exec sleep 600' });
     await manager.registerTask({ kind: 'process', taskId: 'doomed', description: 'work', command: 'trap "" TERM; echo ready; while :; do sleep 600; done' });
     await manager.registerTask({ kind: 'process', taskId: 'ended', description: 'work', command: 'until [ -e "' + directory + '/.gate" ]; do sleep 0.02; done; exit 7' });
     await manager.registerTask({ kind: 'function', taskId: 'inside', description: 'work', run: () => new Promise(() => {}) });
     await manager.registerTask({ kind: 'process', taskId: 'queued', description: 'work', command: 'true' });
     while (!(await manager.readOutput('doomed')).size) await new Promise((resolve) => setTimeout(resolve, 5));
     manager.on('task:stopping', () => say(['runs', 'doomed', 'ended'].map((id) => manager.getTask(id).details.pid)));
     manager.stopTask('doomed', { reason: 'enough', graceMs: 600000 });`,
    directory,
  );
  const [runs, doomed, ended] = await host.next();
  await host.kill();
  writeFileSync(join(directory, '.gate'), '');
  await until(() => !lives(ended));
  return { runs, doomed };
}

const byId = (manager: BackgroundTaskManager<any>) =>
  Object.fromEntries(manager.listTasks().map((task) => [task.taskId, task]));

/** What was queued is launched once the directory is open: it runs, or a disk that still refuses is why it could not be launched. */
const hasEnded = (manager: BackgroundTaskManager<any>, taskId: string) => {
  const task = manager.getTask(taskId);
  return task?.status === 'completed' || (task?.status === 'failed' && codes.includes(task.error?.code ?? ''));
};

function expectJudged(manager: BackgroundTaskManager<any>, at: string): void {
  expect(byId(manager), at).toMatchObject({
    runs: { status: 'running', owner: { instanceId: manager.status().owner.instanceId } },
    ended: { status: 'failed', details: { exitCode: 7 } },
    inside: { status: 'lost' },
    queued: { attempt: 1 },
  });
  expect(hasEnded(manager, 'queued'), at).toBe(true);
  const { used, running } = slotsAddUp(manager);
  expect(used, at).toBe(running);
}

async function reopenWithFault(code: string, position: number, howLong: string): Promise<boolean> {
  const directory = tempDirectory('holdfast-reopen-');
  killAllAfterwards(directory);
  const { runs, doomed } = await deserted(directory);
  const installed = await installFaults(directory);
  restore = installed.restore;
  installed.faults.arm(code, (index) => (howLong === 'once' ? index === position : index >= position));
  const options = { directory, fsync: true, reconcileIntervalMs: 20, stopGraceMs: 60_000 };
  const opened = await within('open', openWith(options, systemClock)).catch((error: unknown) => error as Error);
  const told: unknown[] = [];
  if (!(opened instanceof Error)) opened.on('error', ({ error }) => void told.push(error));
  if (howLong !== 'once') await new Promise((resolve) => setTimeout(resolve, 50));
  installed.faults.disarm();
  const { fired } = installed.faults;
  const at = `${code} ${howLong} at ${position}: ${fired[0]}`;
  // Whoever is refused has no business with the directory any more, now that the disk is well again.
  if (opened instanceof Error) {
    expect(opened, at).toMatchObject({ code: 'STORAGE_FAILED' });
    const before = installed.faults.calls.length;
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(installed.faults.calls.slice(before), `${at}: goes on after the refusal`).toEqual([]);
    if (howLong === 'once') expect(heldClaims(directory).length, at).toBeLessThanOrEqual(1);
  }
  installed.restore();
  restore = undefined;
  expect([lives(runs), lives(doomed)], at).toEqual([true, true]);
  const manager =
    opened instanceof Error
      ? await within('second open', openWith({ ...options, stopGraceMs: 60_000 }, systemClock))
      : opened;
  await manager.reconcile();
  await until(() => manager.status().running === 2 && hasEnded(manager, 'queued'), {
    message: () => `${at}: ${JSON.stringify(byId(manager))}`,
  });
  expectJudged(manager, at);
  expect(byId(manager).doomed, at).toMatchObject({ status: 'running', stop: { cause: 'user', reason: 'enough' } });
  expect(await within('stop', manager.stopTask('doomed', { graceMs: 0 })), at).toMatchObject({ status: 'killed' });
  expect(lives(runs), at).toBe(true);
  await within('close', manager.close({ tasks: 'stop', graceMs: 1_000 }));
  return fired.length > 0;
}

it('an open whose first pass is refused leaves nothing behind that goes on', async () => {
  const directory = tempDirectory('holdfast-reopen-');
  killAllAfterwards(directory);
  const { runs } = await deserted(directory);
  const installed = await installFaults(directory);
  restore = installed.restore;
  let isLoading = false;
  installed.faults.arm('EIO', (_, name) => {
    isLoading ||= name === 'opendirSync';
    return isLoading && name === 'readdir';
  });
  const options = { directory, reconcileIntervalMs: 5 };
  await expect(openWith(options, systemClock)).rejects.toMatchObject({
    code: 'STORAGE_FAILED',
    cause: { code: 'EIO' },
  });
  installed.faults.disarm();
  const before = installed.faults.calls.length;
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(installed.faults.calls.slice(before)).toEqual([]);
  const manager = await openWith(options, systemClock);
  await until(() => hasEnded(manager, 'queued'));
  expectJudged(manager, 'afterwards');
  await manager.close({ tasks: 'stop', graceMs: 0 });
  expect(lives(runs)).toBe(false);
});

describe.each(codes)('%s at a call of open', (code) => {
  it.each(['once', 'for ever'])('%s', { timeout: 1_800_000 }, async (howLong) => {
    let position = howLong === 'once' ? 0 : 5;
    while (await reopenWithFault(code, position, howLong)) position += stride;
    expect(position).toBeGreaterThan(50);
  });
});
