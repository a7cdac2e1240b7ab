/* Rows 1 to 4: the host is killed, at moments chosen at random and at every single call. */
import { spawnSync } from 'node:child_process';
import { setTimeout as pause } from 'node:timers/promises';
import { checkFiles, checkRecovery, filesOf } from '../aftermath.js';
import { Host, type HostOptions } from '../host.js';
import { checkEnd, killSometime } from '../killer.js';
import { type Experiment, type Lab, range, type Trial } from '../lab.js';
import { mixture, type Play, type Step, script } from '../workload.js';

export const player = (
  trial: Trial,
  play: Partial<Play> & Pick<Play, 'steps' | 'afterwards'>,
  more: Partial<HostOptions> = {},
): Host => new Host({ sandbox: trial.sandbox, script: 'player.mjs', plan: { ...filesOf(trial), ...play }, ...more });

/** Several hosts after each other, each killed: a kill during recovery is a kill like any other. */
const GENERATIONS = 4;

export const killsAtRandom: Experiment = {
  row: 1,
  what: 'SIGKILL at random moments: an acknowledged record lost',
  async run(lab) {
    let promises = 0;
    await lab.trials(range(lab.size({ quick: 12, full: 400 })), async (trial) => {
      let made = 0;
      let kills = 0;
      for (const generation of lab.rounds(GENERATIONS)) {
        const steps = mixture(trial.random, `g${generation}`, 400);
        await using host = player(trial, { steps, afterwards: 'stay', options: { fsync: generation % 2 === 0 } });
        // Now and then before it has opened; mostly in the middle of its work.
        if (trial.random.chance(0.15)) await pause(trial.random.int(0, 250)).then(() => host.kill());
        else await killSometime(trial, host, 100_000);
        kills++;
        made = checkFiles(trial, `after kill ${generation}`);
      }
      promises += made;
      await checkRecovery(trial);
      return kills;
    });
    lab.check(promises > 0, 'no host acknowledged anything');
    lab.note(`${promises} acknowledgements`);
  },
};

/** One host that is killed at its `at`-th change of the directory, if it makes so many. */
function killedAt(trial: Trial, steps: readonly Step[], at: number): Host {
  return player(trial, { steps, afterwards: 'close' }, { fs: { directory: trial.directory, mode: 'kill', at } });
}

/** A full lab leaves no call out, however long that takes. */
export const EVERY_CALL = { full: Number.POSITIVE_INFINITY };

/** How many changes a whole run makes. Timers make some of them, so the next run may make one more. */
async function countChanges(lab: Lab, steps: readonly Step[]): Promise<number> {
  let changes = 0;
  await lab.rehearse(async (trial) => {
    await using host = killedAt(trial, steps, Number.MAX_SAFE_INTEGER);
    let said = await host.next();
    while (!said.closed) said = await host.next();
    changes = said.calls;
  });
  return changes;
}

/** One run for each change; a quick lab takes some of them. */
async function killEverywhere(lab: Lab, steps: readonly Step[], quick: number): Promise<void> {
  const changes = await countChanges(lab, steps);
  const before = lab.trialCount;
  const chosen = lab.random.shuffle(range(changes)).slice(0, lab.size({ quick, full: changes }));
  await lab.trials(chosen, (trial, index) =>
    dieAndRecover(trial, killedAt(trial, steps, index + 1), `call ${index + 1}`),
  );
  lab.note(`${lab.trialCount - before} of ${changes} calls`);
}

/** A run that was over before the call came is checked, and is no trial. */
async function dieAndRecover(trial: Trial, dying: Host, where: string): Promise<number> {
  await using host = dying;
  await checkEnd(trial, host);
  await checkRecovery(trial, `${where}: `);
  return (await host.ended) === 'SIGKILL' ? 1 : 0;
}

/** What changes a file or a folder, below everything that Node does. */
const SYSTEM_CALLS =
  '/^(write|pwrite64|rename(at2?)?|unlink(at)?|rmdir|mkdir(at)?|link(at)?|fsync|fchmod|chmod|fchmodat2?|ftruncate)$';
/** No run makes so many. */
const NEVER = 65_535;
const tracer = (when: number) => [
  ...['strace', '-f', '-qq', '-o', '/dev/null', '-e', `trace=${SYSTEM_CALLS}`],
  ...['-e', `inject=${SYSTEM_CALLS}:signal=SIGKILL:when=${when}`],
];

/** The calls of the system itself: a sample, since each run takes long. Node's pool has one thread, and every thread counts for itself. */
async function killUnderStrace(lab: Lab, steps: readonly Step[]): Promise<void> {
  const [file, ...harmless] = tracer(NEVER);
  if (spawnSync(file!, [...harmless, 'true']).status !== 0) {
    lab.note('none under strace: not possible here');
    return;
  }
  const before = lab.trialCount;
  await lab.trials(range(lab.size({ quick: 2, full: 60 })), (trial) => {
    const wrapper = tracer(trial.random.int(1, 200));
    const fs = { directory: trial.directory, mode: 'off' } as const;
    const host = player(trial, { steps, afterwards: 'close' }, { fs, wrapper });
    return dieAndRecover(trial, host, wrapper.at(-1)!);
  });
  lab.note(`${lab.trialCount - before} under strace`);
}

export const killsEverywhere: Experiment = {
  row: 2,
  what: 'SIGKILL at every file-system call: an illegal state after reopening',
  budgetMs: { quick: 6_000, ...EVERY_CALL },
  async run(lab) {
    await killUnderStrace(lab, script());
    await killEverywhere(lab, script(), 30);
  },
};

export const killsInRegistration: Experiment = {
  row: 3,
  what: 'a kill anywhere in registerTask: a process without a record',
  budgetMs: EVERY_CALL,
  async run(lab) {
    const steps = range(3).map((n): Step => ({ do: 'process', id: `p${n}`, exit: n, ms: 10, hooks: [] }));
    await killEverywhere(lab, steps, 25);
  },
};

export const launchesOnce: Experiment = {
  row: 4,
  what: 'a task launched twice over all recoveries',
  async run(lab) {
    await lab.trials(range(lab.size({ quick: 10, full: 300 })), async (trial) => {
      let kills = 0;
      for (const generation of lab.rounds(GENERATIONS)) {
        const steps = range(40).map(
          (n): Step => ({ do: 'process', id: `g${generation}-${n}`, exit: 0, ms: 0, hooks: [], lane: n % 8 }),
        );
        await using host = player(trial, { steps, afterwards: 'stay', options: { fsync: false } });
        // While launches are under way; the next host opens at once.
        await host.next();
        await killSometime(trial, host, 30_000);
        kills++;
      }
      await checkRecovery(trial);
      return kills;
    });
  },
};
