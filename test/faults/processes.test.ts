/* Processes that fight back, through a manager: what they do, what is said of them, and that nothing of them lives after a stop. */
import { readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { BackgroundTaskManager, ProcessTask } from '../../src/index.js';
import { killAllAfterwards, lives, onDisk, pidIn, processesWith } from '../helpers/faults.js';
import { startHost, supervisors } from '../helpers/host.js';
import { openManager } from '../helpers/manager.js';
import { spawned, stateOf } from '../helpers/process.js';
import { canRun } from '../helpers/store.js';
import { tempDirectory, until } from '../helpers/wait.js';

function place(): string {
  const directory = tempDirectory('holdfast-procs-');
  killAllAfterwards(directory);
  return directory;
}

async function printed(manager: BackgroundTaskManager, taskId: string, text: string): Promise<void> {
  await until(async () => (await manager.readOutput(taskId)).text.includes(text), {
    message: `${text} from ${taskId}`,
  });
}

function supervisorOf(task: unknown): number {
  return (task as ProcessTask).details.pid!;
}

const perl = canRun('perl', '-e', '1');

/** Commands whose trees do not end when they are asked to, or do not stay together. Each says `ready` when its tree stands. */
const stubborn: readonly (readonly [name: string, command: string, processes: number])[] = [
  ['ignores SIGTERM', `trap '' TERM INT HUP; echo ready; while :; do sleep 600; done`, 2],
  [
    'has children that ignore SIGTERM',
    `for n in 1 2 3; do sh -c 'trap "" TERM; while :; do sleep 600; done' & done; sleep 0.2; echo ready; wait`,
    4,
  ],
  [
    'put a daemon into a new session',
    `setsid sh -c 'trap "" TERM; while :; do sleep 600; done' </dev/null >/dev/null 2>&1 & sleep 0.2; echo ready; wait`,
    2,
  ],
  [
    'put a daemon away twice, and its parent is gone',
    `setsid sh -c 'setsid sleep 600 & sleep 0.1' & wait; sleep 0.2; echo ready; sleep 600`,
    2,
  ],
  [
    'runs in a group of its own (timeout)',
    `timeout 60 sh -c 'echo ready; trap "" TERM; while :; do sleep 600; done'`,
    2,
  ],
  ['stands still (SIGSTOP)', `sh -c 'echo ready; kill -STOP $$; sleep 600'; sleep 600`, 2],
  [
    'is born anew whenever it is asked to end',
    `respawn() { trap 'sh -c "sleep 600" & ' TERM; }; respawn; echo ready; while :; do sleep 600 & wait $!; done`,
    2,
  ],
  [
    'forks all the time, within bounds',
    `n=0; echo ready; while [ $n -lt 300 ]; do n=$((n+1)); (sleep 600) & sleep 0.01; done; wait`,
    3,
  ],
];

describe('after stopTask nothing lives of a tree that', () => {
  it.each(stubborn)('%s', { timeout: 60_000 }, async (_, command, least) => {
    const directory = place();
    const manager = await openManager({ directory, stopGraceMs: 300 });
    const { taskId } = await manager.registerTask({ kind: 'process', taskId: 'wild', description: 'work', command });
    await printed(manager, taskId, 'ready');
    const mark = `${directory}/.run/wild`;
    await until(() => processesWith(mark).length >= least);
    const task = await manager.stopTask(taskId);
    expect(processesWith(mark)).toEqual([]);
    expect(task).toMatchObject({ status: 'killed', stop: { cause: 'user' } });
    expect(onDisk(directory, 'wild')).toEqual(task);
    expect(manager.status().slots.used).toBe(0);
  });

  it('has members that wiped their environment, in the session they were born in', async () => {
    const directory = place();
    const manager = await openManager({ directory, stopGraceMs: 300 });
    const command = `env -i sh -c 'trap "" TERM; echo $$ >"${directory}/.wiped"; while :; do sleep 600; done' & env -i sleep 600 & echo ready; wait`;
    await manager.registerTask({ kind: 'process', taskId: 'wild', description: 'work', command });
    const wiped = await pidIn(join(directory, '.wiped'));
    expect(await manager.stopTask('wild')).toMatchObject({ status: 'killed' });
    expect(lives(wiped)).toBe(false);
  });

  it.skipIf(!perl)('multiplies into new sessions whenever it is asked to end, within bounds', async () => {
    const directory = place();
    const manager = await openManager({ directory, stopGraceMs: 300 });
    const hydra = `use POSIX; my $depth = 0;
      $SIG{TERM} = sub { return if $depth >= 5; for (1..2) { if (!fork) { POSIX::setsid(); $depth++; last } } };
      print STDERR "ready\\n"; sleep 1 while 1;`;
    await manager.registerTask({
      kind: 'process',
      taskId: 'wild',
      description: 'work',
      command: ['perl', '-e', hydra.replaceAll('\\\\n', '\\n')],
    });
    await printed(manager, 'wild', 'ready');
    expect(await manager.stopTask('wild')).toMatchObject({ status: 'killed' });
    expect(processesWith(`${directory}/.run/wild`)).toEqual([]);
  });

  it('was adopted, and has lost its supervisor meanwhile', async () => {
    const directory = place();
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory, fsync: false });
       await manager.registerTask({ kind: 'process', taskId: 'wild', description: 'work', command: 'setsid sleep 600 & (trap "" TERM; while :; do sleep 600; done) & sleep 0.2; echo ready; wait' });
       while (!(await manager.readOutput('wild')).size) await new Promise((resolve) => setTimeout(resolve, 10));
       say(manager.getTask('wild').details.pid);`,
      directory,
    );
    const supervisor = await host.next();
    await host.kill();
    process.kill(supervisor, 'SIGKILL');
    await until(() => !lives(supervisor));
    const manager = await openManager({ directory, stopGraceMs: 300 });
    expect(manager.getTask('wild')).toMatchObject({ status: 'running' });
    expect(await manager.stopTask('wild')).toMatchObject({ status: 'killed' });
    expect(processesWith(`${directory}/.run/wild`)).toEqual([]);
  });
});

describe('a task has ended when its command has', () => {
  it('whoever still holds its output open', async () => {
    const directory = place();
    const manager = await openManager({ directory });
    await manager.registerTask({
      kind: 'process',
      taskId: 'ends',
      description: 'work',
      command: `(sleep 600; echo late) & echo "$!" >"${directory}/.holder"; echo out; exit 4`,
    });
    expect(await manager.waitForTask('ends')).toMatchObject({ status: 'failed', details: { exitCode: 4 } });
    expect(lives(await pidIn(join(directory, '.holder')))).toBe(true);
    expect((await manager.readOutput('ends')).text).toBe('out\n');
  });

  it('also through `open`, while a daemon of it lives', async () => {
    const directory = place();
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory, fsync: false });
       await manager.registerTask({ kind: 'process', taskId: 'ends', description: 'work', command: 'setsid sleep 600 & sleep 0.2; exit 6' });
       process.kill(process.pid, 'SIGKILL');`,
      directory,
    );
    await host.ended;
    await until(() => supervisors(directory).length === 0);
    const manager = await openManager({ directory });
    expect(manager.getTask('ends')).toMatchObject({ status: 'failed', details: { exitCode: 6 } });
  });
});

describe('a supervisor killed alone', () => {
  it('leaves running work: the task stays running until its tree is empty', async () => {
    const directory = place();
    const manager = await openManager({ directory, reconcileIntervalMs: 100 });
    const task = await manager.registerTask({
      kind: 'process',
      taskId: 'left',
      description: 'work',
      command: `echo $$ >"${directory}/.command"; until [ -e "${directory}/.gate" ]; do sleep 0.05; done`,
    });
    const command = await pidIn(join(directory, '.command'));
    process.kill(supervisorOf(task), 'SIGKILL');
    await until(() => !lives(supervisorOf(task)));
    const report = await manager.reconcile();
    expect(report).toMatchObject({ settled: [], failures: [] });
    expect(manager.getTask('left')).toMatchObject({ status: 'running', endedAt: null });
    expect(lives(command)).toBe(true);
    await writeFile(join(directory, '.gate'), '');
    // Nothing recorded how the command ended: what was seen of the supervisor is what can be said.
    expect(await manager.waitForTask('left')).toMatchObject({
      status: 'failed',
      details: { exitCode: null, signal: 'SIGKILL' },
    });
    expect(lives(command)).toBe(false);
  });

  it('is no obstacle to a stop', async () => {
    const directory = place();
    const manager = await openManager({ directory, stopGraceMs: 300 });
    const task = await manager.registerTask({
      kind: 'process',
      taskId: 'left',
      description: 'work',
      command: `trap '' TERM; setsid sleep 600 & echo ready; while :; do sleep 600; done`,
    });
    await printed(manager, 'left', 'ready');
    process.kill(supervisorOf(task), 'SIGKILL');
    await until(() => !lives(supervisorOf(task)));
    expect(await manager.stopTask('left')).toMatchObject({ status: 'killed' });
    expect(processesWith(`${directory}/.run/left`)).toEqual([]);
  });
});

describe('a supervisor and its command killed together', () => {
  it('are failed with the signal where the host lives', async () => {
    const directory = place();
    // The command may be dying still when the end of its supervisor is seen: then the next pass finds it gone.
    const manager = await openManager({ directory, reconcileIntervalMs: 100 });
    const task = await manager.registerTask({
      kind: 'process',
      taskId: 'both',
      description: 'work',
      command: 'echo ready; exec sleep 600',
    });
    await printed(manager, 'both', 'ready');
    process.kill(-supervisorOf(task), 'SIGKILL');
    expect(await manager.waitForTask('both')).toMatchObject({
      status: 'failed',
      details: { exitCode: null, signal: 'SIGKILL' },
      error: { name: 'ProcessExitError' },
    });
  });

  it('are lost where no host saw it', async () => {
    const directory = place();
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory, fsync: false });
       await manager.registerTask({ kind: 'process', taskId: 'both', description: 'work', command: 'echo ready; exec sleep 600' });
       while (!(await manager.readOutput('both')).size) await new Promise((resolve) => setTimeout(resolve, 10));
       say(manager.getTask('both').details.pid);`,
      directory,
    );
    const supervisor = await host.next();
    await host.kill();
    process.kill(-supervisor, 'SIGKILL');
    await until(() => processesWith(`${directory}/.run/both`).length === 0);
    const manager = await openManager({ directory });
    expect(manager.getTask('both')).toMatchObject({ status: 'lost', details: { exitCode: null, signal: null } });
  });
});

describe('a recorded pid that belongs to a stranger by now', () => {
  it.each([['is gone'], ['was stopped by the dead owner']])(
    'is never believed and never signalled: the task %s',
    async (how) => {
      const directory = place();
      const host = startHost(
        `const manager = await BackgroundTaskManager.open({ directory, fsync: false });
       await manager.registerTask({ kind: 'process', taskId: 'mine', description: 'work', command: 'exec sleep 600' });
       say(manager.getTask('mine').details.pid);`,
        directory,
      );
      const supervisor = await host.next();
      await host.kill();
      process.kill(-supervisor, 'SIGKILL');
      await until(() => processesWith(`${directory}/.run/mine`).length === 0);
      // A leader of its own group and session, as a supervisor is; and it would end if anything signalled it.
      const stranger = spawned('sleep', ['600'], { detached: true });
      const path = join(directory, 'mine.json');
      const record = JSON.parse(await readFile(path, 'utf8'));
      record.details.pid = stranger.pid;
      if (how.startsWith('was')) record.stop = { cause: 'user', requestedAt: Date.now() - 60_000 };
      await writeFile(path, JSON.stringify(record));
      await writeFile(join(directory, '.run', 'mine.pid'), `${stranger.pid}\n`);
      const manager = await openManager({ directory, stopGraceMs: 100 });
      expect(await manager.waitForTask('mine')).toMatchObject({ status: how.startsWith('was') ? 'killed' : 'lost' });
      await manager.stopTask('mine');
      await manager.close({ tasks: 'stop' });
      // Not stopped, and not dead; a busy machine may not have let it come to its sleep.
      expect(['S', 'R', 'D']).toContain(stateOf(stranger.pid!));
    },
  );

  it('nor is one whose command line only looks like a supervisor', async () => {
    const directory = place();
    const manager = await openManager({ directory });
    const task = await manager.registerTask({
      kind: 'process',
      taskId: 'mine',
      description: 'work',
      command: 'exec sleep 600',
    });
    const record = { ...task, taskId: 'other', details: { ...task.details } };
    await manager.close();
    const stranger = spawned('sh', ['-c', 'while :; do sleep 600; done', 'holdfast', '/elsewhere/.run', 'other'], {
      detached: true,
    });
    (record.details as { pid: number }).pid = stranger.pid!;
    await writeFile(join(directory, 'other.json'), JSON.stringify(record));
    await writeFile(join(directory, '.run', 'other.pid'), `${stranger.pid}\n`);
    const next = await openManager({ directory });
    expect(next.getTask('other')).toMatchObject({ status: 'lost' });
    expect(next.getTask('mine')).toMatchObject({ status: 'running' });
    await next.stopTask('mine');
    expect(lives(stranger.pid!)).toBe(true);
  });
});

describe('zombies', () => {
  it.skipIf(!perl)('do not live: a parent that never waits keeps no task from ending, nor a stop', async () => {
    const directory = place();
    const manager = await openManager({ directory, stopGraceMs: 300 });
    // Children that end at once and are never waited for.
    const zombies = `perl -e 'for (1..5) { fork or exit 0 } $| = 1; print "ready\\n"; sleep 600'`;
    await manager.registerTask({ kind: 'process', taskId: 'parent', description: 'work', command: zombies });
    await printed(manager, 'parent', 'ready');
    expect(await manager.reconcile()).toMatchObject({ failures: [] });
    expect(await manager.stopTask('parent')).toMatchObject({ status: 'killed' });
  });

  it.skipIf(!perl)('of a supervisor whose parent never waits are judged as ended', async () => {
    const directory = place();
    // The host is stopped where it stands, so nobody waits for the supervisor; the next owner is kept out all the while.
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory, fsync: false });
       await manager.registerTask({ kind: 'process', taskId: 'short', description: 'work', command: 'until [ -e "' + directory + '/.gate" ]; do sleep 0.02; done; exit 8' });
       say(manager.getTask('short').details.pid);
       setInterval(() => {}, 1000);
       say(JSON.stringify(await manager.waitForTask('short')));`,
      directory,
    );
    const supervisor = await host.next();
    host.child.kill('SIGSTOP');
    await writeFile(join(directory, '.gate'), '');
    await until(() => stateOf(supervisor) === 'Z');
    expect(onDisk(directory, 'short')).toMatchObject({ status: 'running' });
    host.child.kill('SIGCONT');
    expect(JSON.parse(await host.next())).toMatchObject({ status: 'failed', details: { exitCode: 8 } });
  });
});

it('the output of a command that ends by a signal is whole, and so is its story', async () => {
  const directory = place();
  const manager = await openManager({ directory });
  const run = async (command: string) =>
    manager.waitForTask((await manager.registerTask({ kind: 'process', description: 'work', command })).taskId);
  const ended = await run('seq 1 20000; kill -SEGV $$');
  expect(ended).toMatchObject({ status: 'failed', details: { exitCode: 139, signal: 'SIGSEGV' } });
  expect(readFileSync(join(directory, ended.taskId, 'output.log'), 'utf8').split('\n')).toHaveLength(20_001);
});

describe('a manager that closes while a tree is frozen for its output', () => {
  const WRITER = 'ulimit -f 2097152; trap "" TERM; while :; do printf %64s; done';
  const isStopped = (directory: string) => processesWith(directory).some((pid) => stateOf(pid) === 'T');

  it('leaves nobody stopped without a stop on record, and the next one ends it', async () => {
    for (let round = 0; round < 10; round++) {
      const directory = place();
      const first = await openManager({ directory });
      const command = `exec /bin/sh -c '${WRITER}' writer ${directory}`;
      const spec = {
        kind: 'process',
        taskId: 'writer',
        description: 'work',
        command,
        maxOutputBytes: 100_000,
      } as const;
      await first.registerTask(spec);
      await until(async () => (await first.readOutput('writer')).size > 100_000);
      for (let turn = 0; turn < round; turn++) await new Promise(setImmediate);
      await first.close();
      const record = onDisk(directory, 'writer');
      if (record.stop) expect(record.stop.cause).toBe('output_limit');
      else expect(isStopped(directory)).toBe(false);
      const second = await openManager({ directory, stopGraceMs: 0 });
      const stop = { status: 'killed', stop: { cause: 'output_limit' } };
      expect(await second.waitForTask('writer')).toMatchObject(stop);
      await until(() => processesWith(directory).length === 0);
    }
  });
});
