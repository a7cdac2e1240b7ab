/* Who belongs to a task: the rules on invented process tables, the readers of real ones. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { systemClock } from '../../../src/clock.js';
import { findSupervisor, isSupervisor, namesSupervisor } from '../../../src/process/supervisor/command-line.js';
import { membershipOf } from '../../../src/process/supervisor/membership.js';
import { ProcessTree } from '../../../src/process/supervisor/process-tree.js';
import { kill, terminate } from '../../../src/process/supervisor/stages.js';
import { MarkReader, setMarks } from '../../../src/process/table/marks.js';
import { ProcTable } from '../../../src/process/table/proc-table.js';
import { type ProcessRow, type ProcessTable, Snapshot } from '../../../src/process/table/process-table.js';
import { PsTable } from '../../../src/process/table/ps-table.js';
import { Layout } from '../../../src/store/layout.js';
import type { ProcessTask } from '../../../src/task/types.js';
import { isAlive, ProcessLab, spawned, stateOf, stopping } from '../../helpers/process.js';
import { tempDirectory, until } from '../../helpers/wait.js';

const row = (pid: number, more: Partial<ProcessRow> = {}): ProcessRow => ({
  ...{ pid, ppid: 1, pgid: pid, session: pid, start: `${pid}` },
  ...more,
});
const question = {
  taskId: 'a',
  supervisor: 100,
  isSessionOurs: true,
  isLedByStranger: false,
  heldUntil: Number.NaN,
  known: new Map<number, string>(),
};
const unsure = { ...question, isSessionOurs: false };
const membersOf = (...about: Parameters<typeof membershipOf>): number[] => pids(membershipOf(...about).members);
const pids = (rows: readonly ProcessRow[]): number[] => rows.map(({ pid }) => pid).sort((a, b) => a - b);

describe('the tree of a task', () => {
  const supervisor = row(100);
  const command = row(101, { ppid: 100, pgid: 100, session: 100 });
  const ownGroup = row(102, { ppid: 101, pgid: 102, session: 100 });
  const daemon = row(103, { taskId: 'a' });
  const stranger = row(104);
  const ofAnother = row(105, { taskId: 'b' });
  const snapshot = new Snapshot([supervisor, command, ownGroup, daemon, stranger, ofAnother]);

  it('is the session, the group and the marked, while the supervisor lives', () => {
    expect(membersOf(snapshot, question)).toEqual([100, 101, 102, 103]);
  });

  it('is only the marked, once it cannot be told whose the session is', () => {
    expect(membersOf(snapshot, { ...unsure })).toEqual([103]);
    expect(membersOf(snapshot, { ...unsure, supervisor: null })).toEqual([103]);
  });

  it('keeps whom an earlier scan saw, and their children, in the session', () => {
    const known = new Map([[101, '101']]);
    expect(membersOf(snapshot, { ...unsure, known })).toEqual([101, 102, 103]);
    const recycled = new Map([[101, 'earlier']]);
    expect(membersOf(snapshot, { ...unsure, known: recycled })).toEqual([103]);
  });

  it('keeps who was born into the session while the supervisor held its pid', () => {
    expect(membersOf(snapshot, { ...unsure, heldUntil: 102 })).toEqual([100, 101, 102, 103]);
    expect(membersOf(snapshot, { ...unsure, heldUntil: 50 })).toEqual([103]);
  });

  it('may hold what is left in a session whose leader is gone, and nothing of a session that a stranger leads', () => {
    const { uncertain } = membershipOf(snapshot, unsure);
    expect(pids(uncertain)).toEqual([100, 101, 102]);
    expect(membershipOf(snapshot, { ...unsure, isLedByStranger: true }).uncertain).toEqual([]);
    const ofAGroup = new Snapshot([row(102, { pgid: 100 })]);
    expect(membershipOf(ofAGroup, unsure).uncertain).toEqual([]);
  });

  it('never holds a stranger, whatever the process table', () => {
    // Strangers: another session, no mark. With an unverified supervisor also its session, as far as it began after the
    // end.
    const some = fc.record({
      pid: fc.integer({ min: 2, max: 30 }),
      ppid: fc.integer({ min: 0, max: 30 }),
      pgid: fc.integer({ min: 2, max: 30 }),
      session: fc.integer({ min: 2, max: 30 }),
      start: fc.integer({ min: 0, max: 50 }).map(String),
      taskId: fc.constantFrom(undefined, 'a', 'b'),
    });
    const asked = fc.record({
      taskId: fc.constant('a'),
      supervisor: fc.option(fc.integer({ min: 2, max: 30 })),
      isSessionOurs: fc.boolean(),
      isLedByStranger: fc.boolean(),
      heldUntil: fc.oneof(fc.constant(Number.NaN), fc.integer({ min: 0, max: 50 })),
      known: fc
        .array(fc.tuple(fc.integer({ min: 2, max: 30 }), fc.integer({ min: 0, max: 50 }).map(String)))
        .map((entries) => new Map(entries)),
    });
    fc.assert(
      fc.property(fc.uniqueArray(some, { selector: ({ pid }) => pid, maxLength: 25 }), asked, (rows, about) => {
        const { members, uncertain } = membershipOf(new Snapshot(rows), about);
        const inside = new Set(members);
        for (const one of rows) {
          const near = about.supervisor !== null && [one.session, one.pgid].includes(about.supervisor);
          const before = Number(one.start) < about.heldUntil && one.session === about.supervisor;
          const believed = about.isSessionOurs || about.known.get(one.pid) === one.start || before;
          const child = members.some((parent) => parent.pid === one.ppid);
          expect(inside.has(one)).toBe(one.taskId === 'a' || (near && (believed || child)));
        }
        expect(inside.size).toBe(members.length);
        for (const one of uncertain) {
          expect([one.session, inside.has(one), about.isLedByStranger]).toEqual([about.supervisor, false, false]);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('a supervisor is told by its command line', () => {
  const of = { runDir: '/data/.run', taskId: 'a' };
  const line = (...args: string[]) => ({ text: args.map((arg) => `${arg}\0`).join(''), separator: '\0' });

  it.each([
    [['/bin/sh', '-c', 'script', 'holdfast', '/data/.run', 'a', '0022', 'true'], true],
    [['/usr/bin/qemu', '/bin/sh', '-c', 'script', 'holdfast', '/data/.run', 'a', '0022'], true],
    [['/bin/sh', '-c', 'script', 'holdfast', '/data/.run', 'ab', '0022', 'true'], false],
    [['/bin/sh', '-c', 'script', 'holdfast', '/data/.ru', 'a', '0022', 'true'], false],
    [['/bin/sh', '-c', 'script', 'holdfast', '/data/.run', 'b', '0022', 'sh', 'holdfast', '/data/.run', 'a'], false],
    [['grep', 'holdfast', '/data/.run', 'a', 'file'], false],
    [['holdfast', '/data/.run', 'a'], false],
    [[], false],
  ])('%j: %s', (args, expected) => {
    expect(namesSupervisor(line(...args), of)).toBe(expected);
  });

  it('also as ps shows it, on one line', () => {
    const shown = '/bin/sh -c { set +eux; }? exit $c holdfast /data/.run a 0022 true';
    expect(namesSupervisor({ text: shown, separator: ' ' }, of)).toBe(true);
    expect(namesSupervisor({ text: shown, separator: ' ' }, { ...of, taskId: 'b' })).toBe(false);
  });
});

describe.each<[string, (runDir: string) => ProcessTable]>([
  ['/proc', (runDir) => new ProcTable(runDir, systemClock)],
  ['ps', (runDir) => new PsTable(runDir)],
])('the process table by way of %s', (_name, open) => {
  it('shows who lives, where they belong, and whose they are', async () => {
    const lab = new ProcessLab();
    const table = open(lab.layout.runDir);
    const task = await lab.run('setsid sleep 60 & env -i sleep 60 & echo ready; wait');
    await lab.printed(task, 'ready');
    const pid = task.details.pid!;
    await until(() => lab.programs(task).join() === '/bin/sh,/bin/sh,sleep');
    const snapshot = await until(async () => {
      const taken = await table.snapshot();
      return taken.near(pid).length === 3 && taken;
    });
    expect(pids(snapshot.marked(task.taskId))).toEqual(lab.marked(task).sort((a, b) => a - b));
    expect(snapshot.rows.get(pid)).toMatchObject({ pid, ppid: process.pid, pgid: pid, session: pid });
    expect(await table.row(pid)).toMatchObject({ start: snapshot.rows.get(pid)!.start });
    expect(snapshot.rows.get(process.pid)?.taskId).toBeUndefined();
  });

  it('shows no zombies and no process that is not there', async () => {
    const lab = new ProcessLab();
    const table = open(lab.layout.runDir);
    const shell = spawned('/bin/sh', ['-c', 'sleep 0 & exec sleep 60']);
    const zombie = await until(() => childrenOf(shell.pid!).find((pid) => stateOf(pid) === 'Z'));
    expect((await table.snapshot()).rows.has(zombie)).toBe(false);
    expect(await table.row(zombie)).toBeUndefined();
    expect(await table.row(2 ** 22 + 1)).toBeUndefined();
    expect(await table.commandLine(2 ** 22 + 1)).toBeUndefined();
    expect(await isSupervisor(table, zombie, { runDir: '', taskId: '' })).toBe(false);
  });

  it('finds a supervisor that nothing recorded, and not its subshell', async () => {
    const lab = new ProcessLab();
    const { runDir } = lab.layout;
    const table = open(runDir);
    const task = lab.task({ command: ['sleep', '60'] });
    const child = lab.supervisor(task);
    expect(await until(() => findSupervisor(table, { runDir, taskId: task.taskId }))).toBe(child.pid);
    expect(await findSupervisor(table, { runDir, taskId: 'other' })).toBeUndefined();
  });

  it('is enough to stop a tree', async () => {
    const lab = new ProcessLab();
    const table = open(lab.layout.runDir);
    for (const how of ['terminate', 'kill'] as const) {
      const task = await lab.run(
        `setsid sleep 60 & timeout 60 sleep 60 & ${how === 'kill' ? "trap '' TERM;" : ''} echo ready; wait; wait`,
      );
      await lab.printed(task, 'ready');
      await until(() => lab.marked(task).length >= 5);
      const work = new ProcessTree(task.taskId, placesOf(lab), table);
      work.pid = task.details.pid;
      if (how === 'terminate') await terminate(work, systemClock);
      else await kill(work, systemClock);
      await until(() => lab.marked(task).length === 0);
    }
  });
});

it('a program that goes from process to process is in every snapshot', async () => {
  const lab = new ProcessLab();
  const { directory, runDir } = lab.layout;
  // Each leaves a child in a new session and ends: a list of processes is old before it is read.
  writeFileSync(join(directory, 'hopper'), '[ -e enough ] || setsid sh "$0" &\n');
  const task = await lab.run('sh ./hopper');
  const table = new ProcTable(runDir, systemClock);
  let missed = 0;
  for (let look = 0; look < 300; look++) {
    if ((await table.snapshot()).marked(task.taskId).length === 0) missed++;
  }
  writeFileSync(join(directory, 'enough'), '');
  await until(() => lab.marked(task).length === 0);
  // Once the pids may wrap around while they are listed: then the child is behind those that were listed already.
  expect(missed).toBeLessThanOrEqual(1);
});

describe('a process between two programs, which shows neither arguments nor environment', () => {
  const MARKED = 7;
  /** A process table of files: no real process can be held there. `onPause` is told how often was waited. */
  function held(onPause: (pauses: number) => void) {
    const [root, runDir] = [tempDirectory(), '/somewhere/.run'];
    mkdirSync(join(root, `${MARKED}`));
    const write = (name: string, text: string) => writeFileSync(join(root, `${MARKED}`, name), text);
    write('stat', `${MARKED} (sh) S 1 ${MARKED} ${MARKED} ${'0 '.repeat(15)}4711 0\n`);
    for (const name of ['environ', 'cmdline']) write(name, '');
    let pauses = 0;
    const pause = async () => onPause(++pauses);
    const table = new ProcTable(runDir, systemClock, { root, pause });
    return { table, pauses: () => pauses, begin: () => write('environ', `HOLDFAST_TASK=${runDir}/a\0`) };
  }

  it('is waited for, also where the machine stands still for a second', async () => {
    const { table, begin } = held((pauses) => {
      if (pauses === 1_000) begin();
    });
    expect((await table.snapshot()).marked('a')).toMatchObject([{ pid: MARKED, start: '4711' }]);
  });

  it('is waited for only once where it hangs, and is seen when it goes on', async () => {
    const { table, pauses, begin } = held(() => undefined);
    expect([...(await table.snapshot()).rows.keys()]).toEqual([MARKED]);
    const first = pauses();
    expect(first).toBeGreaterThan(1_000);
    await table.snapshot();
    await table.snapshot();
    expect(pauses()).toBe(first);
    begin();
    expect((await table.snapshot()).marked('a')).toHaveLength(1);
  });

  it('is not called gone by the scan that gave up on it', async () => {
    const work = new ProcessTree('a', nowhere, held(() => undefined).table);
    expect([await work.isGone(false), await work.isGone(false)]).toEqual([false, true]);
  });
});

describe('the marks', () => {
  it('of every task around are kept by a launch, whatever the paths, and read by both tables', async () => {
    const outer = new ProcessLab({ layout: oddLayout('a:b%3A c') });
    const middle = new ProcessLab();
    const inner = new ProcessLab();
    const [first, second] = [await outer.run(['sleep', '60']), await middle.run(['sleep', '60'])];
    // As the host has them that these tasks started.
    vi.stubEnv('HOLDFAST_TASK', `${outer.layout.runDir}/${first.taskId}`);
    const between = await middle.run(['sleep', '60'], { env: { HOLDFAST_ANCESTORS: 'forged' } });
    vi.stubEnv('HOLDFAST_TASK', `${middle.layout.runDir}/${second.taskId}`);
    vi.stubEnv('HOLDFAST_ANCESTORS', environmentOf(between).HOLDFAST_ANCESTORS);
    const task = await inner.run(['sleep', '60'], { inheritEnv: false, env: { PATH: process.env.PATH } });
    vi.unstubAllEnvs();
    await until(() =>
      [between, task].every((one) => inner.programs(one).concat(middle.programs(one)).includes('sleep')),
    );
    expect(environmentOf(first)).not.toHaveProperty('HOLDFAST_ANCESTORS');
    for (const open of [(lab: ProcessLab) => new ProcTable(lab.layout.runDir, systemClock), psTable]) {
      const ofOuter = pids((await open(outer).snapshot()).marked(first.taskId));
      expect(ofOuter).toEqual(sorted([...outer.marked(first), ...middle.marked(between), ...inner.marked(task)]));
      const ofMiddle = pids((await open(middle).snapshot()).marked(second.taskId));
      expect(ofMiddle).toEqual(sorted([...middle.marked(second), ...inner.marked(task)]));
      expect(pids((await open(inner).snapshot()).marked(task.taskId))).toEqual(sorted(inner.marked(task)));
    }
    await outer.stop(stopping(first), 'kill');
    expect(await outer.ended(stopping(first))).toMatchObject({ details: { signal: 'SIGKILL' } });
    expect([...outer.marked(first), ...middle.marked(between), ...inner.marked(task)]).toEqual([]);
    expect(middle.marked(second)).toHaveLength(2);
  });

  it('of many tasks are told apart in one list, whatever is in their paths, and only as a whole', () => {
    const folder = fc
      .string({ unit: 'binary', minLength: 1, maxLength: 12 })
      .map((name) => `/${name.replaceAll('\0', '')}/.run`);
    fc.assert(
      fc.property(fc.uniqueArray(folder, { minLength: 2, maxLength: 5 }), (folders) => {
        let host: NodeJS.ProcessEnv = {};
        for (const runDir of folders) {
          const env: NodeJS.ProcessEnv = { HOLDFAST_TASK: 'its own', HOLDFAST_ANCESTORS: 'its own' };
          setMarks(env, `${Buffer.from(runDir)}/t1`, host);
          host = env;
        }
        const list = host.HOLDFAST_ANCESTORS!;
        expect(list).toMatch(/^[^\s\0]+$/);
        const around = folders.slice(0, -1).map((runDir) => new MarkReader(`${Buffer.from(runDir)}`).innermost(list));
        expect(around).toEqual(folders.slice(1).map(() => 't1'));
        expect(new MarkReader('/elsewhere').innermost(list)).toBeUndefined();
        // A task of a folder that is inside another one twice: the inner one counts.
        setMarks(host, '/elsewhere/x', { HOLDFAST_TASK: `${folders[0]}/t2`, HOLDFAST_ANCESTORS: list });
        expect(new MarkReader(`${Buffer.from(folders[0]!)}`).innermost(host.HOLDFAST_ANCESTORS!)).toBe('t2');
      }),
    );
  });

  it('of a task that the same host registered make it no part of the task that the host runs in', async () => {
    const lab = new ProcessLab();
    const around = await lab.run(['sleep', '60']);
    vi.stubEnv('HOLDFAST_TASK', `${lab.layout.runDir}/${around.taskId}`);
    const own = await lab.run(['sleep', '60']);
    vi.unstubAllEnvs();
    await until(() => lab.programs(own).includes('sleep'));
    await lab.stop(stopping(around), 'kill');
    await lab.ended(stopping(around));
    expect(await lab.probe(own)).toEqual({ state: 'running' });
    expect(lab.marked(own)).toHaveLength(2);
  });

  it('are found in large environments, and only as whole variables', async () => {
    const lab = new ProcessLab();
    const { runDir } = lab.layout;
    const table = new ProcTable(runDir, systemClock);
    const filler = Object.fromEntries(Array.from({ length: 12 }, (_, n) => [`FILLER_${n}`, 'x'.repeat(100_000)]));
    const large = await lab.run(['sleep', '60'], { env: filler });
    const quoting = spawned('sleep', ['60'], { env: { A: `HOLDFAST_TASK=${runDir}/${large.taskId}` } });
    const snapshot = await until(async () => {
      const taken = await table.snapshot();
      return taken.marked(large.taskId).length === 2 && taken;
    });
    expect(snapshot.rows.get(quoting.pid!)?.taskId).toBeUndefined();
  });
});

it('a pid that changed hands between the scan and the signal is not signalled', async () => {
  const lab = new ProcessLab();
  const child = spawned('sleep', ['60']);
  const table = new ProcTable(lab.layout.runDir, systemClock);
  const work = new ProcessTree('a', placesOf(lab), table);
  const seen = table.row(child.pid!)!;
  await work.signal({ ...seen, start: `${Number(seen.start) - 1}` }, 'SIGKILL');
  expect(isAlive(child.pid!)).toBe(true);
  await work.signal(seen, 'SIGKILL');
  await until(() => !isAlive(child.pid!));
  await work.signal(seen, 'SIGKILL');
});

it('scans that are asked for together are made together', async () => {
  const lab = new ProcessLab();
  const table = new ProcTable(lab.layout.runDir, systemClock);
  const [first, ...rest] = await Promise.all(Array.from({ length: 20 }, () => table.snapshot()));
  expect(first).toBeDefined();
  expect(new Set(rest).size).toBe(1);
});

/** A directory whose name holds everything that the list of marks must get past. */
function oddLayout(name: string): Layout {
  const layout = new Layout(join(tempDirectory(), name));
  mkdirSync(layout.runDir, { recursive: true });
  return layout;
}

const sorted = (numbers: number[]): number[] => numbers.sort((a, b) => a - b);

function psTable({ layout }: ProcessLab): ProcessTable {
  return new PsTable(layout.runDir);
}

function environmentOf({ details }: ProcessTask): Record<string, string | undefined> {
  const variables = readFileSync(`/proc/${details.pid}/environ`, 'utf8').split('\0');
  return Object.fromEntries(variables.map((text) => /^([^=]*)=(.*)$/s.exec(text)?.slice(1) ?? ['', '']));
}

const nowhere = { runDir: '/somewhere/.run', outputPath: '/somewhere/a/output.log' };

function placesOf({ layout }: ProcessLab) {
  return { runDir: layout.runDir, outputPath: layout.outputPath('a') };
}

function childrenOf(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);
}
