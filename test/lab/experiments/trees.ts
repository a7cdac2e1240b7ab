/* Row 13: process trees grown at random: they fork, leave their group and session, pass themselves on, and ignore signals. Nothing of them may survive a stop. */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { BackgroundTaskManager } from 'holdfast';
import { filesOf } from '../aftermath.js';
import { readDisk } from '../checker.js';
import { Host } from '../host.js';
import { type Experiment, range, type Trial } from '../lab.js';
import { isAlive, isStopped, isWriting, killHard, withArgument } from '../processes.js';
import type { Random } from '../random.js';
import { until } from '../until.js';
import type { Step } from '../workload.js';

const CEILING_BYTES = 100_000;

export const trees: Experiment = {
  row: 13,
  what: 'a tree that forks, daemonises or ignores signals: a survivor of its stop',
  unavailable: () => (existsSync('/proc/self/environ') ? undefined : 'needs /proc'),
  async run(lab) {
    // One of each sort is begun at once, however little time there is.
    const round = [
      hostInside,
      tasksInside,
      closedWhileFrozen,
      ...range(lab.size({ quick: 24, full: 10 })).map(() => oneTree),
    ];
    await lab.trials(
      range(lab.size({ quick: 1, full: 40 })).flatMap(() => round),
      (trial, work) => work(trial),
      { parallel: 4 },
    );
  },
};

/** A host that one of its own tasks started stops that task: the rest of it ends, and the host and who is around it live. */
async function hostInside(trial: Trial): Promise<void> {
  const { directory } = trial;
  const mark = newMark();
  const inner = { directory, begun: trial.beside('begun'), told: trial.beside('told') };
  const command = `${leaf(mark)} & ${hostCommand(trial, 'inside.mjs', inner)}; :`;
  const steps: Step[] = [{ do: 'process', id: 'around', command, hooks: [] }];
  const plan = { ...filesOf(trial), steps, afterwards: 'stay', options: { fsync: false } };
  await using first = new Host({ sandbox: trial.sandbox, script: 'player.mjs', plan });
  await until(() => existsSync(inner.begun) && leaves(mark) > 0, 'the inner host to begin');
  first.child.kill('SIGKILL');
  await first.ended;
  const pid = Number(readFileSync(inner.begun, 'utf8'));
  await until(() => existsSync(inner.told) || !isAlive(pid), 'the inner host to end or to tell');
  const told = existsSync(inner.told) ? readFileSync(inner.told, 'utf8') : 'nothing, for it died';
  trial.check(told === 'killed', `a host stopped the task that it runs in, and told ${told}`);
  // The shell around the host has the mark in its command line, and rightly lives.
  trial.check(leaves(mark) === 0, 'a survivor of a stop from the inside');
}

/** A task runs a host, which runs tasks: a stop of the outer one reaches them all. */
async function tasksInside(trial: Trial): Promise<void> {
  const mark = newMark();
  const steps: Step[] = [{ do: 'process', id: 'inner', command: leaf(mark), hooks: [] }];
  const files = {
    directory: trial.beside('inner'),
    acknowledged: trial.beside('said'),
    launched: trial.beside('began'),
  };
  const afterwards = trial.random.pick(['stay', 'die']);
  const command = hostCommand(trial, 'player.mjs', { ...files, steps, afterwards, options: { fsync: false } });
  await using manager = await BackgroundTaskManager.open({ directory: trial.directory, fsync: false, stopGraceMs: 50 });
  const outer = `${command}; sleep 600`;
  const { taskId } = await manager.registerTask({ kind: 'process', description: 'a host', command: outer });
  await until(() => leaves(mark) > 0, 'the inner task to run');
  await manager.stopTask(taskId);
  const survivors = await survivorsOf(mark);
  trial.check(survivors.length === 0, `${survivors.length} survivors of a task inside a task`);
  for (const pid of survivors) killHard(pid);
}

/**
 * A host adopts a writer, whose file was taken away from its path or not, and closes about when it stops it at its ceiling: nobody stands still
 * without a stop on record, and the next host ends what is left to be ended.
 */
async function closedWhileFrozen(trial: Trial): Promise<void> {
  const { directory, index } = trial;
  const mark = newMark();
  const begin = trial.beside('begin');
  const writer = `while ! [ -e ${begin} ]; do sleep 0.01; done; ulimit -f 2097152; while :; do printf %64s; done`;
  const command = ['/bin/sh', '-c', writer, mark];
  const spec = {
    kind: 'process',
    taskId: 'writer',
    description: 'work',
    command,
    maxOutputBytes: CEILING_BYTES,
  } as const;
  {
    await using first = await BackgroundTaskManager.open({ directory, fsync: false });
    await first.registerTask(spec);
  }
  if (index % 2 === 0) rmSync(join(directory, 'writer', 'output.log'));
  await closeWhenBeyond(trial, mark, begin);
  await using last = await BackgroundTaskManager.open({ directory, fsync: false, stopGraceMs: 50 });
  const ended = await last.waitForTask('writer', { timeoutMs: 10_000 });
  trial.check(ended.stop?.cause === 'output_limit', `beyond its ceiling, and ${ended.status}`);
  const survivors = await survivorsOf(mark);
  trial.check(survivors.length === 0, `${survivors.length} survivors of the ceiling`);
  for (const one of survivors) killHard(one);
}

async function closeWhenBeyond(trial: Trial, mark: string, begin: string): Promise<void> {
  await using second = await BackgroundTaskManager.open({ directory: trial.directory, fsync: false });
  writeFileSync(begin, '');
  let writers: number[] = [];
  await until(() => {
    writers = withArgument(`\0${mark}\0`).filter((one) => isWriting(one, CEILING_BYTES));
    return writers.length > 0;
  }, 'somebody beyond the ceiling');
  await pause(trial.random.int(0, 15));
  await second.close();
  const { stop } = readDisk(trial.directory).records.get('writer') ?? {};
  trial.check(
    stop !== undefined || !writers.some(isStopped),
    'a closed host left a tree that stands still, and no stop on record',
  );
}

/** A shell command that runs a script of hosts/ with this plan. */
function hostCommand(trial: Trial, script: string, plan: object): string {
  const path = trial.beside(`plan-${script}.json`);
  writeFileSync(path, JSON.stringify(plan));
  return `LAB_PLAN=${path} ${process.execPath} ${fileURLToPath(new URL(`../hosts/${script}`, import.meta.url))}`;
}

async function oneTree(trial: Trial): Promise<void> {
  const { random, directory } = trial;
  // In the command line of every process of the tree, so that the process table can be asked for it.
  const mark = newMark();
  const { line: branches, size } = grow(random, mark, 3);
  const line = random.chance(0.4) ? `${hopper(mark, random.int(0, 20), directory)} & ${branches}` : branches;
  await using manager = await BackgroundTaskManager.open({
    directory,
    fsync: false,
    stopGraceMs: random.pick([0, 50, 300]),
  });
  const command = random.chance(0.5)
    ? `${line} ${leaf(mark)}`
    : ['/bin/sh', '-c', `${line} ${leaf(mark)}`, `${mark}-root`];
  const { taskId } = await manager.registerTask({ kind: 'process', description: 'a tree', command });
  // Some are stopped while they grow.
  const grown = random.chance(0.7) ? size + 1 : 1;
  await until(() => leaves(mark) >= grown, `${grown} of the tree to be there`);
  const task = await manager.stopTask(taskId);
  const survivors = await survivorsOf(mark);
  trial.check(survivors.length === 0, `${survivors.length} survivors of: ${line}`);
  for (const pid of survivors) killHard(pid);
  trial.check(task.status === 'killed', `stopped, and ${task.status}`);
}

const newMark = () => `lab-${randomBytes(8).toString('hex')}`;

/** A process that stays, with the mark as its name. */
const leaf = (mark: string) => `sh -c 'while :; do sleep 600; done' ${mark}`;

const leaves = (mark: string) => withArgument(`\0${mark}\0`).length;

/** Somebody who is never there for long: each leaves a child in a session of its own, and ends. Should it survive, it ends with the sandbox. */
function hopper(mark: string, lifeMs: number, directory: string): string {
  const script = `'sleep ${lifeMs / 1000}; [ -d ${directory} ] && setsid sh -c "$0" "$0" "$1" &'`;
  return `sh -c ${script} ${script} ${mark}-hopper`;
}

/** Looks more than once: who is just being replaced by its child may be missed by one look. */
async function survivorsOf(mark: string): Promise<number[]> {
  for (let look = 0; look < 3; look++) {
    const found = withArgument(mark);
    if (found.length > 0) return found;
    await pause(3);
  }
  return [];
}

/** A line of shell that leaves `size` processes behind. */
function grow(random: Random, mark: string, depth: number): { line: string; size: number } {
  const branches = range(random.int(1, 3)).map(() => branch(random, mark, depth));
  return {
    line: branches.map(({ line }) => `${line} &`).join(' '),
    size: branches.reduce((sum, { size }) => sum + size, 0),
  };
}

function branch(random: Random, mark: string, depth: number): { line: string; size: number } {
  const inner = depth > 0 && random.chance(0.4) ? grow(random, mark, depth - 1) : undefined;
  const deaf = random.chance(0.3) ? `trap '' TERM HUP INT; ` : '';
  const body = `${deaf}${inner ? `${inner.line} ` : ''}${leaf(mark)}`;
  const quoted = `'${body.replaceAll("'", `'\\''`)}'`;
  const wrapper = random.pick([
    (line: string) => `sh -c ${line} ${mark}-branch`,
    (line: string) => `setsid sh -c ${line} ${mark}-session`,
    (line: string) => `nohup sh -c ${line} ${mark}-nohup >/dev/null 2>&1`,
    (line: string) => `timeout 600 sh -c ${line} ${mark}-group`,
    // The classic daemon: its parent is gone, its session is new, its output is closed.
    (line: string) => `(setsid sh -c ${line} ${mark}-daemon </dev/null >/dev/null 2>&1 &)`,
  ]);
  return { line: wrapper(quoted), size: 1 + (inner?.size ?? 0) };
}
