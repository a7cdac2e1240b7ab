/*
 * npm run bench: how fast it is, as ratios within one run, so that a slow or busy machine does not change what they say. Prints a table.
 */
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { BackgroundTaskManager } from 'holdfast';
import { compare, fill } from './compare.js';

interface Row {
  readonly what: string;
  readonly figure: string;
}

const rows: Row[] = [];
const report = (what: string, figure: string) => rows.push({ what, figure });

async function timed(work: () => unknown): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

/** The middle one of several measurements. */
async function median(times: number, measure: () => Promise<number>): Promise<number> {
  const values: number[] = [];
  for (let n = 0; n < times; n++) values.push(await measure());
  return values.sort((a, b) => a - b)[Math.floor(times / 2)] ?? Number.NaN;
}

async function inFolder<T>(work: (directory: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-bench-'));
  try {
    return await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** The same command, writing to a file by itself and as a task. */
async function outputSpeed(): Promise<void> {
  await inFolder(async (directory) => {
    const manager = await BackgroundTaskManager.open({ directory });
    const command = 'head -c 1000000000 /dev/zero';
    const alone = await median(5, () =>
      timed(() => execFileSync('/bin/sh', ['-c', `${command} >"${directory}/alone"`])),
    );
    const asTask = await median(5, () =>
      timed(async () => {
        const { taskId } = await manager.registerTask({ kind: 'process', description: 'work', command });
        await manager.waitForTask(taskId);
        await manager.pruneTasks();
      }),
    );
    await manager.close();
    report(
      '1 GB of output as a task, over the same command writing to a file by itself',
      `${(asTask / alone).toFixed(2)} × the time`,
    );
  });
}

/** One process as a task, with its records on disk, over a bare spawn of the same command. */
async function launchCost(): Promise<void> {
  await inFolder(async (directory) => {
    const durable = await BackgroundTaskManager.open({ directory: join(directory, 'a') });
    const fast = await BackgroundTaskManager.open({ directory: join(directory, 'b'), fsync: false });
    const run = (manager: BackgroundTaskManager) => async () => {
      const { taskId } = await manager.registerTask({ kind: 'process', description: 'work', command: ['true'] });
      await manager.waitForTask(taskId);
    };
    const bare = await median(50, () => timed(() => execFileSync('/bin/sh', ['-c', 'true'])));
    for (const [name, manager] of [
      ['', durable],
      [' without fsync', fast],
    ] as const) {
      const task = await median(50, () => timed(run(manager)));
      report(
        `register, run and settle \`true\`${name}, over a bare spawn of a shell`,
        `${(task / bare).toFixed(1)} × the time (${task.toFixed(1)} ms)`,
      );
    }
    await durable.close();
    await fast.close();
  });
}

/** Opening many records, the longest the event loop stood still meanwhile, and what a pass over one running task costs beside them. */
async function manyRecords(): Promise<void> {
  await inFolder(async (directory) => {
    const [few, many] = [join(directory, 'few'), join(directory, 'many')];
    await fill(few, 1_000);
    await fill(many, 50_000);
    const loop = monitorEventLoopDelay({ resolution: 1 });
    const pass: number[] = [];
    const times: number[] = [];
    for (const folder of [few, many]) {
      let manager!: BackgroundTaskManager;
      loop.reset();
      loop.enable();
      times.push(
        await timed(async () => (manager = await BackgroundTaskManager.open({ directory: folder, fsync: false }))),
      );
      loop.disable();
      await manager.registerTask({ kind: 'process', description: 'work', command: 'sleep 60' });
      pass.push(await median(51, () => timed(() => manager.reconcile())));
      await manager.close({ tasks: 'stop', graceMs: 0 });
    }
    report(
      'open 50,000 records',
      `${(times[1]! / 1000).toFixed(2)} s, ${((times[1]! / times[0]!) as number).toFixed(0)} × the time of 1,000`,
    );
    report(
      'event loop at a standstill while it does, at most (p99)',
      `${(loop.max / 1e6).toFixed(0)} ms (${(loop.percentile(99) / 1e6).toFixed(0)} ms)`,
    );
    report(
      'a reconcile of one running task beside 50,000 ended ones, over one beside 1,000',
      `${(pass[1]! / pass[0]!).toFixed(2)} × the time`,
    );
  });
}

/** By how much \`yes\`, which writes as fast as it can, gets beyond its ceiling. */
async function overshoot(): Promise<void> {
  await inFolder(async (directory) => {
    const manager = await BackgroundTaskManager.open({ directory });
    for (const maxOutputBytes of [1_000_000, 1_000_000_000]) {
      const worst: number[] = [];
      for (let n = 0; n < 5; n++) {
        const { taskId } = await manager.registerTask({
          kind: 'process',
          description: 'work',
          command: 'yes',
          maxOutputBytes,
        });
        await manager.waitForTask(taskId);
        worst.push((await stat(join(directory, taskId, 'output.log'))).size - maxOutputBytes);
        await manager.pruneTasks();
      }
      report(
        `\`yes\` beyond a ceiling of ${maxOutputBytes / 1e6} MB, at most of 5`,
        `${(Math.max(...worst) / 1e6).toFixed(0)} MB`,
      );
    }
    await manager.close();
  });
}

const { against } = parseArgs({ options: { against: { type: 'string' } } }).values;
if (against !== undefined) await compare(against);
else {
  await outputSpeed();
  await launchCost();
  await manyRecords();
  await overshoot();
  const width = Math.max(...rows.map(({ what }) => what.length));
  for (const { what, figure } of rows) console.log(`| ${what.padEnd(width)} | ${figure} |`);
}
