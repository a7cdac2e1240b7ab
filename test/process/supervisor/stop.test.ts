/* Stopping trees that fight back, and leaving strangers alone. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/clock.js';
import { ProcessTree } from '../../../src/process/supervisor/process-tree.js';
import { freeze, kill, terminate } from '../../../src/process/supervisor/stages.js';
import { ProcTable } from '../../../src/process/table/proc-table.js';
import { type ProcessTable, Snapshot } from '../../../src/process/table/process-table.js';
import type { ProcessTask } from '../../../src/task/types.js';
import { FakeClock } from '../../helpers/clock.js';
import { isAlive, ProcessLab, spawned, stateOf, stopping } from '../../helpers/process.js';
import { until } from '../../helpers/wait.js';

/**
 * Stopped as the manager does it: asked once, and from then on killed again and again until the probe says that it
 * ended.
 */
async function stop(lab: ProcessLab, running: ProcessTask, ...stages: ('terminate' | 'kill')[]) {
  const task = stopping(running);
  for (const stage of stages) await lab.stop(task, stage);
  return lab.ended(task);
}

/** Old enough not to be asked twice. */
const old = (task: ProcessTask): ProcessTask => ({ ...task, startedAt: task.startedAt! - 60_000 });

const pidsIn = (output: string): number[] => output.split(/\s+/).filter(Boolean).map(Number);

describe('terminate', () => {
  it('ends a command, and its supervisor tells how', async () => {
    const lab = new ProcessLab();
    const task = await lab.run('echo ready; exec sleep 60');
    await lab.printed(task, 'ready');
    expect(await stop(lab, old(task), 'terminate')).toMatchObject({ details: { exitCode: 143, signal: 'SIGTERM' } });
    expect(lab.marked(task)).toEqual([]);
  });

  it('lets a command end in its own way', async () => {
    const lab = new ProcessLab();
    const task = await lab.run(`trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.02; done`);
    await lab.printed(task, 'ready');
    expect(await stop(lab, old(task), 'terminate')).toMatchObject({ state: 'completed' });
    expect(lab.output(task).toString()).toContain('bye');
  });

  it('reaches who went to a group or session of its own', async () => {
    const lab = new ProcessLab();
    const task = await lab.run(
      'timeout 60 sleep 59 & setsid sleep 58 & setsid sh -c "sleep 57 & sleep 56" & echo ready; wait',
    );
    await lab.printed(task, 'ready');
    await until(() => lab.marked(task).length >= 7);
    await stop(lab, old(task), 'terminate');
    expect(lab.marked(task)).toEqual([]);
  });

  it('reaches who wiped its environment but stayed in the session', async () => {
    const lab = new ProcessLab();
    const task = await lab.run('env -i sleep 59 & echo $!; wait');
    const [pid] = pidsIn(await lab.printed(task, '\n'));
    await until(() => readFileSync(`/proc/${pid}/environ`, 'latin1') === '');
    await stop(lab, old(task), 'terminate');
    expect(isAlive(pid!)).toBe(false);
  });

  it('ends who stands still', async () => {
    const lab = new ProcessLab();
    const task = await lab.run('sleep 59 & echo $!; setsid sleep 58 & echo $!; wait');
    const pids = await until(() => {
      const found = pidsIn(lab.output(task).toString());
      return found.length === 2 && found;
    });
    for (const pid of [...pids, task.details.pid!]) process.kill(pid, 'SIGSTOP');
    await until(() => pids.every((pid) => stateOf(pid) === 'T'));
    await stop(lab, old(task), 'terminate');
    expect(pids.filter(isAlive)).toEqual([]);
  });

  it('asks a young task a second time, and only a young one', async () => {
    const clock = new FakeClock();
    const lab = new ProcessLab({ clock });
    const command = `n=0; trap 'n=$((n+1)); echo asked $n' TERM; echo ready; while [ $n -lt 2 ]; do sleep 0.02; done`;
    const young = await lab.run(command);
    await lab.printed(young, 'ready');
    await lab.stop(stopping(young), 'terminate');
    await lab.printed(young, 'asked 1');
    expect(clock.nextTimerIn).toBe(100);
    await clock.advance(100);
    await lab.printed(young, 'asked 2');
    const grown = await lab.run(command);
    await lab.printed(grown, 'ready');
    await lab.stop(stopping(old(grown)), 'terminate');
    await lab.printed(grown, 'asked 1');
    expect(clock.pendingTimers).toBe(0);
    await lab.stop(stopping(old(grown)), 'terminate');
    await lab.printed(grown, 'asked 2');
  });

  it('is not lost on tasks that are only just beginning', async () => {
    const clock = new FakeClock();
    const lab = new ProcessLab({ clock });
    for (let round = 0; round < 40; round++) {
      const task = stopping(await lab.run(['sleep', '60']));
      for (let turn = 0; turn < round % 8; turn++) await new Promise(setImmediate);
      await lab.stop(task, 'terminate');
      // What a shell on its way to the command swallowed is asked for again once the command has begun.
      await until(async () => lab.programs(task).includes('sleep') || (await lab.probe(task)).state !== 'running');
      await clock.advance(100);
      expect((await lab.ended(task)).state).toBe('failed');
      await lab.settled(task);
    }
  });

  it('works for a task that another host started', async () => {
    const lab = new ProcessLab();
    const task = await lab.run('echo ready; exec sleep 60');
    await lab.printed(task, 'ready');
    const next = new ProcessLab({ layout: lab.layout });
    expect(await stop(next, old(task), 'terminate')).toMatchObject({ details: { exitCode: 143 } });
  });

  it('works when the supervisor is gone and the tree lives', async () => {
    const lab = new ProcessLab();
    const task = await lab.run('env -i sleep 59 & echo $!; sleep 58');
    const [unmarked] = pidsIn(await lab.printed(task, '\n'));
    const table = new ProcTable(lab.layout.runDir, systemClock);
    await until(() => readFileSync(`/proc/${unmarked}/environ`, 'latin1') === '');
    // Starts are counted in hundredths of a second.
    await until(() => table.now() > Number(table.row(unmarked!)!.start) + 1);
    process.kill(task.details.pid!, 'SIGKILL');
    await until(() => lab.hints.length > 0);
    expect(await lab.probe(task)).toEqual({ state: 'running' });
    // Also the one without a mark: it was in the session before the supervisor went.
    expect(await stop(lab, old(task), 'terminate')).toMatchObject({ state: 'failed', details: { signal: 'SIGKILL' } });
    expect(isAlive(unmarked!)).toBe(false);
  });
});

describe('kill', () => {
  it('ends who ignores everything, and the supervisor tells how', async () => {
    // The time stands still: however slow the supervisor is, it has the time to write.
    const lab = new ProcessLab({ clock: new FakeClock() });
    const task = await lab.run(`trap '' TERM HUP INT; echo ready; while :; do sleep 0.05; done`);
    await lab.printed(task, 'ready');
    await lab.stop(stopping(old(task)), 'terminate');
    expect(await lab.probe(stopping(task))).toEqual({ state: 'running' });
    expect(await stop(lab, task, 'kill')).toMatchObject({ details: { exitCode: 137, signal: 'SIGKILL' } });
    expect(lab.marked(task)).toEqual([]);
  });

  it('ends daemons in sessions of their own that ignore SIGTERM', async () => {
    const lab = new ProcessLab();
    const daemon = `setsid sh -c "trap '' TERM; while :; do sleep 0.05; done" &`;
    const task = await lab.run(`${daemon} ${daemon} ${daemon} echo ready; exit 0`);
    await lab.printed(task, 'ready');
    await until(() => existsSync(lab.layout.exitPath(task.taskId)));
    expect(await stop(lab, task, 'terminate', 'kill')).toMatchObject({ state: 'completed' });
    expect(lab.marked(task)).toEqual([]);
  });

  it('ends a tree that grows while it is killed', async () => {
    const lab = new ProcessLab();
    // Each generation leaves its session and its parent: about as hard as it gets without filling the process table.
    writeFileSync(join(lab.layout.directory, 'hydra'), `sleep 0.01\nsetsid sh "$0" &\n`);
    const task = await lab.run(`for n in 1 2 3 4 5 6; do setsid sh ./hydra & done; sh -c 'while :; do sleep 0 & done'`);
    await until(() => lab.marked(task).length > 6);
    const stopped = stopping(task);
    await until(async () => {
      await lab.stop(stopped, 'kill');
      return (await lab.probe(stopped)).state !== 'running';
    });
    expect(lab.marked(task)).toEqual([]);
  });

  it('ends a supervisor that cannot write its record', async () => {
    const lab = new ProcessLab();
    const task = await lab.run(['sleep', '60']);
    mkdirSync(lab.layout.exitPath(task.taskId));
    await lab.stop(stopping(task), 'kill');
    await until(() => lab.marked(task).length === 0);
    rmSync(lab.layout.exitPath(task.taskId), { recursive: true });
    expect(await lab.ended(stopping(task))).toMatchObject({ details: { exitCode: null, signal: 'SIGKILL' } });
  });

  it('is harmless when everything is gone, and when done twice', async () => {
    const lab = new ProcessLab();
    const task = stopping(await lab.run('true'));
    await lab.ended(task);
    for (const how of ['terminate', 'kill', 'kill', 'terminate'] as const) await lab.stop(task, how);
    await lab.settled(task);
    await lab.stop(stopping(lab.task()), 'kill');
    expect(lab.errors).toEqual([]);
  });
});

describe('a stranger with a recycled pid', () => {
  /** The leader of a session with a child, and none of ours. */
  async function stranger(lab: ProcessLab, args: readonly string[] = ['-c', 'sleep 61 & echo $! >stranger; wait']) {
    const child = spawned('/bin/sh', args, { detached: true, cwd: lab.layout.directory });
    const file = join(lab.layout.directory, 'stranger');
    const inner = await until(() => existsSync(file) && Number(readFileSync(file, 'utf8')));
    return { pid: child.pid!, inner, leader: child };
  }

  it.each(['the record', 'the file', 'both'])('in %s is neither believed nor signalled', async (where) => {
    const lab = new ProcessLab();
    const { pid, inner } = await stranger(lab);
    const task = lab.task({ pid: where === 'the file' ? null : pid });
    if (where !== 'the record') writeFileSync(lab.layout.pidPath(task.taskId), `${pid}\n`);
    for (const how of ['terminate', 'kill'] as const) await lab.stop(stopping(task), how);
    expect(await lab.probe(task)).toEqual({ state: 'gone' });
    expect(await lab.probe(stopping(task))).toEqual({ state: 'gone' });
    expect([isAlive(pid), isAlive(inner)]).toEqual([true, true]);
    // One that was just born becomes so; one that was stopped does not.
    await until(() => [pid, inner].every((one) => stateOf(one) === 'S'));
  });

  it('that is the supervisor of another task is not this one', async () => {
    const lab = new ProcessLab();
    const other = await lab.run(['sleep', '60']);
    await until(() => lab.marked(other).length === 2);
    const task = lab.task({ pid: other.details.pid });
    await lab.stop(stopping(task), 'kill');
    expect(await lab.probe(task)).toEqual({ state: 'gone' });
    expect(await lab.probe(other)).toEqual({ state: 'running' });
    expect(lab.marked(other)).toHaveLength(2);
  });

  it('that only talks about the task is not its supervisor', async () => {
    const lab = new ProcessLab();
    const { runDir } = lab.layout;
    const task = lab.task();
    const child = spawned('sleep', ['60'], { detached: true, argv0: `holdfast ${runDir} ${task.taskId}` });
    const other = spawned('tail', ['-f', '/dev/null', 'holdfast', runDir, task.taskId], { detached: true });
    for (const { pid } of [child, other]) {
      const recorded = { ...task, details: { ...task.details, pid: pid! } };
      await lab.stop(stopping(recorded), 'kill');
      expect(await lab.probe(recorded)).toEqual({ state: 'gone' });
      expect(isAlive(pid!)).toBe(true);
    }
  });

  it('that took the pid of a supervisor while its tree lives is left alone, and the tree is not', async () => {
    const lab = new ProcessLab();
    const task = await lab.run('setsid sh -c "echo ready; exec sleep 60" & wait');
    await lab.printed(task, 'ready');
    const { pid, inner } = await stranger(lab);
    process.kill(-task.details.pid!, 'SIGKILL');
    const next = new ProcessLab({ layout: lab.layout });
    writeFileSync(lab.layout.pidPath(task.taskId), `${pid}\n`);
    const recycled = { ...task, details: { ...task.details, pid } };
    await until(() => lab.marked(task).length === 1);
    expect(await next.probe(recycled)).toEqual({ state: 'running' });
    expect(await stop(next, old(recycled), 'terminate', 'kill')).toEqual({ state: 'gone' });
    expect(lab.marked(task)).toEqual([]);
    expect([isAlive(pid), isAlive(inner)]).toEqual([true, true]);
  });
});

describe('the event loop has its turn', () => {
  /** Two readings make a slice: whatever is done between them takes a millisecond. */
  const slow = () => {
    let ms = 0;
    return { ...systemClock, monotonic: () => ++ms };
  };
  async function turnsDuring(work: Promise<unknown>): Promise<number> {
    let turns = 0;
    const beat = () => {
      turns++;
      beating = setImmediate(beat);
    };
    let beating = setImmediate(beat);
    await work.finally(() => clearImmediate(beating));
    return turns;
  }

  it('between the processes that are looked at', async () => {
    const lab = new ProcessLab();
    const table = new ProcTable(lab.layout.runDir, slow());
    const count = () => readdirSync('/proc').filter((name) => /^\d+$/.test(name)).length;
    for (const scan of [() => table.snapshot(), () => table.commandLines()]) {
      // Counted on both sides: other processes come and go.
      const before = count();
      const turns = await turnsDuring(scan());
      expect(turns).toBeGreaterThan(Math.min(before, count()) / 4);
    }
  });

  it.each([
    ['asked to end', terminate],
    ['killed', kill],
    ['frozen', freeze],
  ])('between the processes that are %s', async (_how, stage) => {
    // No process has such a pid.
    const rows = Array.from({ length: 300 }, (_, n) => {
      const pid = 2 ** 22 + 1 + n;
      return { pid, ppid: 1, pgid: pid, session: pid, start: '1', taskId: 'a' };
    });
    const snapshot = new Snapshot(rows);
    const table: ProcessTable = {
      snapshot: () => Promise.resolve(snapshot),
      row: (pid) => snapshot.rows.get(pid),
      commandLine: () => undefined,
      commandLines: () => Promise.resolve(new Map()),
      printsTo: () => false,
      now: () => Number.NaN,
    };
    const turns = await turnsDuring(
      stage(new ProcessTree('a', { runDir: '/nowhere', outputPath: '/nowhere/output.log' }, table), slow()),
    );
    expect(turns).toBeGreaterThan(rows.length / 4);
  });
});
