/* Row 5: processes that end while no host lives. Each leaves a file right before its end, and how it ends is known beforehand. */
import { existsSync, statSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { filesOf, reopen } from '../aftermath.js';
import { type Json, readDisk } from '../checker.js';
import { Host } from '../host.js';
import { checkEnd } from '../killer.js';
import { type Experiment, range, type Trial } from '../lab.js';
import { supervisors } from '../processes.js';
import { until } from '../until.js';
import type { Step } from '../workload.js';

const PROCESSES = 40;
/** An end time taken when it is found, not when it was, is later than anybody's end by this. */
const ABSENCE_MS = 500;

/** When a process ended, in milliseconds since the epoch: not before its last act, and not after its supervisor was gone. */
interface Bounds {
  readonly from: number;
  readonly to: number;
}

interface Ending {
  readonly step: Step;
  readonly id: string;
  readonly exitCode: number;
  readonly signal: string | null;
}

export const absence: Experiment = {
  row: 5,
  what: 'a process that ended while no host lived: a wrong exit code or end time',
  async run(lab) {
    await lab.trials(range(lab.size({ quick: 6, full: 80 })), oneAbsence, { parallel: 3 });
  },
};

async function oneAbsence(trial: Trial): Promise<number> {
  const endings = range(PROCESSES).map((n) => ending(trial, `p${n}`));
  const steps = endings.map(({ step }, n) => ({ ...step, lane: n % 4 }));
  {
    const plan = { ...filesOf(trial), steps, afterwards: 'die', options: { fsync: false } };
    await using host = new Host({ sandbox: trial.sandbox, script: 'player.mjs', plan });
    await checkEnd(trial, host);
  }
  const died = Date.now();
  const goneAt = new Map<string, number>();
  await until(() => {
    const left = new Set(supervisors(trial.directory));
    const now = Date.now();
    // One without its last act has not ended: its supervisor is just being born.
    for (const { id } of endings)
      if (!goneAt.has(id) && !left.has(id) && existsSync(lastActOf(trial, id))) goneAt.set(id, now);
    return goneAt.size === endings.length;
  }, 'all processes have ended');
  await pause(ABSENCE_MS);
  await (await reopen(trial.directory, { fsync: false })).close();
  const { records } = readDisk(trial.directory);
  let inAbsence = 0;
  for (const one of endings) {
    // A file time, as the recorded end is one: the clock of files may stand a little behind.
    const bounds = { from: Math.floor(statSync(lastActOf(trial, one.id)).mtimeMs), to: goneAt.get(one.id)! };
    if (bounds.from > died) inAbsence++;
    trial.violations(one.id, differences(one, records.get(one.id), bounds));
  }
  return inAbsence;
}

const lastActOf = (trial: Trial, id: string) => trial.beside(`${id}.ended`);

/** Some write an exit record of their own while they run: the host that lives then sees it, and must not believe it. */
function ending(trial: Trial, id: string): Ending {
  const { random } = trial;
  const forged = random.chance(0.2) ? `echo 42 >'${trial.directory}/.run/${id}.exit'; ` : '';
  const begin = `${forged}sleep ${random.int(300, 900) / 1000}; : >'${lastActOf(trial, id)}'`;
  if (random.chance(0.2)) {
    const [name, number] = random.pick([
      ['KILL', 9],
      ['SEGV', 11],
      ['ABRT', 6],
      ['PIPE', 13],
    ] as const);
    return {
      step: { do: 'process', id, command: `${begin}; kill -${name} $$`, hooks: [] },
      id,
      exitCode: 128 + number,
      signal: `SIG${name}`,
    };
  }
  const exitCode = random.pick([0, 0, random.int(1, 127), random.int(160, 255)]);
  const line = `${begin}; exit ${exitCode}`;
  return {
    step: { do: 'process', id, command: random.chance(0.5) ? line : ['/bin/sh', '-c', line], hooks: [] },
    id,
    exitCode,
    signal: null,
  };
}

function differences({ exitCode, signal }: Ending, task: Json | undefined, { from, to }: Bounds): string[] {
  if (!task) return ['it is gone'];
  const { status, endedAt, details } = task;
  const expected = exitCode === 0 ? 'completed' : 'failed';
  return [
    status !== expected && `it is ${status}, not ${expected}`,
    details.exitCode !== exitCode && `its exit code is ${details.exitCode}, not ${exitCode}`,
    details.signal !== signal && `its signal is ${details.signal}, not ${signal}`,
    (endedAt < from || endedAt > to) && `its end is ${endedAt}, not between ${from} and ${to}`,
  ].filter((problem) => problem !== false);
}
