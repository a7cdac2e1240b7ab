/*
 * A kind of one's own for work that outlives the host: commands in tmux sessions. The host that starts them is killed with SIGKILL; the next
 * one opens the same directory and finds them: the sessions ran on, the reconcile timer judges them, one that waits for an answer is
 * `waiting` because its screen stands still, and gets its answer. Exits with 0 only if all of it is as it should be, and leaves no session
 * and no file. Needs tmux 3.
 */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { BackgroundTaskManager, defineTaskKind } from 'holdfast';
import { z } from 'zod';

const run = promisify(execFile);
/** The scratch folder of this run: the records, and the socket of a tmux server of its own. */
const scratch = process.argv[2] ?? (await mkdtemp(join(tmpdir(), 'holdfast-tmux-')));

async function tmuxCommand(...args: string[]): Promise<string> {
  const env = { ...process.env, TMUX: undefined, TMUX_TMPDIR: scratch };
  const { stdout } = await run('tmux', ['-L', basename(scratch), '-f', '/dev/null', ...args], { env });
  return stdout.trimEnd();
}

/** `undefined` where tmux says that there is no such session. Any other failure is thrown: it says nothing about the work. */
async function ifThere(answer: Promise<string>): Promise<string | undefined> {
  try {
    return await answer;
  } catch (error) {
    const { stderr = '' } = error as { stderr?: string };
    if (/can't find|no server running|server exited|lost server|No such file or directory/.test(stderr))
      return undefined;
    throw error;
  }
}

// #region kind
/** A screen that stands still for this long waits for somebody. */
const STILL_MS = 1_000;

/** Session and exit file are named after the task: a host that was killed in the middle of `start` finds them all the same. */
const tmux = defineTaskKind({
  name: 'tmux',
  details: z.object({ workdir: z.string(), screen: z.string().optional(), stillSince: z.number().optional() }),

  // One command line, so that the pipe is there before the first byte. tmux does not always learn how a command ended: `sh` writes it down.
  start: async ({ taskId, details, outputPath }, input: { command: string }) => {
    const command = ['sh', '-c', `(${input.command}\n)\necho $? >"$0"`, exitPath(taskId)];
    const launch = ['new-session', '-d', '-s', taskId, '-x', '120', '-y', '30', '-c', details.workdir, ...command];
    const record = ['pipe-pane', '-t', `=${taskId}:`, `exec cat >> '${outputPath.replaceAll("'", `'\\''`)}'`];
    await tmuxCommand(...launch, ';', ...record);
  },

  // The session first and the exit code after it: the other order would call a command lost that ends in between.
  probe: async ({ taskId, details }) => {
    if (!(await sessions()).includes(taskId)) return endOf(taskId);
    const screen = await screenOf(taskId);
    const now = Date.now();
    if (screen !== details.screen) return { state: 'running', details: { screen, stillSince: now } };
    const stands = now - (details.stillSince ?? now) >= STILL_MS;
    return stands ? { state: 'waiting', prompt: lastLine(screen) } : { state: 'running' };
  },

  // The terminal hangs up, as when its window is closed.
  stop: async ({ taskId }) => {
    await ifThere(tmuxCommand('kill-session', '-t', `=${taskId}`));
  },

  provideInput: async ({ taskId }, value) => {
    const before = await screenOf(taskId);
    await tmuxCommand('send-keys', '-t', `=${taskId}:`, '-l', String(value));
    await tmuxCommand('send-keys', '-t', `=${taskId}:`, 'Enter');
    await until(async () => (await ifThere(screenOf(taskId))) !== before, 'the answer on the screen');
  },
});

async function endOf(taskId: string) {
  const exit = await readFile(exitPath(taskId), 'utf8').catch((error) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  if (!exit.endsWith('\n')) return { state: 'gone' } as const;
  const error = { name: 'TmuxExitError', message: `the command ended with exit code ${exit.trim()}` };
  return Number(exit) === 0 ? ({ state: 'completed' } as const) : ({ state: 'failed', error } as const);
}
// #endregion kind

function exitPath(taskId: string): string {
  return join(scratch, `${taskId}.exit`);
}

async function screenOf(taskId: string): Promise<string> {
  return tmuxCommand('capture-pane', '-p', '-t', `=${taskId}:`);
}

function lastLine(screen: string): string {
  return screen.split('\n').at(-1)?.trim() ?? '';
}

async function sessions(): Promise<string[]> {
  const names = await ifThere(tmuxCommand('list-sessions', '-F', '#{session_name}'));
  return names ? names.split('\n') : [];
}

/** The pipe to the output file may be a moment behind the screen, and the screen behind the keys. */
async function until<T>(condition: () => T | Promise<T>, what: string): Promise<Exclude<T, false | undefined>> {
  for (const giveUpAt = Date.now() + 20_000; Date.now() < giveUpAt; await sleep(50)) {
    const value = await condition();
    if (value) return value as Exclude<T, false | undefined>;
  }
  throw new Error(`waited in vain for ${what}`);
}

const commands = {
  counts: 'for n in 1 2 3 4 5 6; do echo "line $n"; sleep 0.5; done',
  fails: 'echo "no such luck"; exit 3',
  asks: 'printf "Deploy to production? "; read -r answer; echo "the answer was $answer"',
  serves: 'n=0; while :; do n=$((n + 1)); echo "request $n"; sleep 0.2; done',
};

/** The host that dies: starts everything, says so, and stays until it is killed. */
async function firstHost(): Promise<void> {
  const manager = await BackgroundTaskManager.open({ directory: join(scratch, 'tasks'), kinds: [tmux] });
  for (const [taskId, command] of Object.entries(commands)) {
    await manager.registerTask({
      kind: 'tmux',
      taskId,
      description: command,
      details: { workdir: scratch },
      input: { command },
    });
  }
  process.send?.('started');
}

async function runAndKillFirstHost(): Promise<void> {
  const host = spawn(process.execPath, [...process.execArgv, fileURLToPath(import.meta.url), scratch], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const exited = new Promise((resolve) => host.once('exit', (_, signal) => resolve(signal)));
  await new Promise((resolve, reject) => {
    host.once('message', resolve);
    host.once('exit', (code) => reject(new Error(`the first host exited with ${code} before it was killed`)));
  });
  host.kill('SIGKILL');
  assert.equal(await exited, 'SIGKILL');
  console.log('the first host was killed; tmux has', (await sessions()).join(', '));
}

async function secondHost(): Promise<void> {
  const directory = join(scratch, 'tasks');
  // #region use
  await using manager = await BackgroundTaskManager.open({ directory, kinds: [tmux], reconcileIntervalMs: 200 });
  const adopted: string[] = [];
  manager.on('task:adopted', ({ task }) => void adopted.push(task.taskId));
  manager.on('task:waiting', ({ task }) => console.log(`${task.taskId} waits: ${task.waitingFor?.prompt}`));
  manager.on('task:settled', ({ task }) => rm(exitPath(task.taskId), { force: true }));
  // #endregion use
  manager.on('task:settled', ({ task }) => console.log(`${task.taskId}: ${task.status}`));

  await checkEnds(manager);
  await checkQuestion(manager);
  await checkStop(manager);
  // The short ones may have ended before the second host came.
  const lasting = adopted.filter((id) => id === 'asks' || id === 'serves');
  assert.deepEqual(lasting.sort(), ['asks', 'serves'], 'what ran on was adopted');
  assert.deepEqual(await sessions(), [], 'no session is left');
}

async function checkEnds(manager: BackgroundTaskManager<typeof tmux>): Promise<void> {
  const counts = await manager.waitForTask('counts');
  assert.equal(counts.status, 'completed');
  // tmux hands the output to another process, which may be a little behind.
  const lines = await until(async () => {
    const printed = (await manager.readOutput('counts')).text.split('\r\n');
    return printed.length > 6 && printed;
  }, 'the lines');
  assert.deepEqual(
    lines.slice(0, 6),
    [1, 2, 3, 4, 5, 6].map((n) => `line ${n}`),
    'no line was lost with the host',
  );

  const fails = await manager.waitForTask('fails');
  assert.deepEqual([fails.status, fails.error?.message], ['failed', 'the command ended with exit code 3']);
  await until(
    async () => (await manager.readOutput('fails')).text.startsWith('no such luck'),
    'the words of the command',
  );
}

async function checkQuestion(manager: BackgroundTaskManager<typeof tmux>): Promise<void> {
  const isAsking = () => manager.listTasks({ kind: 'tmux', status: 'waiting' }).find(({ taskId }) => taskId === 'asks');
  const asks = await until(isAsking, 'the question');
  assert.equal(asks.waitingFor?.prompt, 'Deploy to production?');
  const resumed = await manager.provideInput('asks', 'not on a Friday');
  assert.equal(resumed.lastInput?.value, 'not on a Friday');
  const answered = await manager.waitForTask('asks');
  assert.equal(answered.status, 'completed');
  const taken = /the answer was not on a Friday/;
  await until(async () => taken.test((await manager.readOutput('asks')).text), 'the answer in the output');
}

async function checkStop(manager: BackgroundTaskManager<typeof tmux>): Promise<void> {
  await until(() => manager.getTask('serves')?.status === 'running', 'a screen that moves, which is not waiting');
  const stopped = await manager.stopTask('serves', { reason: 'the example is over' });
  assert.deepEqual([stopped.status, stopped.stopReason], ['killed', 'the example is over']);
  assert.match((await manager.readOutput('serves', { tailLines: 1 })).text, /request \d+/);
}

if (process.argv[2]) {
  await firstHost();
} else {
  try {
    await runAndKillFirstHost();
    await secondHost();
    console.log('every session is accounted for');
  } finally {
    if ((await sessions()).length > 0) await tmuxCommand('kill-server');
    await rm(scratch, { recursive: true, force: true });
  }
}
