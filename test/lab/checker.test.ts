import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { tempDirectory } from '../helpers/wait.js';
import {
  brokenPromises,
  complaints,
  exitProblems,
  hookProblems,
  type Json,
  leftOvers,
  notOnce,
  overtaken,
  readAcknowledged,
  readDisk,
  repeated,
  shapeProblems,
  stateProblems,
  successionProblems,
} from './checker.js';
import { randomRecord } from './mutants.js';
import { Random } from './random.js';

const running: Json = {
  schemaVersion: 1,
  taskId: 't-1',
  kind: 'process',
  description: 'a task',
  status: 'running',
  detached: true,
  createdAt: 1_000,
  startedAt: 1_001,
  endedAt: null,
  attempt: 1,
  owner: null,
  details: { command: 'true', cwd: '/', pid: 7, exitCode: null, signal: null },
  metadata: { a: 1 },
  hooks: { note: { state: 'pending', attempts: 0 } },
};
/** Running on record, and nobody has heard that its launch came to an end. */
const launched: Json = { ...running, details: { ...running.details, pid: null } };
const queued: Json = { ...launched, status: 'queued', startedAt: null };
const details = (exitCode: number | null) => ({ ...running.details, exitCode });
const completed: Json = { ...running, status: 'completed', endedAt: 2_000, details: details(0) };
const killed: Json = {
  ...running,
  status: 'killed',
  endedAt: 2_000,
  details: details(137),
  stop: { cause: 'user', requestedAt: 1_500 },
};

describe('the shape of a record', () => {
  it('is that of the design', () => {
    for (const record of [running, completed, killed]) expect(shapeProblems(record)).toEqual([]);
    const random = new Random(1);
    for (let n = 0; n < 200; n++) expect(shapeProblems(randomRecord(random, 't-1'))).toEqual([]);
  });

  it.each([
    [{ status: 'done' }, 'status'],
    [{ taskId: '../up' }, 'taskId'],
    [{ createdAt: -1 }, 'createdAt'],
    [{ startedAt: undefined }, 'startedAt'],
    [{ attempt: 0 }, 'attempt'],
    [{ hooks: { note: { state: 'owed', attempts: 0 } } }, 'hooks'],
    [{ owner: { pid: 1 } }, 'owner'],
    [{ stop: { cause: 'whim', requestedAt: 1 } }, 'stop'],
    [{ progress: { current: '1', updatedAt: 1 } }, 'progress'],
  ])('is not %j', (change, field) => {
    expect(shapeProblems({ ...running, ...change })).toEqual([expect.stringContaining(field)]);
  });
});

describe('the state of a record', () => {
  it('agrees with itself', () => {
    for (const record of [running, completed, killed]) expect(stateProblems(record)).toEqual([]);
  });

  it.each([
    ['active, and ended', { ...running, endedAt: 2_000 }],
    ['ended before it started', { ...completed, endedAt: 900 }],
    ['completed with another exit code', { ...completed, details: details(3) }],
    ['failed with exit code 0', { ...completed, status: 'failed' }],
    ['lost although its exit is known', { ...completed, status: 'lost' }],
    ['killed without a stop', { ...killed, stop: undefined }],
    ['killed by its deadline', { ...killed, stop: { cause: 'deadline', requestedAt: 1 } }],
    ['waiting for nothing', { ...running, status: 'waiting' }],
    ['delivered before the end', { ...running, hooks: { note: { state: 'delivered', attempts: 1 } } }],
    ['timed out without a deadline', { ...completed, status: 'timed_out' }],
  ])('is not %s', (_name, record) => {
    expect(stateProblems(record)).not.toEqual([]);
  });
});

describe('what a record may become', () => {
  it('is its next state', () => {
    expect(successionProblems(running, completed)).toEqual([]);
    expect(successionProblems(running, { ...running, metadata: { a: 1, b: 2 } })).toEqual([]);
    const delivered = { ...completed, hooks: { note: { state: 'delivered', attempts: 1 } } };
    expect(successionProblems(completed, delivered)).toEqual([]);
  });

  it('is queued again, with a deadline of its later start, where its launch was cut short', () => {
    const timed = { ...launched, timeoutMs: 50, deadlineAt: 1_051 };
    expect(successionProblems(timed, { ...queued, timeoutMs: 50 })).toEqual([]);
    const later = { ...running, timeoutMs: 50, startedAt: 3_000, deadlineAt: 3_050 };
    expect(successionProblems(timed, later)).toEqual([]);
  });

  it('has not begun while it is queued, whatever a damaged record said', () => {
    expect(successionProblems({ ...queued, startedAt: 0.5 }, queued)).toEqual([]);
    expect(successionProblems({ ...queued, startedAt: 0.5 }, running)).toEqual([]);
    expect(successionProblems(running, { ...running, startedAt: 5_000 })).not.toEqual([]);
  });

  it.each([
    ['another end', completed, { ...completed, status: 'killed' }],
    ['alive again', completed, running],
    ['queued again, once its pid is known', running, { ...running, status: 'queued', startedAt: null }],
    ['queued again, though it is to be stopped', { ...launched, stop: killed.stop }, { ...queued, stop: killed.stop }],
    ['queued again, where it lives in its host', { ...launched, kind: 'function' }, { ...queued, kind: 'function' }],
    ['without its metadata', running, { ...completed, metadata: {} }],
    ['another stop', killed, { ...killed, stop: { cause: 'shutdown', requestedAt: 1_500 } }],
    ['without its delivery', running, { ...completed, hooks: {} }],
    ['owing again', { ...completed, hooks: { note: { state: 'delivered', attempts: 1 } } }, completed],
    ['another deadline', { ...running, timeoutMs: 5, deadlineAt: 1_006 }, { ...running, timeoutMs: 5, deadlineAt: 9 }],
    ['back in the foreground', running, { ...running, detached: false }],
    ['another process', running, { ...running, details: { ...running.details, pid: 8 } }],
    ['another exit code', completed, { ...completed, details: details(null) }],
    ['without its answer', { ...running, lastInput: { prompt: '', value: 1, answeredAt: 1 } }, running],
  ])('is not %s', (_name, before, after) => {
    expect(successionProblems(before, after)).not.toEqual([]);
  });
});

describe('promises', () => {
  const records = new Map([['t-1', completed]]);

  it('are kept by a successor on disk', () => {
    expect(brokenPromises([{ did: 'process', task: running }], records)).toEqual([]);
  });

  it('are broken by a record that is gone, unless it was pruned', () => {
    const other = { ...completed, taskId: 't-2' };
    expect(brokenPromises([{ event: 'task:settled', task: other }], records)).toEqual([
      't-2 was acknowledged and is gone',
    ]);
    expect(brokenPromises([{ event: 'task:settled', task: other }, { pruned: 't-2' }], records)).toEqual([]);
    const owed = { ...other, hooks: running.hooks };
    const settled = { event: 'task:settled', task: { ...other, hooks: {} } };
    expect(brokenPromises([settled, { pruning: true }], records)).toEqual([]);
    expect(brokenPromises([settled, { pruning: true }, { pruning: false }], records)).toHaveLength(1);
    expect(brokenPromises([{ event: 'task:settled', task: owed }, { pruning: true }], records)).toHaveLength(1);
    const alive = { ...running, taskId: 't-3' };
    expect(brokenPromises([{ event: 'task:started', task: alive }, { pruning: true }], records)).toHaveLength(1);
  });

  it('are broken by a hook that comes too early or too often', () => {
    const delivered = { ...completed, hooks: { note: { state: 'delivered', attempts: 1 } } };
    const called = { called: 't-1:note', task: completed };
    expect(hookProblems([called, called, { event: 'hook:delivered', task: delivered }])).toEqual([]);
    expect(hookProblems([{ called: 't-1:note', task: running }])).toHaveLength(1);
    expect(hookProblems([called, { event: 'hook:delivered', task: delivered }, called])).toHaveLength(1);
  });

  it('are broken by an exit code that the command did not have', () => {
    const exits = (more: object) =>
      exitProblems(new Map([['t-1', { ...completed, metadata: { expected: 3 }, ...more }]]));
    expect(exits({ details: details(3) })).toEqual([]);
    expect(exits({})).toHaveLength(1);
    expect(exits({ stop: killed.stop })).toEqual([]);
  });

  it('are not refused, and nothing is reported', () => {
    expect(complaints([{ did: 'process', task: running }, { pruned: 't-2' }])).toEqual([]);
    const said = [{ refused: 'update', id: 't-1' }, { error: 'STORAGE_FAILED' }, { rejected: '/t-1.json' }];
    expect(complaints(said)).toHaveLength(3);
  });

  it('are broken by what is begun twice', () => {
    expect(repeated(['a', 'b#1', 'b#2'])).toEqual([]);
    expect(repeated(['a', 'b', 'a'])).toEqual(['a']);
  });
});

describe('what was accepted', () => {
  const records = (...all: Json[]) => new Map(all.map((record) => [record.taskId as string, record]));

  it('ran once', () => {
    expect(notOnce(records(completed, { ...queued, taskId: 't-2' }), ['t-1'])).toEqual([]);
    expect(notOnce(records(completed), [])).toEqual([expect.stringContaining('never ran')]);
    expect(notOnce(records(completed), ['t-1', 't-1'])).toEqual([expect.stringContaining('ran 2 times')]);
    expect(notOnce(records({ ...completed, status: 'lost' }), [])).toEqual([expect.stringContaining('is lost')]);
    expect(notOnce(records({ ...completed, attempt: 2 }), ['t-1'])).toEqual([expect.stringContaining('attempt 2')]);
    expect(notOnce(records(killed), [])).toEqual([]);
  });

  it('is not overtaken by more than could be at work at once', () => {
    const line = (...statuses: string[]) =>
      records(
        ...statuses.map((status, n) => ({
          ...running,
          status,
          taskId: `t-${n}`,
          createdAt: n < 2 ? 1_000 : 1_000 + n,
        })),
      );
    const inOne = () => ({ name: 'all', limit: 2 });
    const overtakenIn = (...statuses: string[]) => overtaken(line(...statuses), inOne);
    expect(overtakenIn('completed', 'running', 'running', 'queued', 'queued', 'queued')).toEqual([]);
    expect(overtakenIn('queued', 'completed', 'queued', 'running', 'queued', 'queued')).toEqual([]);
    expect(overtakenIn('queued', 'completed', 'queued', 'queued', 'running')).toEqual([
      '3 tasks were overtaken, limit 2: t-0 is the first',
    ]);
    const inLines = ({ taskId }: Json) => ({ name: taskId < 't-4' ? 'a' : 'b', limit: 2 });
    expect(overtaken(line('queued', 'completed', 'queued', 'queued', 'running'), inLines)).toEqual([]);
  });
});

describe('a directory', () => {
  const put = (directory: string, name: string, text: string) => {
    writeFileSync(join(directory, name), text, { mode: 0o600 });
  };

  it('is read as it is, with everything that is wrong with it', () => {
    const directory = tempDirectory();
    put(directory, 't-1.json', JSON.stringify(completed));
    put(directory, 't-2.json', JSON.stringify({ ...running, taskId: 't-2' }).slice(0, 50));
    put(directory, 't-3.json', JSON.stringify({ ...completed, taskId: 't-4' }));
    put(directory, 't-5.json', JSON.stringify({ ...completed, taskId: 't-5' }));
    chmodSync(join(directory, 't-5.json'), 0o644);
    mkdirSync(join(directory, 't-6.json'));
    symlinkSync('t-1.json', join(directory, 't-7.json'));
    const { records, problems } = readDisk(directory);
    expect([...records.keys()].sort()).toEqual(['t-1', 't-3']);
    expect(problems.map((problem) => problem.slice(0, 3)).sort()).toEqual(['t-2', 't-3', 't-5', 't-6', 't-7']);
  });

  it('that is not there is empty', () => {
    expect(readDisk('/nonexistent')).toEqual({ records: new Map(), problems: [] });
  });

  it('shows what was not swept', () => {
    const directory = tempDirectory();
    mkdirSync(join(directory, '.owner'));
    for (const name of ['t-1.json', 't-1.json.next', 't-2.json.next.123', '.owner/x.claim', '.owner/epoch-1'])
      put(directory, name, '');
    expect(leftOvers(directory)).toHaveLength(3);
  });
});

it('a line that a SIGKILL tore was not acknowledged, and spoils no other', () => {
  const path = join(tempDirectory(), 'acknowledged');
  const lines = [{ task: running }, { pruned: 'a' }].map((value) => `\n${JSON.stringify(value)}\n`);
  writeFileSync(path, `${lines[0]}${lines[0]!.slice(0, 40)}${lines[1]}`);
  expect(readAcknowledged(path)).toEqual([{ task: running }, { pruned: 'a' }]);
});
