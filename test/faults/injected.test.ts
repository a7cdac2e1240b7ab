/*
 * One scripted life of a host, once for every file system call it makes below its directory: that call fails, once or from then on for ever.
 * Whatever fails: nothing hangs, nothing is an unhandled rejection, slots add up, events tell only what is on disk, and the next host
 * finds every acknowledged task in a legal state.
 *
 * By default a sample; HOLDFAST_FAULTS=all tries every call with every code (some minutes).
 */
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock.js';
import { BackgroundTaskError, type BackgroundTaskManager, type Task } from '../../src/index.js';
import { openWith } from '../../src/manager.js';
import {
  installFaults,
  killAllAfterwards,
  onDisk,
  processesWith,
  realFs,
  slotsAddUp,
  within,
} from '../helpers/faults.js';
import { supervisors } from '../helpers/host.js';
import { deferred } from '../helpers/manager.js';
import type { Faults } from '../helpers/store-faults.js';
import { tempDirectory, until } from '../helpers/wait.js';

const everything = process.env.HOLDFAST_FAULTS === 'all';
const codes = (process.env.HOLDFAST_FAULT_CODES ?? 'ENOSPC,EIO,EMFILE,EACCES,EROFS').split(',');
const stride = everything ? 1 : Number(process.env.HOLDFAST_FAULT_STRIDE ?? 29);
const verbose = process.env.HOLDFAST_FAULTS_VERBOSE !== undefined;

type HowLong = 'once' | 'for ever';

const unhandled: unknown[] = [];
const onUnhandled = (reason: unknown) => void unhandled.push(reason);
beforeEach(() => {
  process.on('unhandledRejection', onUnhandled);
});
let restore: (() => void) | undefined;
afterEach(() => {
  restore?.();
  restore = undefined;
  process.off('unhandledRejection', onUnhandled);
});

/** What the host was told in one life. */
interface Life {
  /** Registered and never removed, as the host knows. */
  readonly acknowledged: Set<string>;
  /** Their removal was asked for: they may be there or not. */
  readonly doomed: Set<string>;
  /** The last task that a call resolved with, by id. */
  readonly last: Map<string, Task>;
  /** What calls rejected with, and what `error` said. */
  readonly told: Error[];
  /** Settled events by id. */
  readonly settled: Map<string, number>;
  readonly wrongs: string[];
}

async function attempt<T>(life: Life, what: string, work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await within(what, work());
  } catch (error) {
    if (!(error instanceof BackgroundTaskError)) life.wrongs.push(`${what}: ${(error as Error).stack}`);
    life.told.push(error as Error);
    return undefined;
  }
}

function listen(life: Life, manager: BackgroundTaskManager, directory: string): void {
  manager.on('*', (event, payload) => {
    if (event === 'error') life.told.push(payload.error);
    if (event === 'manager:reconciled') life.told.push(...payload.report.failures.map(({ error }) => error));
    if (!('task' in payload) || event === 'task:progress') return;
    const { task } = payload;
    const record = onDisk(directory, task.taskId);
    for (const key of ['status', 'detached', 'endedAt', 'attempt'] as const) {
      if (record?.[key] !== task[key])
        life.wrongs.push(`${event} ${task.taskId}: ${key} ${task[key]}, on disk ${record?.[key]}`);
    }
    if (event === 'task:stopping' && !record?.stop) life.wrongs.push(`${event} ${task.taskId}: no stop on disk`);
    if (event === 'task:settled') life.settled.set(task.taskId, (life.settled.get(task.taskId) ?? 0) + 1);
  });
}

/** Registers, works, reports, updates, detaches, stops, settles, prunes. Every step goes on whatever the one before came to. */
async function live(life: Life, manager: BackgroundTaskManager, directory: string): Promise<void> {
  const register = async (taskId: string, spec: object) => {
    const task = await attempt(life, `register ${taskId}`, () =>
      manager.registerTask({ taskId, description: taskId, ...spec } as never),
    );
    if (task) life.acknowledged.add(taskId);
    return task as Task | undefined;
  };
  const balanced = (where: string) => {
    const { used, running } = slotsAddUp(manager);
    if (used !== running) life.wrongs.push(`after ${where}: ${used} slots used, ${running} running`);
  };
  const gate = deferred();
  const working = deferred();
  await register('inside', {
    kind: 'function',
    run: async ({ appendOutput, reportProgress, updateDetails }: any) => {
      reportProgress({ current: 1 });
      await attempt(life, 'appendOutput', () => appendOutput('some output\n'));
      await attempt(life, 'updateDetails', () => updateDetails({ learnt: true }));
      working.resolve();
      await gate.promise;
      return { done: true };
    },
  });
  balanced('register inside');
  await register('long', { kind: 'process', command: 'exec sleep 600' });
  await register('quick', { kind: 'process', command: 'echo out; exit 3' });
  await register('front', { kind: 'process', command: 'exec sleep 600', detached: false });
  balanced('register processes');
  if (manager.getTask('inside')?.status === 'running') await within('working', working.promise);
  await attempt(life, 'update', () => manager.updateTask('long', { metadata: { seen: true } }));
  await attempt(life, 'detach', () => manager.detachTask('front'));
  balanced('detach');
  await until(() => !supervisors(directory).includes('quick'));
  await attempt(life, 'reconcile', () => manager.reconcile());
  gate.resolve();
  await attempt(life, 'reconcile', () => manager.reconcile());
  await attempt(life, 'output', () => manager.readOutput('quick'));
  balanced('settle');
  for (const taskId of ['long', 'front']) {
    if (!manager.getTask(taskId)) continue;
    const stopped = manager.stopTask(taskId, { reason: 'enough' });
    stopped.catch(() => undefined);
    // Whatever the disk says, the stop is carried out.
    await until(() => processesWith(`${directory}/.run/${taskId}`).length === 0, { message: `${taskId} to be gone` });
    const over = await Promise.race([attempt(life, `stop ${taskId}`, () => stopped), reconcileTwice(life, manager)]);
    if (over) life.last.set(taskId, over);
    balanced(`stop ${taskId}`);
  }
  for (const task of manager.listTasks({ includeForeground: true })) life.last.set(task.taskId, task);
  for (const taskId of ['long', 'front']) life.doomed.add(taskId);
  await attempt(life, 'prune', () => manager.pruneTasks({ filter: { kind: 'process', status: 'killed' } }));
  balanced('prune');
}

/** With a disk that refuses for ever a stop does not resolve: two passes are what it gets. */
async function reconcileTwice(life: Life, manager: BackgroundTaskManager): Promise<undefined> {
  for (let pass = 0; pass < 2; pass++) await attempt(life, 'reconcile', () => manager.reconcile());
  return undefined;
}

interface Came {
  readonly calls: number;
  readonly fired: readonly string[];
  readonly told: number;
  readonly where: string;
}

/** One life with one fault. */
async function lifeWithFault(code: string, position: number, howLong: HowLong): Promise<Came> {
  const root = tempDirectory('holdfast-faults-');
  killAllAfterwards(root);
  const directory = join(root, 'tasks');
  const installed = await installFaults(root);
  const faults: Faults = installed.faults;
  restore = installed.restore;
  let where = '';
  faults.arm(code, (index) => {
    const fails = howLong === 'once' ? index === position : index >= position;
    if (fails && !where) where = stackOf();
    return fails;
  });
  const life: Life = {
    acknowledged: new Set(),
    doomed: new Set(),
    last: new Map(),
    told: [],
    settled: new Map(),
    wrongs: [],
  };
  const options = { directory, fsync: true, reconcileIntervalMs: 0, maxRunningTasks: 8, stopGraceMs: 500 };
  const manager = await attempt(life, 'open', () => openWith(options, systemClock));
  if (manager) {
    listen(life, manager as never, directory);
    await live(life, manager as never, directory);
    await attempt(life, 'close', () => manager.close());
  }
  faults.disarm();
  installed.restore();
  restore = undefined;
  const at = `${code} ${howLong} at ${position}: ${faults.fired[0]} ${where}`;
  expect(life.wrongs, at).toEqual([]);
  await afterwards(life, directory, at);
  await new Promise(setImmediate);
  expect(unhandled.splice(0), at).toEqual([]);
  return { calls: faults.calls.length, fired: faults.fired, told: life.told.length, where };
}

/** The frames in our own code. */
function stackOf(): string {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 30;
  const { stack = '' } = new Error();
  Error.stackTraceLimit = limit;
  const frames = stack
    .split('\n')
    .filter((line) => line.includes('/src/') || /node_modules\/(?:write-file|proper)/.test(line));
  return frames
    .slice(0, 3)
    .map((line) => line.trim().replace(/.*\/(src|node_modules)\//, '$1/'))
    .join(' < ');
}

async function afterwards(life: Life, directory: string, at: string): Promise<void> {
  const exits = realFs.existsSync(`${directory}/.run`) ? realFs.readdirSync(`${directory}/.run`) : [];
  const next = await openWith({ directory, fsync: false, reconcileIntervalMs: 0, stopGraceMs: 500 }, systemClock);
  const heard: string[] = [];
  next.on('*', (event, payload) => void heard.push(`${event} ${JSON.stringify(payload)}`));
  await new Promise((resolve) => setTimeout(resolve, 0));
  const tasks = new Map(next.listTasks({ includeForeground: true }).map((task) => [task.taskId, task]));
  expect(
    heard.filter((line) => line.startsWith('record:rejected') || line.startsWith('error')),
    at,
  ).toEqual([]);
  for (const taskId of life.acknowledged) {
    const task = tasks.get(taskId);
    if (!task) expect(life.doomed, `${at}: ${taskId} is gone`).toContain(taskId);
    else expectLegal(task, life, exits.includes(`${taskId}.exit`), at);
  }
  for (const [taskId, times] of life.settled) expect(times, `${at}: settled ${taskId}`).toBe(1);
  // What was queued is being launched, and has its slot before its record says that it runs.
  await until(() => next.status().queued === 0, { message: () => `${at}: still queued` });
  expect(slotsAddUp(next), at).toMatchObject({ used: slotsAddUp(next).running });
  await next.registerTask({ kind: 'function', taskId: 'later', description: 'work', run: () => 1 });
  expect(await within('later', next.waitForTask('later')), at).toMatchObject({ status: 'completed' });
  await within('last close', next.close({ tasks: 'stop' }));
  expect(supervisors(directory), at).toEqual([]);
}

const legal: Readonly<Record<string, readonly string[]>> = {
  // The work is done, and told to nobody before it is on disk: so a host that could not write it leaves work that is gone.
  inside: ['completed', 'lost', 'killed'],
  // Without a stop on record: what the supervisor wrote down, or that it was stopped before it came to its first line.
  long: ['killed', 'failed', 'lost'],
  front: ['killed', 'failed', 'lost'],
  quick: ['failed'],
};

function expectLegal(task: Task, life: Life, hadExit: boolean, at: string): void {
  const text = `${at}: ${JSON.stringify(task)}`;
  if (hadExit) expect(task.status, text).not.toBe('lost');
  expect(legal[task.taskId], text).toContain(task.status);
  if (task.taskId === 'quick') expect(task, text).toMatchObject({ details: { exitCode: 3 } });
  if (task.status === 'failed' && task.taskId !== 'quick')
    expect(task, text).toMatchObject({ details: { exitCode: 143 } });
  if (task.status === 'completed') expect(task, text).toMatchObject({ result: { done: true } });
  const before = life.last.get(task.taskId);
  if (before && before.endedAt !== null)
    expect(task, text).toMatchObject({ status: before.status, endedAt: before.endedAt });
}

/**
 * Faults that come to nothing: the look at a file's old mode and the removal of a temporary file that is gone, a listing that is read again,
 * a release that removes its claim where it cannot rename it, a socket or draft that stays until the next owner sweeps it.
 */
const harmless =
  /(?:stat|unlink) node_modules\/write-file-atomic|src\/store\/listing\.ts|rename src\/store\/ownership\.ts|unlink src\/store\/(?:beacon|takeover)\.ts/;

describe.each(codes.map((code, index) => ({ code, index })))('$code', ({ code, index }) => {
  it.each(['once', 'for ever'] as const)('%s', { timeout: 1_800_000 }, async (howLong) => {
    const silent: string[] = [];
    let calls = Number.POSITIVE_INFINITY;
    // Each code begins elsewhere, so that a sample of all codes covers the positions evenly.
    const first = everything ? 0 : index * 2 + (howLong === 'once' ? 0 : 1);
    let position = first;
    let fired = 1;
    for (; fired > 0; position += stride * codes.length) {
      const came = await lifeWithFault(code, position, howLong);
      calls = came.calls;
      fired = came.fired.length;
      if (fired > 0 && came.told === 0) silent.push(`${position} ${came.fired[0]} ${came.where}`);
    }
    if (verbose) process.stderr.write(`${code} ${howLong}: ${calls} calls\nsilent:\n${silent.join('\n')}\n`);
    expect(calls).toBeGreaterThan(100);
    // A disk that refuses for ever is always told of. A fault that passes may be, but for what is tried again or does not matter.
    expect(howLong === 'once' ? silent.filter((text) => !harmless.test(text)) : silent).toEqual([]);
  });
});
