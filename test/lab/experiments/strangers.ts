/*
 * Row 11: a pid on record belongs to somebody else by now. That process must never be signalled, and never be taken for ours. And where nobody
 * can tell whose the processes of a session are: the task is not called lost, and nobody is signalled.
 */
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
    const meetings = GUISES.flatMap((guise) => REASONS.map((reason) => (trial: Trial) => meet(trial, guise, reason)));
    // One of each sort is begun at once, however little time there is.
    const rounds = range(lab.size({ quick: 1, full: 12 }));
    const cases = rounds.flatMap(() => [uncertain, unmarked, ...lab.random.shuffle(meetings)]);
    await lab.trials(cases, (trial, work) => work(trial), { parallel: 3 });
  },
};

/** The session has the supervisor's number, its leader is gone, and nothing tells whose it is: whether it is the task's cannot be known. */
async function uncertain(trial: Trial): Promise<void> {
  const { directory } = trial;
  await leaveTask(trial);
  const heard = trial.beside('heard');
  const child = spawn('/bin/sh', ['-c', `(${listener(heard)}) & exit 0`], {
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
    env: trial.sandbox.env,
  });
  const ended = once(child, 'exit');
  await once(child.stdout!, 'data');
  await ended;
  recycle(directory, child.pid!, 'nothing');
  {
    await using manager = await reopen(directory, { fsync: false, stopGraceMs: 50 });
    const status = manager.getTask('ours')?.status;
    trial.check(status === 'running', `a task whose session may live is ${status}`);
    if (status !== 'running') return;
    const stop = manager.stopTask('ours').catch((error) => error.code);
    await pause(LISTENING_MS);
    await manager.close();
    trial.check(
      (await stop) === 'MANAGER_CLOSED',
      `a stop that reached nobody ended with ${JSON.stringify(await stop)}`,
    );
  }
  trial.violations("a session that may be anybody's heard", readLines(heard));
}

/** A command that wiped its environment, and whose supervisor was killed while no host lived: it runs on, and is stopped. */
async function unmarked(trial: Trial): Promise<void> {
  const { directory } = trial;
  const name = `lab-${trial.random.int(1, 1_000_000_000)}-${trial.index}`;
  const command = ['env', '-i', '/bin/sh', '-c', 'while :; do sleep 600; done', name];
  const steps: Step[] = [{ do: 'process', id: 'ours', command, hooks: [] }];
  const plan = { ...filesOf(trial), steps, afterwards: 'die', options: { fsync: false } };
  await using host = new Host({ sandbox: trial.sandbox, script: 'player.mjs', plan });
  await checkEnd(trial, host);
  const named = () => processes().filter(({ args }) => args.includes(`\0${name}\0`));
  const bare = () => named().filter(({ args }) => args.startsWith('/bin/sh') && !args.includes('\0holdfast\0'));
  try {
    await until(() => bare().length === 1, 'the command runs');
    for (const { pid, args } of named()) if (args.includes('\0holdfast\0')) killHard(pid);
    await until(() => named().length === 1, 'its supervisor is gone');
    await using manager = await reopen(directory, { fsync: false, stopGraceMs: 50 });
    const status = manager.getTask('ours')?.status;
    trial.check(status === 'running', `a task that runs without its supervisor and its mark is ${status}`);
    if (status !== 'running') return;
    const stopped = await manager.stopTask('ours');
    trial.check(stopped.status === 'killed', `stopped, and ${stopped.status}`);
    trial.check(named().length === 0, 'the command survived its stop');
  } finally {
    for (const { pid } of named()) killHard(pid);
  }
}

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

/** A line of shell that writes down every signal it hears, and says when it listens. */
function listener(heard: string): string {
  const traps = ['HUP', 'INT', 'QUIT', 'TERM', 'USR1', 'USR2', 'CONT']
    .map((name) => `trap 'echo ${name} >>${heard}' ${name}`)
    .join('; ');
  return `${traps}; echo ready; while :; do sleep 0.05; done`;
}

/** A stranger who listens. */
async function startStranger(trial: Trial, guise: (typeof GUISES)[number], heard: string): Promise<ChildProcess> {
  const runDir = join(trial.directory, '.run');
  const args = {
    plain: [],
    'other task': ['holdfast', runDir, 'theirs'],
    'other directory': ['holdfast', '/elsewhere/.run', 'ours'],
    argument: [`holdfast ${runDir} ours`],
    prefix: ['holdfast', runDir, 'ours2'],
  }[guise];
  const child = spawn('/bin/sh', ['-c', listener(heard), ...args], {
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
