/* The ceiling of the output: how soon a writer stands still, and that it is only said once. */
import { appendFileSync, mkdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../src/clock.js';
import { OutputLimits } from '../../src/process/output-limit.js';
import type { ProcessTask } from '../../src/task/types.js';
import { FakeClock } from '../helpers/clock.js';
import { ProcessLab, stateOf, stopping } from '../helpers/process.js';
import { tempDirectory, until } from '../helpers/wait.js';

const LIMIT = 1024 * 1024;
/** What `yes` writes in the time that it takes to notice, many times over: a ceiling that does not hold is passed within a second. */
const OVERSHOOT = 512 * 1024 * 1024;

/**
 * A writer without end, of tens of megabytes a second, but for a ceiling of the system's own at a gigabyte: should a test be killed, it must
 * not fill the disk. It does not fork: a shell that waits for a child would not stand still in a way that can be seen.
 */
const YES = 'ulimit -f 2097152; while :; do printf %64s; done';

const limited = (maxOutputBytes = LIMIT) => ({ maxOutputBytes }) as Partial<ProcessTask>;
const sizeOf = (lab: ProcessLab, task: ProcessTask) => statSync(lab.layout.outputPath(task.taskId)).size;

/** What it had written when it was found to stand still. */
async function exceeded(lab: ProcessLab, task: ProcessTask): Promise<number> {
  await until(() => lab.exceeded.includes(task.taskId));
  return atRest(lab, task);
}

/** A write that is under way is finished first; a shell that waits for a child (D) stands still with it. */
async function atRest(lab: ProcessLab, task: ProcessTask): Promise<number> {
  return until(async () => {
    const before = sizeOf(lab, task);
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    const isStill = lab.marked(task).every((pid) => 'TD'.includes(stateOf(pid) ?? 'T'));
    return isStill && sizeOf(lab, task) === before && before;
  });
}

describe('a process that writes beyond its limit', () => {
  it('stands still before anybody is told, and is ended by the stop', async () => {
    const lab = new ProcessLab();
    const task = await lab.run(YES, {}, limited());
    const size = await exceeded(lab, task);
    expect(size).toBeGreaterThan(LIMIT);
    expect(size).toBeLessThan(LIMIT + OVERSHOOT);
    for (const pid of lab.marked(task)) expect(stateOf(pid)).toBe('T');
    expect(await lab.probe(task)).toEqual({ state: 'running' });
    await lab.stop(stopping({ ...task, startedAt: 0 }), 'terminate');
    expect(await lab.ended(stopping(task))).toMatchObject({ details: { exitCode: 143 } });
    expect(lab.exceeded).toEqual([task.taskId]);
  });

  it('stands still in whatever session it writes', async () => {
    const lab = new ProcessLab();
    const task = await lab.run('ulimit -f 2097152; setsid yes & setsid -f yes; wait', {}, limited());
    const size = await exceeded(lab, task);
    expect(sizeOf(lab, task)).toBe(size);
    await lab.stop(stopping(task), 'kill');
    await lab.ended(stopping(task));
    expect(lab.marked(task)).toEqual([]);
  });

  it('is held again when it goes on in spite of the stop, and ended by the kill', async () => {
    const lab = new ProcessLab();
    const task = await lab.run(`trap '' TERM; ${YES}`, {}, limited());
    const first = await exceeded(lab, task);
    await lab.stop(stopping({ ...task, startedAt: 0 }), 'terminate');
    await until(() => sizeOf(lab, task) > first + 64 * 1024);
    await until(() => stateOf(task.details.pid!) === 'T');
    expect(await atRest(lab, task)).toBeLessThan(first + OVERSHOOT);
    await lab.stop(stopping(task), 'kill');
    expect(await lab.ended(stopping(task))).toMatchObject({ details: { signal: 'SIGKILL' } });
    expect(lab.exceeded).toEqual([task.taskId]);
  });

  it('is stopped by the host that adopts it', async () => {
    const lab = new ProcessLab();
    const gate = join(lab.layout.directory, 'gate');
    const task = await lab.visible(await lab.run(`until [ -e ${gate} ]; do sleep 0.02; done; ${YES}`));
    lab.dispose();
    const next = new ProcessLab({ layout: lab.layout });
    const adopted = { ...task, ...limited() };
    expect(await next.probe(adopted)).toEqual({ state: 'running' });
    writeFileSync(gate, '');
    expect(await exceeded(next, adopted)).toBeGreaterThan(LIMIT);
  });

  it('keeps its limit after a long rest', async () => {
    const lab = new ProcessLab();
    const gate = join(lab.layout.directory, 'gate');
    const task = await lab.run(`echo one; until [ -e ${gate} ]; do sleep 0.02; done; ${YES}`, {}, limited());
    await lab.printed(task, 'one');
    writeFileSync(gate, '');
    expect(await exceeded(lab, task)).toBeLessThan(LIMIT + OVERSHOOT);
  });
});

describe('a process within its limit', () => {
  it('is left alone, to the last byte', async () => {
    const lab = new ProcessLab();
    const task = await lab.run(`head -c ${LIMIT} /dev/zero`, {}, limited());
    expect(await lab.ended(task)).toMatchObject({ state: 'completed' });
    expect(sizeOf(lab, task)).toBe(LIMIT);
    await lab.settled(task);
    expect(lab.exceeded).toEqual([]);
  });

  it('has no watch where it has no limit', async () => {
    const clock = new FakeClock();
    const lab = new ProcessLab({ clock });
    const task = await lab.run('echo one; exec sleep 60', {}, { maxOutputBytes: Infinity } as Partial<ProcessTask>);
    await lab.printed(task, 'one');
    expect(await lab.probe(task)).toEqual({ state: 'running' });
    expect(clock.pendingTimers).toBe(0);
  });
});

describe('the guard of one file', () => {
  function guarded(limit: number, path = join(tempDirectory(), 'output')) {
    const clock = new FakeClock();
    const log: string[] = [];
    const limits = new OutputLimits(clock, {
      freeze: async () => void log.push('frozen'),
      onExceeded: () => log.push('exceeded'),
      onError: (error) => log.push(error.message),
    });
    onTestFinished(() => limits.close());
    return { clock, log, limits, path, arm: () => limits.arm('a', path, limit) };
  }

  it('sleeps until the file grows, looks often while it grows, and sleeps again', async () => {
    const { clock, path, arm } = guarded(1000);
    writeFileSync(path, '');
    arm();
    expect(clock.pendingTimers).toBe(0);
    appendFileSync(path, 'x');
    await until(() => clock.pendingTimers === 1);
    expect(clock.nextTimerIn).toBe(5);
    for (let look = 0; look < 50; look++) {
      appendFileSync(path, 'x');
      await clock.advance(5);
      expect(clock.pendingTimers).toBe(1);
    }
    await clock.advance(60);
    expect(clock.pendingTimers).toBe(0);
    appendFileSync(path, 'x');
    await until(() => clock.pendingTimers === 1);
  });

  it('looks less often the farther the limit is', async () => {
    for (const [limit, pause] of [
      [100_000_000, 100],
      [10_000_000_000, 250],
    ] as const) {
      const { clock, path, arm } = guarded(limit);
      writeFileSync(path, '');
      arm();
      appendFileSync(path, 'x');
      await until(() => clock.pendingTimers === 1);
      expect(clock.nextTimerIn).toBeCloseTo(pause, 0);
    }
  });

  it('says so at once of a file that is beyond it already, and says it once', async () => {
    const { log, path, arm, clock } = guarded(10);
    writeFileSync(path, 'x'.repeat(11));
    arm();
    arm();
    await until(() => log.length === 2);
    appendFileSync(path, 'x'.repeat(64 * 1024 + 1));
    await until(() => log.length === 3);
    appendFileSync(path, 'x'.repeat(64 * 1024 + 1));
    await until(() => log.length === 4);
    await clock.advance(1000);
    expect(log).toEqual(['frozen', 'exceeded', 'frozen', 'frozen']);
  });

  it('looks now and then where the file cannot be watched, and reports that once', async () => {
    const { clock, log, path, arm } = guarded(10);
    arm();
    expect(log).toEqual([expect.stringContaining('ENOENT')]);
    writeFileSync(path, 'x'.repeat(10));
    for (let look = 0; look < 40; look++) await clock.advance(250);
    expect(clock.pendingTimers).toBe(1);
    writeFileSync(path, 'x'.repeat(11));
    await clock.advance(5);
    await until(() => log.includes('exceeded'));
    expect(log.filter((line) => line.includes('ENOENT'))).toHaveLength(1);
  });

  it('survives a file that is taken away or cut', async () => {
    const { clock, log, path, arm } = guarded(10);
    writeFileSync(path, 'x'.repeat(5));
    arm();
    truncateSync(path, 1);
    rmSync(path);
    await clock.advance(1000);
    expect(log.filter((line) => line === 'exceeded')).toEqual([]);
  });

  it('does nothing once it is closed, also while it waits', async () => {
    const { clock, log, path, limits, arm } = guarded(1000);
    writeFileSync(path, '');
    arm();
    appendFileSync(path, 'x');
    await until(() => clock.pendingTimers === 1);
    limits.disarm('a');
    limits.disarm('a');
    expect(clock.pendingTimers).toBe(0);
    appendFileSync(path, 'x'.repeat(2000));
    await clock.advance(1000);
    expect(log).toEqual([]);
  });

  it('tells of a freeze that failed, and of the limit all the same', async () => {
    const path = join(tempDirectory(), 'output');
    writeFileSync(path, 'xx');
    const log: string[] = [];
    const limits = new OutputLimits(systemClock, {
      freeze: () => Promise.reject(new Error('no')),
      onExceeded: () => log.push('exceeded'),
      onError: (error) => log.push(error.message),
    });
    onTestFinished(() => limits.close());
    limits.arm('a', path, 1);
    await until(() => log.length === 2);
    expect(log).toEqual(['no', 'exceeded']);
  });
});

it('leaves no watch behind over many tasks', async () => {
  const lab = new ProcessLab();
  for (let round = 0; round < 20; round++) {
    const task = await lab.run(['echo', 'x'], {}, limited());
    await lab.ended(task);
    await lab.settled(task);
  }
  // The test fails by itself when a watch or timer is left: see helpers/leaks.ts.
  mkdirSync(join(lab.layout.directory, 'done'));
});
