/* Row 11: a pid on record belongs to somebody else by now. That process must never be signalled, and never be taken for ours. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { filesOf, reopen } from '../aftermath.js';
import { readDisk, readLines } from '../checker.js';
import { Host } from '../host.js';
import { checkEnd } from '../killer.js';
import { type Experiment, range, type Trial } from '../lab.js';
import { isAlive, killHard, type ProcessLine, processes } from '../processes.js';
import { until } from '../until.js';
import type { Step } from '../workload.js';

/** Who has the pid now: any process, or one that looks as like a supervisor of ours as a stranger can. */
const GUISES = ['plain', 'other task', 'other directory', 'argument', 'prefix'] as const;
const LISTENING_MS = 200;
/** What would make a host signal it. */
const REASONS = ['stop', 'stop on record', 'deadline', 'stop all on close', 'nothing'] as const;

export const strangers: Experiment = {
  row: 11,
  what: 'a recycled pid: a stranger signalled or believed',
  async run(lab) {
    const all = GUISES.flatMap((guise) => REASONS.map((reason) => ({ guise, reason })));
    const rounds = range(lab.size({ quick: 1, full: 12 }));
    const cases = rounds.flatMap(() => lab.random.shuffle(all));
    await lab.trials(cases, (trial, { guise, reason }) => meet(trial, guise, reason), { parallel: 3 });
  },
};

async function meet(trial: Trial, guise: (typeof GUISES)[number], reason: (typeof REASONS)[number]): Promise<void> {
  const { directory } = trial;
  await leaveTask(trial);
  const heard = trial.beside('heard');
  const stranger = await startStranger(trial, guise, heard);
  recycle(directory, stranger.pid!, reason);
  const where = `${guise}, ${reason}`;
  {
    await using manager = await reopen(directory, { fsync: false, stopGraceMs: 50 });
    if (reason === 'stop') await manager.stopTask('ours');
    if (reason === 'stop all on close') await manager.close({ tasks: 'stop' });
    else await manager.waitForTask('ours', { timeoutMs: 10_000 });
  }
  // It was gone before anybody asked for its end; only the stop on record came before.
  const expected = reason === 'stop on record' ? 'killed' : 'lost';
  const status = readDisk(directory).records.get('ours')?.status;
  trial.check(status === expected, `${where}: the task is ${status}, not ${expected}`);
  // A second asking would come 100 ms after the first; and a shell hears between two sleeps.
  await pause(LISTENING_MS);
  trial.check(isAlive(stranger.pid!), `${where}: the stranger is dead`);
  trial.violations(`${where}: the stranger heard`, readLines(heard));
}

/** A host dies, its task with its supervisor as well: the record says `running`. */
async function leaveTask(trial: Trial): Promise<void> {
  // One program that never forks: who is just being born, or begins another program, shows no arguments and would be overlooked.
  const steps: Step[] = [{ do: 'process', id: 'ours', command: ['sleep', '600'], hooks: [] }];
  const plan = { ...filesOf(trial), steps, afterwards: 'die', options: { fsync: false } };
  await using host = new Host({ sandbox: trial.sandbox, script: 'player.mjs', plan });
  await checkEnd(trial, host);
  const ours = () => processes().filter(({ env, args }) => `${env()}${args}`.includes(trial.directory));
  await until(() => ours().some(({ args }) => args.replaceAll('\0', ' ').trim() === 'sleep 600'), 'the task runs');
  // The supervisor first: it would write down how its command ended.
  const rank = ({ args }: ProcessLine) => (args.includes('\0holdfast\0') ? 0 : 1);
  while (ours().length > 0) for (const { pid } of ours().sort((a, b) => rank(a) - rank(b))) killHard(pid);
}

/** A shell that writes down every signal it hears. */
async function startStranger(trial: Trial, guise: (typeof GUISES)[number], heard: string): Promise<ChildProcess> {
  const traps = ['HUP', 'INT', 'QUIT', 'TERM', 'USR1', 'USR2', 'CONT']
    .map((name) => `trap 'echo ${name} >>${heard}' ${name}`)
    .join('; ');
  const runDir = join(trial.directory, '.run');
  const args = {
    plain: [],
    'other task': ['holdfast', runDir, 'theirs'],
    'other directory': ['holdfast', '/elsewhere/.run', 'ours'],
    argument: [`holdfast ${runDir} ours`],
    prefix: ['holdfast', runDir, 'ours2'],
  }[guise];
  const child = spawn('/bin/sh', ['-c', `${traps}; echo ready; while :; do sleep 0.05; done`, ...args], {
    stdio: ['ignore', 'pipe', 'ignore'],
    // The leader of a group and session, as a supervisor is.
    detached: trial.random.chance(0.5),
    env: trial.sandbox.env,
  });
  await once(child.stdout!, 'data');
  return child;
}

/** The stranger has the pid that is on record. */
function recycle(directory: string, pid: number, reason: (typeof REASONS)[number]): void {
  writeFileSync(join(directory, '.run', 'ours.pid'), `${pid}\n`);
  const path = join(directory, 'ours.json');
  const record = JSON.parse(readFileSync(path, 'utf8'));
  record.details.pid = pid;
  if (reason === 'stop on record') record.stop = { cause: 'user', requestedAt: record.startedAt };
  if (reason === 'deadline') Object.assign(record, { timeoutMs: 1, deadlineAt: record.startedAt + 1 });
  writeFileSync(path, JSON.stringify(record));
  // The dead host's own pid is taken as well: nobody may be kept out by that.
  for (const name of readdirSync(join(directory, '.owner'))) {
    if (!/^epoch-\d+$/.test(name)) continue;
    const claim = join(directory, '.owner', name);
    writeFileSync(claim, JSON.stringify({ ...JSON.parse(readFileSync(claim, 'utf8')), pid }));
  }
}
