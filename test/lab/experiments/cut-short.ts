/* Row 20: launches that are cut short, also those of the host that takes up what another one's death left. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { checkRecovery } from '../aftermath.js';
import { readDisk } from '../checker.js';
import type { FsPlan } from '../host.js';
import { checkEnd } from '../killer.js';
import { type Experiment, type Lab, range, Trial } from '../lab.js';
import { isAlive, isAtRest, supervisors, withArgument } from '../processes.js';
import { Sandbox } from '../sandbox.js';
import { until } from '../until.js';
import type { Step } from '../workload.js';
import { EVERY_CALL, player } from './kills.js';

const TASKS = 3;

/** What a host is told: tasks that are launched at once, or that wait for each other. */
interface Script {
  readonly name: string;
  readonly steps: readonly Step[];
  readonly options: object;
}

const steps: readonly Step[] = [
  ...range(TASKS).map((n): Step => ({ do: 'process', id: `p${n}`, exit: n, ms: 5, hooks: [] })),
  { do: 'idle' },
];
const SCRIPTS: readonly Script[] = [
  { name: 'free slots', steps, options: {} },
  { name: 'a queue', steps, options: { maxRunningTasks: 1, whenFull: 'queue' } },
];
/** For the hosts after the first: what is left to do. */
const REST: readonly Step[] = [{ do: 'idle' }];

/** When a supervisor that came late goes on: so long after its host died, or once the next owner has its task. */
const LATE = [0, 50, 300, 'taken over', 'taken over', 'taken over'] as const;
/** So many calls a host makes, at the least, from the launch of a supervisor until its pid is on record. */
const BEFORE_ON_RECORD = 4;

/** How a script is cut short: where the first host dies, and the second. */
interface Cut {
  readonly script: Script;
  readonly first: number;
  /** Absent: the second host lives. */
  readonly second?: number | undefined;
  /** The launch whose supervisor stops before it does anything; then `first` counts from there. */
  readonly late?: number | undefined;
}

export const cutShort: Experiment = {
  row: 20,
  what: 'SIGKILL at each file-system call of registerTask, of a queue and of their recovery: accepted, and run never or twice',
  budgetMs: { quick: 5_000, ...EVERY_CALL },
  async run(lab) {
    const cuts: Cut[] = [];
    await lab.rehearse(async () => {
      cuts.push(...(await Promise.all(SCRIPTS.map((script) => everyCut(lab, script)))).flat());
    });
    // A quick lab begins with one that comes late: they are few.
    const shuffled = lab.random.shuffle(cuts);
    const latest = shuffled.findIndex((cut) => cut.late !== undefined);
    const chosen = [...shuffled.splice(latest, 1), ...shuffled].slice(0, lab.size({ quick: 20, full: cuts.length }));
    let late = 0;
    await lab.trials(chosen, async (trial, cut) => {
      const { kills, wasLate } = await dieTwice(trial, cut);
      if (wasLate) late++;
      return kills;
    });
    lab.note(`${chosen.length} of ${cuts.length} cuts, ${late} supervisors came late`);
  },
};

/** Every call of the first host, every other one followed by a call of the second; and every launch with a supervisor that comes late. */
async function everyCut(lab: Lab, script: Script): Promise<readonly Cut[]> {
  const changes = await countChanges(lab, script);
  const seconds = lab.random
    .fork(script.name)
    .shuffle(range(changes.second))
    .map((n) => n + 1);
  let turn = 0;
  const some = (count: number) => range(count).map(() => seconds[turn++ % seconds.length]!);
  const ofFirst = range(changes.first).map((n): Cut => {
    return { script, first: n + 1, second: n % 2 === 0 ? some(1)[0] : undefined };
  });
  const ofLate = range(TASKS * BEFORE_ON_RECORD).flatMap((n) =>
    [undefined, undefined, ...some(1)].map((second): Cut => {
      const [late, first] = [1 + (n % TASKS), 1 + Math.floor(n / TASKS)];
      return { script, late, first, second };
    }),
  );
  return [...ofFirst, ...ofLate];
}

const host = (trial: Trial, { options }: Script, steps: readonly Step[], fs: Omit<FsPlan, 'directory' | 'mode'>) =>
  player(trial, { steps, afterwards: 'close', options }, { fs: { directory: trial.directory, mode: 'kill', ...fs } });

/** How many changes a whole run makes, and one that takes up everything. */
async function countChanges(lab: Lab, script: Script): Promise<{ first: number; second: number }> {
  const count = async (trial: Trial, steps: readonly Step[]) => {
    await using counting = host(trial, script, steps, { at: Number.MAX_SAFE_INTEGER });
    let said = await counting.next();
    while (!said.closed) said = await counting.next();
    return said.calls as number;
  };
  await using whole = new Sandbox();
  await using rest = new Sandbox();
  const [first, second] = await Promise.all([
    count(new Trial(lab, -1, whole), script.steps),
    (async () => {
      const trial = new Trial(lab, -1, rest);
      const registering = script.steps.filter((step) => step.do === 'process');
      await using dying = player(trial, { steps: registering, afterwards: 'die', options: script.options });
      await dying.ended;
      return count(trial, REST);
    })(),
  ]);
  return { first, second };
}

/** Answers how many hosts were killed, and whether a supervisor came late. */
async function dieTwice(trial: Trial, { script, first, second, late }: Cut) {
  let kills = 0;
  const die = async (steps: readonly Step[], fs: Omit<FsPlan, 'directory' | 'mode'>) => {
    await using dying = host(trial, script, steps, fs);
    await checkEnd(trial, dying);
    if ((await dying.ended) === 'SIGKILL') kills++;
  };
  await die(script.steps, { at: first, late });
  const lettingGo = late === undefined ? false : letGo(trial);
  if (second !== undefined) await die(REST, { at: second });
  const where = `${script.name}, ${late === undefined ? '' : `late launch ${late}, `}calls ${first} and ${second ?? 'none'}: `;
  const [, wasLate] = await Promise.all([checkRecovery(trial, where, script.options), lettingGo]);
  return { kills, wasLate };
}

/** Lets the supervisor that stopped itself go on, sometime. Answers whether there was one that had done nothing yet. */
async function letGo(trial: Trial): Promise<boolean> {
  const runDir = join(trial.directory, '.run');
  const pids = withArgument(runDir);
  await until(() => pids.every(isAtRest), 'the supervisors stand still or are done');
  const stopped = pids.filter(isAlive);
  const isUnclaimed = (id: string) => !existsSync(join(runDir, `${id}.pid`));
  const unclaimed = stopped.length > 0 ? supervisors(trial.directory).filter(isUnclaimed) : [];
  const stateOf = (id: string) => {
    const record = readDisk(trial.directory).records.get(id);
    return record && `${record.owner.instanceId} ${record.status}`;
  };
  const before = new Map(unclaimed.map((id) => [id, stateOf(id)]));
  const isTakenOver = () => unclaimed.every((id) => stateOf(id) !== before.get(id));
  const when = trial.random.pick(LATE);
  if (when === 'taken over') await until(isTakenOver, 'the next owner has the task');
  else await pause(when);
  for (const pid of stopped) process.kill(pid, 'SIGCONT');
  return unclaimed.length > 0;
}
