/* How a process ended, as the host that started it, the one after it, and the one after a crash find out. */
import childProcess, { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import fs, {
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { INITIAL_NAMESPACE } from '../../src/process/table/pid-namespaces.js';
import { isAlive, ProcessLab, spawned, stateOf, stopping } from '../helpers/process.js';
import { until } from '../helpers/wait.js';

describe('the outcome', () => {
  it.each([
    ['exit 3', 3, null, 'exited with code 3'],
    ['kill -TERM $$', 143, 'SIGTERM', 'ended by SIGTERM (exit code 143)'],
    ['kill -KILL $$', 137, 'SIGKILL', 'ended by SIGKILL (exit code 137)'],
    ['kill -SEGV $$', 139, 'SIGSEGV', 'ended by SIGSEGV (exit code 139)'],
    ['exit 255', 255, null, 'exited with code 255'],
  ])('of %j is exit code %i, signal %s', async (command, exitCode, signal, message) => {
    const outcome = await new ProcessLab().outcome(command);
    expect(outcome).toMatchObject({ state: 'failed', details: { exitCode, signal } });
    expect(outcome).toHaveProperty('error', { name: 'ProcessExitError', message });
  });

  it('of a command that succeeds is completed, at the time of its record', async () => {
    const lab = new ProcessLab();
    const task = await lab.run('exit 0');
    const outcome = await lab.ended(task);
    const endedAt = Math.max(Math.floor(statSync(lab.layout.exitPath(task.taskId)).mtimeMs), task.startedAt!);
    expect(outcome).toEqual({ state: 'completed', details: { exitCode: 0, signal: null }, endedAt });
  });

  it('is announced by a hint, by the child as by the folder', async () => {
    const lab = new ProcessLab();
    const own = await lab.run('true');
    await until(() => lab.hints.includes(own.taskId));
    const next = new ProcessLab({ layout: lab.layout });
    const gate = join(lab.layout.directory, 'gate');
    const command = `until [ -e ${gate} ]; do sleep 0.02; done`;
    const adopted = await lab.visible(await lab.run(command, {}, { taskId: 'adopted' }));
    expect(await next.probe(adopted)).toEqual({ state: 'running' });
    writeFileSync(gate, '');
    await until(() => next.hints.includes('adopted'));
    expect(await next.ended(adopted)).toMatchObject({ state: 'completed' });
  });

  it('is that of the main command, whoever still holds its output', async () => {
    const lab = new ProcessLab();
    const task = await lab.run('sleep 60 & exit 4');
    expect(await lab.ended(task)).toMatchObject({ details: { exitCode: 4 } });
    // The supervisor has written how it ended, and ends.
    await until(() => lab.marked(task).length === 1);
  });

  it('has its true time after a long time without a look, but never before the start', async () => {
    const lab = new ProcessLab();
    const task = await lab.run('true');
    await lab.ended(task);
    const exit = lab.layout.exitPath(task.taskId);
    utimesSync(exit, 2_000_000_000, 2_000_000_000);
    expect(await lab.probe(task)).toMatchObject({ endedAt: 2_000_000_000_000 });
    utimesSync(exit, 1_000_000_000, 1_000_000_000);
    expect(await lab.probe(task)).toMatchObject({ endedAt: task.startedAt });
  });

  it('is never missed by a host that looks all the while', async () => {
    const lab = new ProcessLab();
    const next = new ProcessLab({ layout: lab.layout });
    for (let batch = 0; batch < 20; batch++) {
      const tasks = await Promise.all(Array.from({ length: 10 }, async () => lab.visible(await lab.run(['true']))));
      const outcomes = await Promise.all(
        tasks.map(async (task) => {
          for (;;) {
            const probe = await next.probe(task);
            if (probe.state !== 'running') return probe.state;
          }
        }),
      );
      expect(outcomes).toEqual(tasks.map(() => 'completed'));
    }
  });

  it('counts only once its record is complete', async () => {
    // Where nothing but its record can be seen of a supervisor.
    const lab = new ProcessLab({ owner: { pidNamespace: 'pid:[2]' } });
    const task = lab.task({ pid: process.pid }, { owner: { ...lab.owner, pidNamespace: 'pid:[1]' } });
    const exit = lab.layout.exitPath(task.taskId);
    for (const partial of ['', '1', 'x\n', '1\n2\n', '-1\n', '1000\n', `${' '.repeat(40)}1\n`]) {
      writeFileSync(exit, partial);
      expect([partial, await lab.probe(task)]).toEqual([partial, expect.objectContaining({ state: 'running' })]);
    }
    writeFileSync(exit, '7\n');
    expect(await lab.probe(task)).toMatchObject({ details: { exitCode: 7 } });
  });

  it.each(['its own host', 'another host'])('is not believed by %s while the supervisor lives', async (who) => {
    const lab = new ProcessLab();
    const gate = join(lab.layout.directory, 'gate');
    const started = await lab.run(`until [ -e ${gate} ]; do sleep 0.02; done; exit 5`);
    const task = await lab.visible(started);
    const host = who === 'its own host' ? lab : new ProcessLab({ layout: lab.layout });
    writeFileSync(lab.layout.exitPath(task.taskId), '0\n');
    expect(await host.probe(task)).toEqual({ state: 'running' });
    expect(await host.probe(stopping(task))).toEqual({ state: 'running' });
    writeFileSync(gate, '');
    expect(await host.ended(task)).toMatchObject({ state: 'failed', details: { exitCode: 5 } });
  });

  it('with a stop on record waits for the whole tree', async () => {
    const lab = new ProcessLab();
    const task = stopping(await lab.run('sleep 60 & echo $!'));
    await lab.printed(task, '\n');
    await until(() => existsSync(lab.layout.exitPath(task.taskId)));
    expect(await lab.probe(task)).toEqual({ state: 'running' });
    process.kill(Number(lab.output(task)), 'SIGKILL');
    expect(await lab.ended(task)).toMatchObject({ state: 'completed' });
  });
});

describe('a supervisor that ended without a record', () => {
  it('was seen by the host that lives: failed, by that signal, once its tree is empty', async () => {
    const lab = new ProcessLab();
    const task = await lab.run(['sleep', '60']);
    await until(() => lab.marked(task).length === 2);
    process.kill(task.details.pid!, 'SIGKILL');
    await until(() => lab.hints.length > 0);
    expect(await lab.probe(task)).toEqual({ state: 'running' });
    for (const pid of lab.marked(task)) process.kill(pid, 'SIGKILL');
    const outcome = await lab.ended(task);
    expect(outcome).toMatchObject({ state: 'failed', details: { exitCode: null, signal: 'SIGKILL' } });
    expect(outcome).toHaveProperty('error.message', expect.stringContaining('SIGKILL'));
  });

  it('together with its whole tree: failed at once', async () => {
    const lab = new ProcessLab();
    const task = await lab.run(['sleep', '60']);
    process.kill(-task.details.pid!, 'SIGKILL');
    expect(await lab.ended(task)).toMatchObject({ state: 'failed', details: { exitCode: null, signal: 'SIGKILL' } });
  });

  it('was not seen: gone, once its tree is empty', async () => {
    const lab = new ProcessLab();
    const task = await lab.run(['sleep', '60']);
    await until(() => lab.marked(task).length === 2);
    const next = new ProcessLab({ layout: lab.layout });
    expect(await next.probe(task)).toEqual({ state: 'running' });
    process.kill(task.details.pid!, 'SIGKILL');
    await until(() => !isAlive(task.details.pid!));
    expect(await next.probe(task)).toEqual({ state: 'running' });
    for (const pid of lab.marked(task)) process.kill(pid, 'SIGKILL');
    expect(await next.ended(task)).toEqual({ state: 'gone' });
  });

  it('could not begin: failed, and says so', async () => {
    const lab = new ProcessLab();
    const ran = join(lab.layout.directory, 'ran');
    const task = lab.task({ command: ['touch', ran] });
    // Gone in the moment of the launch, which made it again just before; and what lies in its place keeps the watch from making it again.
    const spawn = childProcess.spawn;
    vi.spyOn(childProcess, 'spawn').mockImplementationOnce(((...args: Parameters<typeof spawn>) => {
      rmSync(lab.layout.runDir, { recursive: true });
      writeFileSync(lab.layout.runDir, '');
      return spawn(...args);
    }) as typeof spawn);
    syncBuiltinESMExports();
    onTestFinished(() => {
      vi.restoreAllMocks();
      syncBuiltinESMExports();
    });
    const launched = await lab.start(task);
    await until(() => lab.hints.includes(task.taskId));
    rmSync(lab.layout.runDir);
    mkdirSync(lab.layout.runDir);
    const outcome = await lab.ended(launched);
    expect(outcome).toMatchObject({ state: 'failed', details: { exitCode: 125 } });
    expect(outcome).toHaveProperty('error.message', expect.stringContaining('was not run'));
    expect(existsSync(ran)).toBe(false);
  });

  it('as a zombie is no supervisor any more', async () => {
    const lab = new ProcessLab();
    const keeper = spawned('/bin/sh', [
      '-c',
      'sleep 0.01 & echo $! >"$0"; exec sleep 60',
      join(lab.layout.directory, 'zombie'),
    ]);
    await until(() => existsSync(join(lab.layout.directory, 'zombie')));
    const zombie = await until(() => Number(readFileSync(join(lab.layout.directory, 'zombie'), 'utf8')));
    await until(() => stateOf(zombie) === 'Z');
    expect(isAlive(keeper.pid!)).toBe(true);
    const lost = lab.task({ pid: zombie });
    writeFileSync(lab.layout.pidPath(lost.taskId), `${zombie}\n`);
    expect(await lab.probe(lost)).toEqual({ state: 'gone' });
  });
});

describe('a host that died during the launch', () => {
  it('before the supervisor began: the right to run is taken away, and a late one runs nothing', async () => {
    const lab = new ProcessLab();
    const ran = join(lab.layout.directory, 'ran');
    const task = lab.task({ command: ['touch', ran] });
    expect(await lab.probe(task)).toMatchObject({ state: 'gone', neverBegan: true });
    expect(readFileSync(lab.layout.pidPath(task.taskId), 'utf8')).toBe('void\n');
    expect(statSync(lab.layout.pidPath(task.taskId)).mode & 0o777).toBe(0o600);
    await lab.settled(task);
    const [code] = await once(lab.supervisor(task), 'exit');
    expect(code).toBe(125);
    expect(existsSync(ran)).toBe(false);
    expect(await lab.probe(task)).toMatchObject({ state: 'gone', neverBegan: true });
  });

  it('in a race with the supervisor: it runs and is found, or it does not run and is gone', async () => {
    const lab = new ProcessLab();
    let ran = 0;
    for (let round = 0; round < 60; round++) {
      const proof = join(lab.layout.directory, `ran${round}`);
      const task = lab.task({ command: ['touch', proof] });
      const exited = once(lab.supervisor(task), 'exit');
      for (let turn = 0; turn < round % 12; turn++) await new Promise(setImmediate);
      const outcome = await lab.ended(task);
      await exited;
      expect(existsSync(proof)).toBe(outcome.state === 'completed');
      if (outcome.state === 'completed') ran++;
    }
    expect(ran).toBeLessThanOrEqual(60);
  });

  it('after the supervisor began: it is found by its file, and its pid goes on record', async () => {
    const lab = new ProcessLab();
    const task = lab.task({ command: ['sleep', '60'] });
    const child = lab.supervisor(task);
    await until(
      () => existsSync(lab.layout.pidPath(task.taskId)) && readFileSync(lab.layout.pidPath(task.taskId), 'utf8'),
    );
    expect(await lab.probe(task)).toEqual({ state: 'running', details: { pid: child.pid } });
  });

  it('on a full disk: an empty file sends us looking for the supervisor itself', async () => {
    const lab = new ProcessLab();
    const task = lab.task({ command: ['sleep', '60'] });
    const child = lab.supervisor(task);
    await until(() => existsSync(lab.layout.pidPath(task.taskId)) && lab.marked(task).length === 2);
    writeFileSync(lab.layout.pidPath(task.taskId), '');
    expect(await lab.probe(task)).toEqual({ state: 'running', details: { pid: child.pid } });
    const other = lab.task({ command: ['sleep', '60'] });
    writeFileSync(lab.layout.pidPath(other.taskId), '');
    expect(await lab.probe(other)).toEqual({ state: 'gone' });
    await lab.settled(other);
    expect(existsSync(lab.layout.pidPath(other.taskId)), 'what keeps a late one away stays').toBe(true);
  });
});

describe('a supervisor that lives elsewhere', () => {
  const home = { hostname: 'elsewhere', bootId: 'another boot' };

  /** A host in a container: it sees nothing but its own pid namespace. */
  const contained = { pidNamespace: 'pid:[2]' };

  it('is judged by its record alone', async () => {
    const lab = new ProcessLab({ owner: contained });
    const task = lab.task({ pid: process.pid }, { owner: { ...lab.owner, pidNamespace: 'pid:[1]' } });
    const { hostname, bootId } = lab.owner;
    const details = { supervisorHome: { hostname, bootId, pidNamespace: 'pid:[1]' } };
    const outOfReach = `on this machine, in the pid namespace pid:[1] of the host "${hostname}"`;
    expect(await lab.probe(task)).toEqual({ state: 'running', details, outOfReach });
    expect(existsSync(lab.layout.pidPath(task.taskId))).toBe(false);
    // After the adoption the owner is another one, but the supervisor is still where it was.
    const adopted = { ...task, owner: lab.owner, details: { ...task.details, ...details } };
    expect(await lab.probe(adopted)).toEqual({ state: 'running', details, outOfReach });
    await lab.stop(stopping(adopted), 'kill');
    writeFileSync(lab.layout.exitPath(task.taskId), '3\n');
    expect(await lab.probe(stopping(adopted))).toMatchObject({ state: 'failed', details: { exitCode: 3 } });
    const far = lab.task({ pid: process.pid }, { owner: { ...lab.owner, ...home } });
    expect(await lab.probe(far)).toMatchObject({
      state: 'running',
      outOfReach: 'on another machine, in the pid namespace pid:[2] of the host "elsewhere"',
    });
  });

  it.skipIf(readlinkSync('/proc/self/ns/pid') !== INITIAL_NAMESPACE)(
    'ended for certain where we see the whole kernel, and its pid namespace is empty',
    async () => {
      const lab = new ProcessLab();
      const task = lab.task({ pid: process.pid }, { owner: { ...lab.owner, pidNamespace: 'pid:[1]' } });
      expect(await lab.probe(task)).toEqual({ state: 'gone' });
      writeFileSync(lab.layout.exitPath(task.taskId), '0\n');
      expect(await lab.probe(task)).toMatchObject({ state: 'completed' });
    },
  );

  it('never begins, where nothing says that it did: its right to run is taken', async () => {
    const lab = new ProcessLab({ owner: contained });
    const near = lab.task({}, { owner: { ...lab.owner, pidNamespace: 'pid:[1]' } });
    expect(await lab.probe(near)).toMatchObject({ state: 'gone', neverBegan: true });
    expect(readFileSync(lab.layout.pidPath(near.taskId), 'utf8')).toBe('void\n');
    const far = lab.task({}, { owner: { ...lab.owner, ...home } });
    expect(await lab.probe(far)).toEqual({ state: 'gone' });
    const begun = lab.task({}, { owner: { ...lab.owner, ...home } });
    writeFileSync(lab.layout.pidPath(begun.taskId), '7\n');
    expect(await lab.probe(begun)).toMatchObject({ state: 'running', outOfReach: expect.any(String) });
  });

  it('ended for certain when this machine was restarted', async () => {
    const lab = new ProcessLab();
    const task = lab.task({ pid: process.pid }, { owner: { ...lab.owner, bootId: 'an earlier boot' } });
    expect(await lab.probe(task)).toEqual({ state: 'gone' });
    writeFileSync(lab.layout.exitPath(task.taskId), '0\n');
    expect(await lab.probe(task)).toMatchObject({ state: 'completed' });
  });

  it('of a record without an owner was none of ours', async () => {
    const lab = new ProcessLab();
    expect(await lab.probe(lab.task({ pid: process.pid }, { owner: null }))).toEqual({ state: 'gone' });
  });
});

describe('once the outcome is on record', () => {
  it('the files that led to it go', async () => {
    const lab = new ProcessLab();
    const task = await lab.run('true');
    await lab.ended(task);
    expect(existsSync(lab.layout.pidPath(task.taskId))).toBe(true);
    await lab.settled(task);
    expect(existsSync(lab.layout.pidPath(task.taskId))).toBe(false);
    expect(existsSync(lab.layout.exitPath(task.taskId))).toBe(false);
    await lab.settled(task);
  });

  it('a new task of the id begins without what the old one left', async () => {
    const lab = new ProcessLab();
    const task = lab.task({ command: 'exit 5' });
    writeFileSync(lab.layout.pidPath(task.taskId), 'void\n');
    writeFileSync(lab.layout.exitPath(task.taskId), '0\n');
    expect(await lab.ended(await lab.start(task))).toMatchObject({ details: { exitCode: 5 } });
  });
});

describe('a look that fails', () => {
  it('settles nothing', async () => {
    const lab = new ProcessLab();
    const task = await lab.run('true');
    await lab.ended(task);
    rmSync(lab.layout.runDir, { recursive: true });
    writeFileSync(lab.layout.runDir, '');
    await expect(lab.probe(task)).rejects.toMatchObject({ code: 'ENOTDIR' });
  });
});

describe('what a task puts in the place of', () => {
  const makers: [string, (path: string) => void][] = [
    ['a FIFO', (path) => execFileSync('mkfifo', [path])],
    ['a link to a device', (path) => symlinkSync('/dev/zero', path)],
    [
      'a link to a file',
      (path) => {
        writeFileSync(`${path}.0`, '0\n');
        symlinkSync(`${path}.0`, path);
      },
    ],
    ['a folder', (path) => mkdirSync(path)],
    [
      'a large file',
      (path) => {
        writeFileSync(path, '');
        truncateSync(path, 2 ** 40);
      },
    ],
  ];

  it.each(makers)('its exit record, %s, is none', async (_what, make) => {
    const lab = new ProcessLab();
    const task = await lab.run(['sleep', '60']);
    make(lab.layout.exitPath(task.taskId));
    expect(await lab.probe(task)).toEqual({ state: 'running' });
    process.kill(-task.details.pid!, 'SIGKILL');
    expect(await lab.ended(task)).toMatchObject({ state: 'failed', details: { exitCode: null, signal: 'SIGKILL' } });
    await lab.settled(task);
    expect(existsSync(lab.layout.exitPath(task.taskId))).toBe(false);
  });

  it.each(makers)(
    'its claim, %s, says that the right to run is taken, and not by which process',
    async (_what, make) => {
      const lab = new ProcessLab();
      const started = await lab.visible(await lab.run(['sleep', '60']));
      const task = { ...started, details: { ...started.details, pid: null } };
      await until(() => lab.marked(task).length === 2 && existsSync(lab.layout.pidPath(task.taskId)));
      rmSync(lab.layout.pidPath(task.taskId));
      make(lab.layout.pidPath(task.taskId));
      const next = new ProcessLab({ layout: lab.layout });
      expect(await next.probe(task)).toEqual({ state: 'running', details: { pid: started.details.pid } });
      process.kill(-started.details.pid!, 'SIGKILL');
      await until(() => !isAlive(started.details.pid!));
      expect(await new ProcessLab({ layout: lab.layout }).ended(task)).toEqual({ state: 'gone' });
      await next.settled(task);
      // Whatever it was, the next task of this id begins.
      const again = await next.start(lab.task({ command: 'exit 3' }, { taskId: task.taskId }));
      expect(await next.ended(again)).toMatchObject({ details: { exitCode: 3 } });
    },
  );

  it.each(makers.slice(0, 4))('its output, %s, is refused at the next launch', async (what, make) => {
    const lab = new ProcessLab();
    const task = await lab.run('true');
    await lab.ended(task);
    rmSync(lab.layout.outputPath(task.taskId));
    make(lab.layout.outputPath(task.taskId));
    const { taskId, attempt, details } = task;
    const context = { taskId, attempt, details, outputPath: lab.layout.outputPath(taskId), task };
    const start = lab.work(context).start!({ ...context, signal: new AbortController().signal } as never, {});
    await expect(start, what).rejects.toThrow('is not a regular file');
  });
});

describe('a run folder that is deleted', () => {
  it('is made again at the next launch, private', async () => {
    const lab = new ProcessLab();
    rmSync(lab.layout.runDir, { recursive: true });
    expect(await lab.outcome('exit 3')).toMatchObject({ details: { exitCode: 3 } });
    expect(statSync(lab.layout.runDir).mode & 0o777).toBe(0o700);
  });

  it('is made again while tasks run, and watched: their exit codes are not lost', async () => {
    const lab = new ProcessLab();
    const gate = join(lab.layout.directory, 'gate');
    const command = `until [ -e ${gate} ]; do sleep 0.02; done; exit 5`;
    const task = await lab.visible(await lab.run(command));
    await until(() => existsSync(lab.layout.pidPath(task.taskId)));
    const next = new ProcessLab({ layout: lab.layout });
    expect(await next.probe(task)).toEqual({ state: 'running' });
    lab.dispose();
    rmSync(lab.layout.runDir, { recursive: true });
    await until(() => existsSync(lab.layout.runDir));
    await until(() => next.hints.length > 0);
    next.hints.length = 0;
    writeFileSync(gate, '');
    await until(() => next.hints.includes(task.taskId));
    expect(await next.ended(task)).toMatchObject({ state: 'failed', details: { exitCode: 5 } });
  });

  it('with the claim of one whose pid is on record: it is not said that it never began', async () => {
    const lab = new ProcessLab();
    const task = await lab.run('exit 5');
    await lab.ended(task);
    rmSync(lab.layout.runDir, { recursive: true });
    expect(await new ProcessLab({ layout: lab.layout }).probe(task)).toEqual({ state: 'gone' });
    // Nor by the host after that, which finds the claim of this one.
    expect(await new ProcessLab({ layout: lab.layout }).probe(task)).toEqual({ state: 'gone' });
  });

  it('and cannot be made again fails the launch, and says so', async () => {
    const lab = new ProcessLab();
    rmSync(lab.layout.runDir, { recursive: true });
    writeFileSync(lab.layout.runDir, '');
    await expect(lab.run('true')).rejects.toThrow(`${lab.layout.runDir}'`);
  });
});

it('reports a folder that cannot be watched once, and goes on without', async () => {
  vi.spyOn(fs, 'watch').mockImplementation(() => {
    throw Object.assign(new Error('no watch left'), { code: 'ENOSPC' });
  });
  syncBuiltinESMExports();
  onTestFinished(() => {
    vi.restoreAllMocks();
    syncBuiltinESMExports();
  });
  const lab = new ProcessLab();
  for (let round = 0; round < 2; round++) {
    expect(await lab.outcome('true')).toMatchObject({ state: 'completed' });
    expect(lab.errors).toHaveLength(1);
  }
});

it('says nothing more once it is disposed of, and its processes run on', async () => {
  const lab = new ProcessLab();
  const task = await lab.run(['sleep', '60']);
  lab.dispose();
  expect(isAlive(task.details.pid!)).toBe(true);
  process.kill(-task.details.pid!, 'SIGKILL');
  await until(() => lab.marked(task).length === 0);
  await lab.ended(task);
  expect(lab.hints).toEqual([]);
});
