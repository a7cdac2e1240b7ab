/* Row 7: a folder of records that were damaged in every way. Each must be listed, or set aside untouched with a reason; none may disappear. */
import { isUtf8 } from 'node:buffer';
import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { BackgroundTaskManager, parseTaskRecord, readTasks } from 'holdfast';
import { ACTIVE, isTerminal, type Json, shapeProblems, stateProblems, successionProblems } from '../checker.js';
import { type Experiment, range, type Trial } from '../lab.js';
import { mutated, randomRecord } from '../mutants.js';
import type { Random } from '../random.js';

const BATCH = 1_000;
const MAX_BYTES = 1024 * 1024;
const MAX_DEPTH = 1_000;

/** `newer`: written by a later version, listed or left. `either`: the design does not say. */
type Expected = 'listed' | 'rejected' | 'newer' | 'either';

interface Input {
  readonly taskId: string;
  readonly bytes: Buffer;
  readonly expected: Expected;
}

export const damagedRecords: Experiment = {
  row: 7,
  what: 'malformed and mutated records: a crash, a file overwritten, a silent drop, a wrong belief',
  budgetMs: { quick: 4_000, full: 150_000 },
  async run(lab) {
    await lab.trials(range(lab.size({ quick: 10, full: 100 })), oneFolder, { parallel: 1 });
  },
};

async function oneFolder(trial: Trial): Promise<number> {
  const { random, directory } = trial;
  mkdirSync(directory, { mode: 0o700 });
  const inputs = range(BATCH).map((n) => input(random.fork(n), `t-${n}`));
  for (const { taskId, bytes } of inputs) writeFileSync(pathOf(trial, taskId), bytes, { mode: 0o600 });
  const oddities = makeOddities(directory);
  for (const { bytes } of inputs.slice(0, 100)) trial.violations('parseTaskRecord', parseProblems(bytes));

  const seen = await readTasks(directory);
  const notices = new Map<string, number>();
  const listed = new Set<string>();
  {
    await using manager = await BackgroundTaskManager.open({ directory, fsync: false, reconcileIntervalMs: 0 });
    const notice = (name: string) => void notices.set(name, (notices.get(name) ?? 0) + 1);
    manager.on('record:rejected', ({ path, reason }) => {
      notice(basename(path));
      trial.check(reason.trim() !== '', `${path} was rejected without a reason`);
    });
    await manager.reconcile();
    for (const { taskId } of manager.listTasks({ includeForeground: true })) listed.add(taskId);
  }
  trial.check(
    seen.tasks.length === listed.size,
    `readTasks saw ${seen.tasks.length} tasks, the manager ${listed.size}`,
  );
  for (const one of inputs) {
    trial.violations(
      `${one.taskId} ${one.bytes.toString().slice(0, 300)}`,
      judge(trial, one, listed.has(one.taskId), notices.get(`${one.taskId}.json`) ?? 0),
    );
  }
  for (const name of oddities) {
    trial.check(notices.get(name) === 1, `${name} was reported ${notices.get(name) ?? 0} times`);
    trial.check(isThere(join(directory, '.rejected', name)) || isThere(join(directory, name)), `${name} is gone`);
  }
  return inputs.length + oddities.length;
}

const pathOf = ({ directory }: Trial, taskId: string) => join(directory, `${taskId}.json`);

function input(random: Random, taskId: string): Input {
  const bytes = mutated(random, randomRecord(random, taskId));
  return { taskId, bytes, expected: expect(bytes, taskId) };
}

/** What the design says of these bytes under this name. */
function expect(bytes: Buffer, taskId: string): Expected {
  const value = parse(bytes);
  if (
    value === undefined ||
    bytes.length > MAX_BYTES ||
    typeof value !== 'object' ||
    value === null ||
    Array.isArray(value)
  )
    return 'rejected';
  const record = value as Json;
  if (record.schemaVersion === undefined || isTooDeep(record)) return 'either';
  if (typeof record.schemaVersion === 'number' && record.schemaVersion > 1) return 'newer';
  if (record.taskId !== taskId || shapeProblems(record).length > 0 || !isAllFinite(record)) return 'rejected';
  return stateProblems(record).length > 0 ? 'either' : 'listed';
}

function parse(bytes: Buffer): unknown {
  if (!isUtf8(bytes)) return undefined;
  try {
    return JSON.parse(bytes.toString());
  } catch {
    return undefined; // the answer: it is no JSON
  }
}

function isAllFinite(value: unknown): boolean {
  if (typeof value === 'number') return Number.isFinite(value);
  return typeof value !== 'object' || value === null || Object.values(value).every(isAllFinite);
}

/** Whether it is nested deeper than anybody promised to read. */
function isTooDeep(value: unknown, left = MAX_DEPTH): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return left === 0 || Object.values(value).some((inner) => isTooDeep(inner, left - 1));
}

/** What became of one input. */
function judge(trial: Trial, { taskId, bytes, expected }: Input, isListed: boolean, notices: number): string[] {
  const problems: string[] = [];
  const must = (ok: boolean, problem: string) => {
    if (!ok) problems.push(problem);
  };
  must(!(isListed && expected === 'rejected'), 'it was believed');
  must(isListed || expected !== 'listed', 'a good record was not listed');
  must(
    notices === (isListed ? 0 : 1),
    `it was reported ${notices} times, and is ${isListed ? 'listed' : 'not listed'}`,
  );
  const here = existsSync(pathOf(trial, taskId)) ? readFileSync(pathOf(trial, taskId)) : undefined;
  if (isListed) {
    must(here !== undefined, 'it is listed, and its file is gone');
    if (here) problems.push(...changes(bytes, here));
  } else if (here) {
    must(expected === 'newer' || expected === 'either', 'it was left where it is');
    must(here.equals(bytes), 'it was left where it is, and changed');
  } else {
    must(expected !== 'newer', 'it is of a newer version, and was moved');
    problems.push(...asideProblems(join(trial.directory, '.rejected', `${taskId}.json`), bytes));
  }
  return problems;
}

/** A record that was listed may have been settled; nothing else may have happened to it. */
function changes(before: Buffer, after: Buffer): string[] {
  if (before.equals(after)) return [];
  const [then, now] = [parse(before) as Json, parse(after) as Json | undefined];
  if (now === undefined) return ['it was overwritten with no JSON'];
  if (then.schemaVersion === undefined) return legacyChanges(then, now);
  if (then.schemaVersion !== 1) return [`it is of version ${then.schemaVersion}, and was overwritten`];
  if (!['process', 'function'].includes(then.kind)) return ['its kind is not known here, and it was overwritten'];
  if (isTerminal(then)) return ['it was terminal, and was overwritten'];
  const lost = Object.keys(then).filter((key) => key !== 'waitingFor' && !(key in now));
  return [...successionProblems(then, now), ...lost.map((key) => `the key ${key} was dropped`)];
}

/** Without a version it is a record of another system, if anything: running work of a host that is gone is called lost, and nothing of it is dropped. */
function legacyChanges(then: Json, now: Json): string[] {
  const kept = new Set(
    [now, now.metadata, ...Object.values(now.metadata)].flatMap((part) => Object.keys(Object(part))),
  );
  const dropped = Object.keys(then).filter((key) => !kept.has(key));
  return [
    ...(now.status === 'lost' && ACTIVE.includes(then.status)
      ? []
      : [`it was ${then.status}, and became ${now.status}`]),
    ...dropped.map((key) => `the key ${key} was dropped`),
  ];
}

function asideProblems(path: string, bytes: Buffer): string[] {
  if (!existsSync(path)) return ['it is neither listed, nor left, nor set aside'];
  const same = readFileSync(path).equals(bytes) ? [] : ['it was set aside, and changed'];
  const reason = existsSync(`${path}.reason`) ? readFileSync(`${path}.reason`, 'utf8').trim() : '';
  return reason === '' ? [...same, 'it was set aside without a reason'] : same;
}

/** What is no file at all. */
function makeOddities(directory: string): string[] {
  execFileSync('mkfifo', [join(directory, 'fifo.json')]);
  mkdirSync(join(directory, 'folder.json'));
  symlinkSync('/etc/passwd', join(directory, 'link.json'));
  symlinkSync('loop.json', join(directory, 'loop.json'));
  return ['fifo.json', 'folder.json', 'link.json', 'loop.json'];
}

/** Links that lead nowhere are there as well. */
const isThere = (path: string) => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

function parseProblems(bytes: Buffer): string[] {
  const value = parse(bytes);
  if (value === undefined) return [];
  try {
    const task = parseTaskRecord(value);
    return typeof task.taskId === 'string' && typeof task.description === 'string' ? [] : ['answered with no task'];
  } catch (error) {
    return error instanceof Error && error.message.trim() !== '' ? [] : [`threw ${String(error)}`];
  }
}
