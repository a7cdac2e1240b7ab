/*
 * The main job: real work is registered by a host that is killed with SIGKILL in the middle; another one opens the same directory, adopts
 * what still runs, settles what has ended, and prints a table of how every task ended. Exits with 0 only if all of it is as it should be.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BackgroundTaskManager, isProcessTask, type ProcessTask, type Task } from 'holdfast';

const repository = fileURLToPath(new URL('..', import.meta.url));

/** Prints a line every quarter of a second, for three seconds. */
const printer = `let n = 0; const timer = setInterval(() => { console.log('line ' + ++n + ' of 12'); if (n === 12) clearInterval(timer); }, 250);`;

function listen(manager: BackgroundTaskManager, who: string): void {
  manager.on('*', (event, payload) => {
    const task = 'task' in payload ? `${payload.task.description} (${payload.task.status})` : '';
    if (event !== 'manager:reconciled') console.log(`  [${who}] ${event} ${task}`);
  });
}

/** The host that dies: registers everything, says so, and goes on until it is killed. */
async function firstHost(directory: string): Promise<void> {
  const manager = await BackgroundTaskManager.open({ directory });
  listen(manager, 'first host');
  await manager.registerTask({
    kind: 'process',
    description: 'count the sources',
    command: `find src -name '*.ts' | wc -l`,
    cwd: repository,
  });
  await manager.registerTask({
    kind: 'process',
    description: 'print for a while',
    command: [process.execPath, '-e', printer],
  });
  await manager.registerTask({ kind: 'process', description: 'fail', command: 'echo "no such luck" >&2; exit 3' });
  await manager.registerTask({
    kind: 'process',
    description: 'take too long',
    command: 'echo begun; sleep 60',
    timeoutMs: 2_000,
  });
  await manager.registerTask({
    kind: 'function',
    description: 'work in the host',
    run: async ({ appendOutput, reportProgress, signal }) => {
      for (let step = 1; ; step++) {
        await appendOutput(`step ${step}\n`);
        reportProgress({ message: `step ${step}`, current: step, total: 1_000 });
        await new Promise((resolve) => setTimeout(resolve, 100));
        signal.throwIfAborted();
      }
    },
  });
  await manager.registerTask({ kind: 'function', description: 'add up', run: () => ({ sum: 2 + 2 }) });
  await manager.waitForTask((await sumTask(manager)).taskId);
  process.send?.('registered');
}

async function sumTask(manager: BackgroundTaskManager): Promise<Task> {
  const task = manager.listTasks().find(({ description }) => description === 'add up');
  assert(task);
  return task;
}

/** Runs this file as the first host, and kills it once everything is registered. */
async function runAndKillFirstHost(directory: string): Promise<void> {
  const host = spawn(process.execPath, [...process.execArgv, fileURLToPath(import.meta.url), directory], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  await new Promise<void>((resolve, reject) => {
    host.once('message', () => resolve());
    host.once('exit', (code) => reject(new Error(`the first host exited with ${code} before it was killed`)));
  });
  const exited = new Promise((resolve) => host.once('exit', (_, signal) => resolve(signal)));
  host.kill('SIGKILL');
  assert.equal(await exited, 'SIGKILL');
  console.log('  the first host was killed\n');
}

async function lastLine(manager: BackgroundTaskManager, { taskId }: Task): Promise<string> {
  return (await manager.readOutput(taskId, { tailLines: 1 })).text.trimEnd();
}

async function secondHost(directory: string): Promise<void> {
  const manager = await BackgroundTaskManager.open({ directory });
  try {
    listen(manager, 'second host');
    await manager.waitForIdle();
    const tasks = [...manager.listTasks()].reverse();
    const rows = await Promise.all(
      tasks.map(async (task) => ({
        task: task.description,
        status: task.status,
        exit: isProcessTask(task) ? task.details.exitCode : null,
        'last line': await lastLine(manager, task),
      })),
    );
    console.table(rows);
    await check(manager, new Map(tasks.map((task) => [task.description, task])));
  } finally {
    await manager.close();
  }
}

async function check(manager: BackgroundTaskManager, tasks: ReadonlyMap<string, Task>): Promise<void> {
  const processTask = (description: string): ProcessTask => {
    const task = tasks.get(description);
    assert(task && isProcessTask(task), description);
    return task;
  };
  const count = processTask('count the sources');
  assert.deepEqual([count.status, count.details.exitCode], ['completed', 0]);
  assert(Number(await lastLine(manager, count)) > 10);

  const print = processTask('print for a while');
  assert.deepEqual([print.status, print.details.exitCode], ['completed', 0]);
  const { text } = await manager.readOutput(print.taskId);
  assert.equal(
    text,
    Array.from({ length: 12 }, (_, n) => `line ${n + 1} of 12\n`).join(''),
    'no line was lost with the host',
  );

  const fail = processTask('fail');
  assert.deepEqual([fail.status, fail.details.exitCode], ['failed', 3]);
  assert.equal(await lastLine(manager, fail), 'no such luck');

  const late = processTask('take too long');
  assert.deepEqual([late.status, late.stop?.cause], ['timed_out', 'deadline']);
  // The clock of the file system, which says when a process ended, is a few milliseconds behind.
  assert(late.endedAt !== null && late.startedAt !== null && late.endedAt - late.startedAt >= 1_980);

  assert.equal(tasks.get('work in the host')?.status, 'lost', 'in-process work dies with its host, and we say so');
  const sum = tasks.get('add up');
  assert.deepEqual([sum?.status, sum?.result], ['completed', { sum: 4 }]);
  assert.equal(tasks.size, 6);
  console.log('all six tasks are accounted for');
}

const directoryOfFirstHost = process.argv[2];
if (directoryOfFirstHost) {
  await firstHost(directoryOfFirstHost);
} else {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-quickstart-'));
  try {
    await runAndKillFirstHost(directory);
    await secondHost(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
