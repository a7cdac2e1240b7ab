/* Rows 9 and 12: who owns a directory. Owners are killed, stopped and told the wrong time; others try to take their place all the while. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { readTasks } from 'holdfast';
import { readDisk } from '../checker.js';
import { Host } from '../host.js';
import { type Experiment, range, type Trial } from '../lab.js';
import { childrenOf, supervisors } from '../processes.js';
import { until } from '../until.js';

const CONTENDERS = 6;
const ROUNDS = 10;
const HOUR_MS = 3_600_000;
const JUMPS = [0, 0, HOUR_MS, -HOUR_MS];
/** As impatient as a host can be: it would rob an owner that it knows nothing of. */
const IMPATIENT = { foreignOwnerTimeoutMs: 200 };

interface Contender {
  readonly host: Host;
  /** As it knows itself: in a namespace of its own that is another number than ours. */
  readonly pid: number;
  /** As we know it. */
  readonly ourPid: number;
}

async function contender(trial: Trial, wrapper?: readonly string[]): Promise<Contender> {
  const host = new Host({ sandbox: trial.sandbox, script: 'contender.mjs', plan: {}, wrapper });
  const { ready } = await host.next();
  const own = host.child.pid!;
  return { host, pid: ready, ourPid: wrapper ? childrenOf(own)[0]! : own };
}

async function ask({ host }: Contender, order: string, more: object = {}): Promise<any> {
  host.tell({ order, ...more });
  return host.next();
}

/** Nothing where it dies before it answers. */
function askMortal({ host }: Contender, order: string, more: object): Promise<any> {
  host.tell({ order, ...more });
  return host.nextIfAny();
}

const opening = (trial: Trial) => ({ directory: trial.directory, options: IMPATIENT });
const open = (one: Contender, trial: Trial) => ask(one, 'open', opening(trial));

export const ownershipRaces: Experiment = {
  row: 9,
  what: 'a race for the directory of an owner that was killed, stopped or gave up: not exactly one owner',
  budgetMs: { quick: 5_000, full: 180_000 },
  async run(lab) {
    await lab.trials(range(lab.size({ quick: 6, full: 50 })), raceForOwnership, { parallel: 1 });
  },
};

async function raceForOwnership(trial: Trial): Promise<number> {
  const { random } = trial;
  const contenders = await Promise.all(range(CONTENDERS).map(() => contender(trial)));
  let rounds = 0;
  for (const round of trial.lab.rounds(ROUNDS)) {
    rounds++;
    for (const one of contenders) if (random.chance(0.3)) await ask(one, 'clock', { by: random.pick(JUMPS) });
    const winner = await raceOnce(trial, contenders, `round ${round}`);
    if (!winner) continue;
    const others = contenders.filter((one) => one !== winner);
    if (random.chance(0.5)) await challenge(trial, winner, others, `round ${round}`);
    if (random.chance(0.3)) await ask(winner, 'close');
    else {
      await winner.host.kill();
      contenders[contenders.indexOf(winner)] = await contender(trial);
    }
  }
  await Promise.all(contenders.map(({ host }) => host.kill()));
  return rounds;
}

/**
 * All at once. One of them may be stopped in the middle of it and only goes on when the others are done; one may be killed. Answers the
 * owner: nobody, where that was the one who died.
 */
async function raceOnce(trial: Trial, contenders: Contender[], where: string): Promise<Contender | undefined> {
  const { random } = trial;
  const [slow, mortal] = random.shuffle(contenders);
  const answers = new Map(contenders.map((one) => [one, askMortal(one, 'open', opening(trial))]));
  const stopped = random.chance(0.5) ? slow : undefined;
  const killed = random.chance(0.4) ? mortal : undefined;
  await pause(random.int(0, 8));
  stopped?.host.signal('SIGSTOP');
  await pause(random.int(0, 8));
  await killed?.host.kill();
  await Promise.all([...answers].filter(([one]) => one !== stopped).map(([, answer]) => answer));
  stopped?.host.signal('SIGCONT');
  const winners: Contender[] = [];
  for (const [one, answer] of answers) {
    const { won, refused, message } = (await answer) ?? { refused: 'DIRECTORY_OWNED' };
    if (won && one !== killed) winners.push(one);
    else if (!won) trial.check(refused === 'DIRECTORY_OWNED', `${where}: refused with ${refused}: ${message}`);
  }
  trial.check(winners.length <= 1, `${where}: ${winners.length} owners`);
  const claimed = latestClaim(trial.directory);
  const owner = winners[0] ?? killed;
  trial.check(claimed === owner?.pid, `${where}: the latest claim is of ${claimed}, the owner is ${owner?.pid}`);
  const living = contenders.filter((one) => one !== killed);
  for (const one of living) {
    const { wrote, refused } = await ask(one, 'write');
    trial.check(
      (wrote === true) === (one === winners[0]),
      `${where}: ${wrote ? 'wrote' : refused}, ${winners.length} owners`,
    );
  }
  if (killed) contenders[contenders.indexOf(killed)] = await contender(trial);
  return winners[0];
}

/** Whose pid the highest epoch names. */
function latestClaim(directory: string): number | undefined {
  const folder = join(directory, '.owner');
  const epochs = readdirSync(folder).flatMap((name) => /^epoch-(\d+)$/.exec(name)?.[1] ?? []);
  const latest = Math.max(...epochs.map(Number));
  return epochs.length === 0 ? undefined : JSON.parse(readFileSync(join(folder, `epoch-${latest}`), 'utf8')).pid;
}

/** The owner is stopped, and the clocks of the others are wrong: nobody may take its place, and it goes on as if nothing had been. */
async function challenge(trial: Trial, owner: Contender, others: readonly Contender[], where: string): Promise<void> {
  owner.host.signal('SIGSTOP');
  for (const other of others.slice(0, 2)) {
    await ask(other, 'clock', { by: trial.random.pick(JUMPS) });
    const answer = await open(other, trial);
    trial.check(
      answer.refused === 'DIRECTORY_OWNED' && answer.owner === owner.pid,
      `${where}: a stopped owner was robbed: ${JSON.stringify(answer)}`,
    );
  }
  owner.host.signal('SIGCONT');
  const { wrote, refused } = await ask(owner, 'write');
  trial.check(wrote === true, `${where}: the owner that was stopped cannot write: ${refused}`);
}

const NAMESPACE = ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child'];
const hasNamespaces = () => spawnSync(NAMESPACE[0]!, [...NAMESPACE.slice(1), 'true']).status === 0;

export const falselyLost: Experiment = {
  row: 12,
  what: 'a stopped, suspended or clock-jumped owner: its work called lost, or its place taken',
  async run(lab) {
    const namespaces = hasNamespaces();
    if (!namespaces) lab.note('without pid namespaces: not possible here');
    await lab.trials(range(lab.size({ quick: 8, full: 120 })), (trial) => suspendOwner(trial, namespaces));
  },
};

async function suspendOwner(trial: Trial, namespaces: boolean): Promise<void> {
  const { random, directory } = trial;
  // Owner and challenger see each other's processes, or only one does, or neither.
  const place = () => (namespaces && random.chance(0.4) ? NAMESPACE : undefined);
  const owner = await contender(trial, place());
  const challenger = await contender(trial, place());
  await open(owner, trial);
  await ask(owner, 'work', { prefix: 'a', ms: 300 });
  for (const turn of range(random.int(1, 3))) {
    await ask(owner, 'clock', { by: random.pick(JUMPS) });
    process.kill(owner.ourPid, 'SIGSTOP');
    const answer = await open(challenger, trial);
    trial.check(
      answer.refused === 'DIRECTORY_OWNED',
      `turn ${turn}: a stopped owner was robbed: ${JSON.stringify(answer)}`,
    );
    noneLost(trial, (await readTasks(directory)).tasks, `turn ${turn}, while it was stopped`);
    await pause(random.int(0, 200));
    process.kill(owner.ourPid, 'SIGCONT');
    await ask(owner, 'clock', { by: random.pick(JUMPS) });
  }
  const outcome = await ask(owner, 'outcome');
  const statuses = Object.fromEntries((outcome.tasks ?? []).map(({ taskId, status }: any) => [taskId, status]));
  trial.check(outcome.idle && outcome.heard.length === 0, `the owner: ${JSON.stringify(outcome)}`);
  trial.check(
    statuses['a-function'] === 'completed' && statuses['a-process'] === 'failed',
    `the outcome: ${JSON.stringify(statuses)}`,
  );
  const disk = readDisk(directory);
  trial.violations('on disk', disk.problems);
  noneLost(trial, disk.records.values(), 'at the end');
  await ask(owner, 'close');
  await Promise.all([owner.host.kill(), challenger.host.kill()]);
  await until(() => supervisors(directory).length === 0, 'no supervisor is left', 10_000);
}

function noneLost(
  trial: Trial,
  tasks: Iterable<{ readonly taskId?: string; readonly status?: string }>,
  when: string,
): void {
  for (const { taskId, status } of tasks) trial.check(status !== 'lost', `${taskId} is lost, ${when}`);
}
