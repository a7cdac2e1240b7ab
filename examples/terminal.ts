/*
 * Progress that people can see: running tasks with a progress bar each, drawn from events alone (no polling, no timer). On a terminal the
 * bars are redrawn in place; where the output is no terminal, each news is a line. The terminal is left as it was found, on SIGINT too.
 * Exits with 0 only if what was drawn last is true, and if an interrupted copy of this program gave the cursor back.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { BackgroundTaskManager, isTerminal, type Task } from 'holdfast';

// #region terminal
const [hideCursor, showCursor] = ['\x1b[?25l', '\x1b[?25h'];
const marks = {
  queued: '·',
  running: '▸',
  waiting: '?',
  completed: '✔',
  failed: '✘',
  timed_out: '✘',
  killed: '✘',
  lost: '✘',
};

const CELLS = 10;

function filled({ progress }: Task): number {
  const { current = 0, total = 0 } = progress ?? {};
  return total > 0 ? Math.floor((CELLS * Math.min(current, total)) / total) : 0;
}

/** `▸ Index the files      ██████░░░░  60 % 24 of 40` */
function lineOf(task: Task): string {
  const { status, description, progress, waitingFor, error, stopReason } = task;
  const cells = filled(task);
  const bar = `${'█'.repeat(cells)}${'░'.repeat(CELLS - cells)} ${String((100 * cells) / CELLS).padStart(3)} %`;
  const words = waitingFor?.prompt ?? error?.message ?? stopReason ?? progress?.message ?? '';
  const line = `${marks[status]} ${description.padEnd(18)} ${(progress?.total ? bar : status).padEnd(16)} ${words}`;
  // What a task says may hold anything; on a terminal it must not move the cursor.
  return line.replace(/\p{Cc}/gu, ' ').trimEnd();
}

class TaskView {
  /** The last line drawn for each task. */
  readonly drawn = new Map<string, string>();
  readonly #active = new Map<string, Task>();
  readonly #told = new Map<string, string>();
  readonly #out: NodeJS.WriteStream;
  readonly #ansi: boolean;
  readonly #stopListening: () => void;
  /** Lines that the next drawing replaces. */
  #height = 0;

  constructor(manager: BackgroundTaskManager, out: NodeJS.WriteStream, ansi: boolean) {
    this.#out = out;
    this.#ansi = ansi;
    this.#stopListening = manager.on('*', (event, payload) => {
      if (event.startsWith('task:') && 'task' in payload) this.#show(payload.task);
    });
    process.once('SIGINT', this.#interrupt);
    process.once('exit', this.stop);
    if (ansi) out.write(hideCursor);
  }

  stop = (): void => {
    this.#stopListening();
    process.off('SIGINT', this.#interrupt);
    process.off('exit', this.stop);
    if (this.#ansi) this.#out.write(showCursor);
  };

  /** Whoever waits for this program sees that it was interrupted. */
  #interrupt = (): void => {
    this.stop();
    process.kill(process.pid, 'SIGINT');
  };

  #show(task: Task): void {
    if (isTerminal(task)) this.#active.delete(task.taskId);
    else this.#active.set(task.taskId, task);
    if (this.#ansi) this.#redraw(task);
    else this.#tell(task);
  }

  #draw(task: Task): string {
    const line = lineOf(task);
    this.drawn.set(task.taskId, line);
    return line;
  }

  /** A line for each change of the status, and for each new cell of the bar. */
  #tell(task: Task): void {
    const news = `${task.status} ${filled(task)}`;
    if (this.#told.get(task.taskId) === news) return;
    this.#told.set(task.taskId, news);
    this.#out.write(`${this.#draw(task)}\n`);
  }

  /** An ended task stays above; the active ones are drawn anew below it. */
  #redraw(news: Task): void {
    const width = (this.#out.columns || 80) - 1; // a line that wraps would be two
    const tasks = [...(isTerminal(news) ? [news] : []), ...this.#active.values()];
    const lines = tasks.map((task) => `${[...this.#draw(task)].slice(0, width).join('')}\n`);
    this.#out.write(`${this.#height > 0 ? `\x1b[${this.#height}A` : ''}\x1b[J${lines.join('')}`);
    this.#height = this.#active.size;
  }
}
// #endregion terminal

/** Counts to 40, and goes on at 39 for as long as `forever` says. */
async function index(manager: BackgroundTaskManager, forever: boolean): Promise<void> {
  await manager.registerTask({
    kind: 'function',
    taskId: 'index',
    description: 'Index the files',
    run: async ({ reportProgress, signal }) => {
      for (let current = 1; current <= 40; current += forever && current === 39 ? 0 : 1) {
        reportProgress({ current, total: 40, message: `${current} of 40` });
        await sleep(25, undefined, { signal });
      }
    },
  });
}

async function work(manager: BackgroundTaskManager): Promise<void> {
  manager.on('task:waiting', ({ task }) => manager.provideInput(task.taskId, 'yes').then(() => undefined));
  await index(manager, false);
  await manager.registerTask({
    kind: 'process',
    taskId: 'tests',
    description: 'Run the tests',
    command: 'sleep 1; exit 3',
  });
  await manager.registerTask({
    kind: 'function',
    taskId: 'deploy',
    description: 'Deploy',
    run: async ({ requestInput }) => {
      await requestInput('Deploy to\nproduction?');
      throw new Error('the connection was refused');
    },
  });
  await manager.waitForIdle();
}

/** A copy of this program is interrupted while it draws. */
async function checkInterrupt(directory: string): Promise<void> {
  const copy = spawn(process.execPath, [...process.execArgv, fileURLToPath(import.meta.url), directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let drawn = '';
  let isInterrupted = false;
  copy.stdout.setEncoding('utf8').on('data', (chunk) => {
    drawn += chunk;
    if (drawn.includes('░') && !isInterrupted) isInterrupted = copy.kill('SIGINT');
  });
  const signal = await new Promise((resolve) => copy.once('close', (_, by) => resolve(by)));
  assert.equal(signal, 'SIGINT');
  assert(drawn.startsWith(hideCursor) && drawn.endsWith(showCursor), 'the cursor was given back');
}

async function drawAndCheck(directory: string): Promise<void> {
  await using manager = await BackgroundTaskManager.open({ directory });
  const view = new TaskView(manager, process.stdout, process.stdout.isTTY);
  try {
    await work(manager);
  } finally {
    view.stop();
  }
  const tasks = manager.listTasks();
  assert.deepEqual(
    Object.fromEntries(view.drawn),
    Object.fromEntries(tasks.map((task) => [task.taskId, lineOf(task)])),
  );
  assert.equal(view.drawn.get('index'), '✔ Index the files    ██████████ 100 % 40 of 40');
  assert.match(view.drawn.get('tests') ?? '', /^✘ Run the tests +failed +.*\b3\b/);
  assert.match(view.drawn.get('deploy') ?? '', /^✘ Deploy +failed +the connection was refused$/);
}

const [, , directoryOfCopy] = process.argv;
if (directoryOfCopy) {
  const manager = await BackgroundTaskManager.open({ directory: directoryOfCopy });
  new TaskView(manager, process.stdout, true);
  await index(manager, true);
  await manager.waitForIdle();
} else {
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-terminal-'));
  try {
    await drawAndCheck(join(directory, 'own'));
    await checkInterrupt(join(directory, 'copy'));
    console.log('what was drawn last is true, and the terminal is as it was');
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
