/* The ceiling of the output: how soon a writer stands still, and that it is only said once. */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../src/clock.js';
import { OutputFile } from '../../src/output/output-file.js';
import { HeldOutput } from '../../src/process/held-output.js';
import { OutputGuard } from '../../src/process/output-guard.js';
import type { ProcessTask } from '../../src/task/types.js';
import { FakeClock } from '../helpers/clock.js';
import { ProcessLab, stateOf, stopping } from '../helpers/process.js';
import { tempDirectory, until } from '../helpers/wait.js';

const LIMIT = 1024 * 1024;
/**
 * What `yes` writes in the time that it takes to notice, many times over: a ceiling that does not hold is passed within
 * a second.
 */
const OVERSHOOT = 512 * 1024 * 1024;

/**
 * A writer without end, of tens of megabytes a second, but for a ceiling of the system's own at a gigabyte: should a
 * test be killed, it must not fill the disk. It does not fork: a shell that waits for a child would not stand still in
 * a way that can be seen.
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

describe('a process that takes its output away', () => {
  /** What its supervisor has open, wherever that is now. */
  const writtenBy = (task: ProcessTask) => statSync(`/proc/${task.details.pid}/fd/1`).size;

  it.each([
    ['removes', 'rm "$OUT"'],
    ['moves', 'mv "$OUT" "$OUT.moved"'],
    ['moves and replaces', 'mv "$OUT" "$OUT.moved"; echo >"$OUT"'],
    ['replaces by a FIFO', 'rm "$OUT"; mkfifo "$OUT"'],
  ])('%s it is held to its limit, by its own host and the next', async (_how, take) => {
    const lab = new ProcessLab();
    const gate = join(lab.layout.directory, 'gate');
    for (const adopted of [false, true]) {
      const task = lab.task({ command: `${take}; : >taken; until [ -e ${gate} ]; do sleep 0.02; done; ${YES}` });
      const running = await lab.start(adopted ? task : { ...task, ...limited() }, {
        env: { OUT: lab.layout.outputPath(task.taskId) },
      });
      await until(() => existsSync(join(lab.layout.directory, 'taken')));
      const host = adopted ? new ProcessLab({ layout: lab.layout }) : lab;
      const seen = { ...running, ...limited() };
      if (adopted) {
        await lab.dispose();
        expect(await host.probe(seen)).toEqual({ state: 'running' });
      }
      writeFileSync(gate, '');
      await until(() => host.exceeded.includes(task.taskId));
      expect(writtenBy(running)).toBeLessThan(LIMIT + OVERSHOOT);
      await host.stop(stopping(running), 'kill');
      await until(() => lab.marked(running).length === 0);
      rmSync(gate);
      rmSync(join(lab.layout.directory, 'taken'));
    }
  });
});

describe('no task is left frozen without a stop on record', () => {
  const isFrozen = (lab: ProcessLab, task: ProcessTask) =>
    lab.marked(task).length > 0 && lab.marked(task).every((pid) => stateOf(pid) === 'T');
  const goesOn = (lab: ProcessLab, task: ProcessTask) =>
    until(() => lab.marked(task).every((pid) => stateOf(pid) !== 'T'));

  it('when the host ends before the stop is written, at any moment of the freeze', async () => {
    for (let round = 0; round < 12; round++) {
      const lab = new ProcessLab();
      const task = await lab.run(YES, {}, limited());
      await until(() => sizeOf(lab, task) > LIMIT);
      for (let turn = 0; turn < round; turn++) await new Promise(setImmediate);
      await lab.dispose();
      expect(lab.marked(task).filter((pid) => stateOf(pid) === 'T')).toEqual([]);
      await new ProcessLab({ layout: lab.layout }).stop(stopping(task), 'kill');
    }
  });

  it('by a killed host: the next one reports a task beyond the limit, and its stop lets it go on', async () => {
    const lab = new ProcessLab();
    const task = await lab.run(YES, {}, limited());
    await exceeded(lab, task);
    // As after a kill: it was not continued.
    await lab.dispose(() => true);
    expect(isFrozen(lab, task)).toBe(true);
    const next = new ProcessLab({ layout: lab.layout });
    expect(await next.probe(task)).toEqual({ state: 'running' });
    await until(() => next.exceeded.includes(task.taskId));
    await next.stop(stopping({ ...task, startedAt: 0 }), 'terminate');
    expect(await next.ended(stopping(task))).toMatchObject({ details: { exitCode: 143 } });
  });

  it('by a killed host: the next one lets a task within the limit go on', async () => {
    const lab = new ProcessLab();
    const task = await lab.run('sleep 600 & setsid sleep 600 & echo ready; wait', {}, limited());
    await lab.printed(task, 'ready');
    await lab.visible(task);
    await until(() => lab.programs(task).join() === '/bin/sh,/bin/sh,sleep,sleep');
    for (const pid of lab.marked(task)) process.kill(pid, 'SIGSTOP');
    await until(() => isFrozen(lab, task));
    const next = new ProcessLab({ layout: lab.layout });
    // A task without a ceiling, or with a stop on record, was stopped by other means: not for us to undo.
    const { maxOutputBytes: _, ...unlimited } = task as ProcessTask & { maxOutputBytes: number };
    await next.probe(unlimited);
    expect(isFrozen(lab, task)).toBe(true);
    expect(await next.probe(task)).toEqual({ state: 'running' });
    await goesOn(lab, task);
    expect(next.exceeded).toEqual([]);
  });

  it('by a killed host: a command that is stopped by other means, while its supervisor is not, stays so', async () => {
    const lab = new ProcessLab();
    const task = await lab.visible(await lab.run('echo $$; exec sleep 600', {}, limited()));
    const command = Number(await lab.printed(task, '\n'));
    process.kill(command, 'SIGSTOP');
    await until(() => stateOf(command) === 'T');
    const next = new ProcessLab({ layout: lab.layout });
    expect(await next.probe(task)).toEqual({ state: 'running' });
    expect(stateOf(command)).toBe('T');
  });

  it('when its command has ended and what it left is frozen', async () => {
    const lab = new ProcessLab();
    const gate = join(lab.layout.directory, 'gate');
    const task = await lab.run(`(until [ -e ${gate} ]; do sleep 0.02; done; ${YES}) & exit 0`, {}, limited());
    await until(() => existsSync(lab.layout.exitPath(task.taskId)));
    writeFileSync(gate, '');
    await exceeded(lab, task);
    expect((await lab.ended(task)).state).toBe('completed');
    await lab.settled(task);
    await goesOn(lab, task);
  });

  it('when its command has ended and what it left was frozen by a killed host', async () => {
    const lab = new ProcessLab();
    const task = await lab.run('sleep 600 & head -c 2000000 /dev/zero; exit 0', {}, limited(3_000_000));
    await until(() => existsSync(lab.layout.exitPath(task.taskId)));
    await until(() => lab.programs(task).join() === 'sleep');
    const [left] = lab.marked(task);
    process.kill(left!, 'SIGSTOP');
    await until(() => stateOf(left!) === 'T');
    const next = new ProcessLab({ layout: lab.layout });
    const adopted = { ...task, ...limited() };
    expect((await next.ended(adopted)).state).toBe('completed');
    await next.settled(adopted);
    await until(() => stateOf(left!) !== 'T');
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
    const writers = { freeze: async () => void log.push('frozen'), thaw: async () => void log.push('thawed') };
    const begin = () => {
      const guard = new OutputGuard({
        output: HeldOutput.open(new OutputFile(path)),
        maxBytes: limit,
        writers,
        clock,
        onExceeded: () => log.push('exceeded'),
        onError: (error) => log.push(error.message),
      });
      onTestFinished(() => guard.close(false));
      return { guard, isWithin: guard.begin() };
    };
    return { clock, log, path, writers, begin };
  }

  it('sleeps until the file grows, looks often while it grows, and sleeps again', async () => {
    const { clock, path, begin } = guarded(1000);
    writeFileSync(path, '');
    begin();
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
      const { clock, path, begin } = guarded(limit);
      writeFileSync(path, '');
      begin();
      appendFileSync(path, 'x');
      await until(() => clock.pendingTimers === 1);
      expect(clock.nextTimerIn).toBeCloseTo(pause, 0);
    }
  });

  it('says so at once of a file that is beyond it already, and says it once', async () => {
    const { log, path, begin, clock } = guarded(10);
    writeFileSync(path, 'x'.repeat(11));
    expect(begin().isWithin).toBe(false);
    await until(() => log.length === 2);
    appendFileSync(path, 'x'.repeat(64 * 1024 + 1));
    await until(() => log.length === 3);
    appendFileSync(path, 'x'.repeat(64 * 1024 + 1));
    await until(() => log.length === 4);
    await clock.advance(1000);
    expect(log).toEqual(['frozen', 'exceeded', 'frozen', 'frozen']);
  });

  it('looks now and then where the file cannot be watched, and reports that once', async () => {
    const { clock, log, path, begin } = guarded(10);
    begin();
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
    const { clock, log, path, begin } = guarded(10);
    writeFileSync(path, 'x'.repeat(5));
    begin();
    truncateSync(path, 1);
    rmSync(path);
    await clock.advance(1000);
    expect(log.filter((line) => line === 'exceeded')).toEqual([]);
  });

  it('does nothing once it is closed, also while it waits', async () => {
    const { clock, log, path, begin } = guarded(1000);
    writeFileSync(path, '');
    const { guard } = begin();
    appendFileSync(path, 'x');
    await until(() => clock.pendingTimers === 1);
    await guard.close(false);
    await guard.close(false);
    expect(clock.pendingTimers).toBe(0);
    appendFileSync(path, 'x'.repeat(2000));
    await clock.advance(1000);
    expect(log).toEqual([]);
  });

  it('holds on to the file that it was armed with, whatever comes to its path', async () => {
    const { clock, log, path, begin } = guarded(10);
    writeFileSync(path, '');
    const writer = openSync(path, 'a');
    onTestFinished(() => closeSync(writer));
    begin();
    renameSync(path, `${path}.moved`);
    writeFileSync(path, '');
    writeSync(writer, 'x'.repeat(10));
    await clock.advance(1000);
    rmSync(`${path}.moved`);
    await clock.advance(1000);
    expect(log).toEqual([]);
    writeSync(writer, 'x');
    // By the watch, or by the next look where an earlier event woke it.
    await until(async () => {
      await clock.advance(250);
      return log.includes('exceeded');
    });
    expect(log).toEqual(['frozen', 'exceeded']);
  });

  it('opens nothing but a regular file, and holds nothing once it is closed', async () => {
    const { path } = guarded(10);
    const outcomes: (number | undefined)[] = [];
    for (const make of [
      () => execFileSync('mkfifo', [path]),
      () => symlinkSync('/dev/zero', path),
      () => mkdirSync(path),
    ]) {
      make();
      const output = HeldOutput.open(new OutputFile(path));
      outcomes.push(output.size());
      output.close();
      rmSync(path, { recursive: true });
    }
    expect(outcomes).toEqual([undefined, undefined, undefined]);
    writeFileSync(path, 'abc');
    const output = HeldOutput.open(new OutputFile(path));
    expect(output.size()).toBe(3);
    output.close();
  });

  describe('that is ended while its task is frozen, or is being frozen,', () => {
    /** Armed beyond its limit; `frozen` lets the freeze end. */
    function freezing() {
      const { log, path, writers, begin } = guarded(1);
      let frozen = () => {};
      writers.freeze = () =>
        new Promise<undefined>((resolve) => {
          log.push('freezing');
          frozen = () => resolve(undefined);
        });
      writeFileSync(path, 'xx');
      const { guard, isWithin } = begin();
      expect(isWithin).toBe(false);
      return { log, guard, frozen: () => frozen() };
    }

    it('lets it go on when the freeze is over, and reports nothing', async () => {
      const { log, guard, frozen } = freezing();
      const closed = guard.close(false);
      expect(log).toEqual(['freezing']);
      frozen();
      await closed;
      expect(log).toEqual(['freezing', 'thawed']);
    });

    it('leaves it where its stop will be carried out', async () => {
      const { log, guard, frozen } = freezing();
      frozen();
      await until(() => log.includes('exceeded'));
      await guard.close(true);
      expect(log).toEqual(['freezing', 'exceeded']);
    });

    it('lets it go on where its stop could not be written', async () => {
      const { log, guard, frozen } = freezing();
      const quiet = guard.quiesce();
      frozen();
      await quiet;
      expect(log, 'reported before it is closed').toEqual(['freezing', 'exceeded']);
      await guard.close(false);
      expect(log).toEqual(['freezing', 'exceeded', 'thawed']);
    });

    it('leaves it alone where a stop has let it go on already', async () => {
      const { log, guard, frozen } = freezing();
      const released = guard.release();
      frozen();
      await released;
      await guard.close(false);
      expect(log).toEqual(['freezing', 'exceeded']);
    });
  });

  it('freezes nothing any more once it was told to be quiet', async () => {
    const { clock, log, path, begin } = guarded(10);
    writeFileSync(path, '');
    const { guard } = begin();
    await guard.quiesce();
    appendFileSync(path, 'x'.repeat(11));
    await clock.advance(1000);
    expect(log).toEqual([]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('tells of a freeze that failed, and of the limit all the same', async () => {
    const path = join(tempDirectory(), 'output');
    writeFileSync(path, 'xx');
    const log: string[] = [];
    const guard = new OutputGuard({
      output: HeldOutput.open(new OutputFile(path)),
      maxBytes: 1,
      writers: { freeze: () => Promise.reject(new Error('no')), thaw: async () => undefined },
      clock: systemClock,
      onExceeded: () => log.push('exceeded'),
      onError: (error) => log.push(error.message),
    });
    onTestFinished(() => guard.close(true));
    guard.begin();
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
