/* Row 13: process trees grown at random: they fork, leave their group and session, pass themselves on, and ignore signals. Nothing of them may survive a stop. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { BackgroundTaskManager } from 'holdfast';
import { type Experiment, range, type Trial } from '../lab.js';
import { killHard, withArgument } from '../processes.js';
import type { Random } from '../random.js';
import { until } from '../until.js';

export const trees: Experiment = {
  row: 13,
  what: 'a tree that forks, daemonises or ignores signals: a survivor of its stop',
  unavailable: () => (existsSync('/proc/self/environ') ? undefined : 'needs /proc'),
  async run(lab) {
    await lab.trials(range(lab.size({ quick: 24, full: 400 })), oneTree, { parallel: 4 });
  },
};

async function oneTree(trial: Trial): Promise<void> {
  const { random, directory } = trial;
  // In the command line of every process of the tree, so that the process table can be asked for it.
  const mark = `lab-${randomBytes(8).toString('hex')}`;
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
