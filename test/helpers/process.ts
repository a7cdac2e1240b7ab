// Process tasks without a manager: the kind's own callbacks, called as the manager calls them, on real processes.
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type Clock, systemClock } from '../../src/clock.js';
import { OutputFile } from '../../src/output/output-file.js';
import { createProcessKind } from '../../src/process/process-kind.js';
import type { ProcessInput } from '../../src/process/process-spec.js';
import { supervisorArguments } from '../../src/process/supervisor/shim.js';
import { TASK_VARIABLE } from '../../src/process/table/marks.js';
import type { TaskFiles } from '../../src/store/contract.js';
import { ownIdentity } from '../../src/store/identity.js';
import { Layout } from '../../src/store/layout.js';
import { RunFiles } from '../../src/store/run-files.js';
import { RunFolder } from '../../src/store/run-folder.js';
import type { Probe } from '../../src/task/kind.js';
import { type AttachedWork, type KindRuntime, runtimeOf } from '../../src/task/kind-runtime.js';
import type { OwnerIdentity, ProcessDetails, ProcessTask, TaskStop } from '../../src/task/types.js';
import { tempDirectory, until } from './wait.js';

export type ProcessProbe = Probe<ProcessDetails, never>;
type Ended = Extract<ProcessProbe, { state: 'completed' | 'failed' | 'gone' }>;

export interface LabOptions {
  readonly clock?: Clock;
  readonly owner?: Partial<OwnerIdentity>;
  /** Another lab's folder: what a host finds that comes after another one. */
  readonly layout?: Layout;
}

/** One host's process kind, and what it said. */
export class ProcessLab {
  readonly layout: Layout;
  readonly files: TaskFiles;
  readonly owner: OwnerIdentity;
  readonly hints: string[] = [];
  readonly exceeded: string[] = [];
  readonly errors: Error[] = [];
  readonly kind: KindRuntime;
  /** The manager has ended, and its tasks have not heard of it yet. */
  readonly close: () => void;
  readonly #clock: Clock;
  /** As the tasks of a manager have them. */
  readonly #works = new Map<string, AttachedWork>();
  #ids = 0;

  constructor({ clock = systemClock, owner = {}, layout = newLayout() }: LabOptions = {}) {
    this.layout = layout;
    this.files = filesIn(layout);
    this.owner = { ...ownIdentity(), ...owner };
    this.#clock = clock;
    const support = createProcessKind({
      files: this.files,
      owner: this.owner,
      clock,
      onHint: (taskId) => this.hints.push(taskId),
      onHintAll: () => this.hints.push('all'),
      onError: (error) => this.errors.push(error),
    });
    this.kind = runtimeOf(support.kind)!;
    this.close = support.close;
    onTestFinished(async () => {
      await this.dispose(() => true);
      await killTrees(layout.runDir);
    });
  }

  /** What the kind keeps for this task. */
  work({ taskId }: { readonly taskId: string }): AttachedWork {
    const work =
      this.#works.get(taskId) ??
      this.kind.attach!(taskId, {
        hint: () => this.hints.push(taskId),
        outputLimit: () => this.exceeded.push(taskId),
        report: (error) => this.errors.push(error),
      });
    this.#works.set(taskId, work);
    return work;
  }

  async quiesce(): Promise<void> {
    await Promise.all([...this.#works.values()].map((work) => work.quiesce!()));
  }

  /** The manager has ended. Resolves once what stood still for its output goes on, but for tasks whose stop is on record. */
  async dispose(hasStop: (taskId: string) => boolean = () => false): Promise<void> {
    this.close();
    await Promise.all([...this.#works].map(([taskId, work]) => work.dispose!(hasStop(taskId))));
  }

  /** A task that is `running` on record and was not started. */
  task(
    details: Partial<ProcessDetails> = {},
    more: Partial<ProcessTask> & { maxOutputBytes?: number } = {},
  ): ProcessTask {
    const now = this.#clock.now();
    return {
      taskId: `t${++this.#ids}`,
      kind: 'process',
      description: 'work',
      status: 'running',
      detached: true,
      createdAt: now,
      startedAt: now,
      endedAt: null,
      attempt: 1,
      revision: 1,
      updatedAt: now,
      owner: this.owner,
      details: { command: 'true', cwd: this.layout.directory, pid: null, exitCode: null, signal: null, ...details },
      metadata: {},
      hooks: {},
      ...more,
    };
  }

  /** Starts it; answers the record as it is afterwards. */
  async start(task: ProcessTask, input: ProcessInput = {}): Promise<ProcessTask> {
    const { taskId, attempt, details } = task;
    mkdirSync(this.layout.taskDir(taskId), { recursive: true });
    const outputPath = this.layout.outputPath(taskId);
    writeFileSync(outputPath, '', { flag: 'a' });
    const context = { taskId, attempt, details, outputPath, signal: new AbortController().signal, task };
    const learnt = (await this.work(task).start!(context as never, input)) as Partial<ProcessDetails>;
    return { ...task, details: { ...details, ...learnt } };
  }

  run(
    command: string | readonly string[],
    input?: ProcessInput,
    more: Partial<ProcessTask> = {},
  ): Promise<ProcessTask> {
    return this.start(this.task({ command }, more), input);
  }

  probe(task: ProcessTask): Promise<ProcessProbe> {
    return Promise.resolve(this.work(task).probe!(task)) as Promise<ProcessProbe>;
  }

  /** Probes until it has ended. */
  async ended(task: ProcessTask): Promise<Ended> {
    return until(async () => {
      const probe = await this.probe(task);
      return probe.state === 'running' || probe.state === 'waiting' ? undefined : probe;
    });
  }

  /** The outcome of a command. */
  async outcome(command: string | readonly string[], input?: ProcessInput): Promise<Ended> {
    return this.ended(await this.run(command, input));
  }

  async stop(task: ProcessTask, how: 'terminate' | 'kill'): Promise<void> {
    await this.work(task).stop!(task, how);
  }

  async settled(task: ProcessTask): Promise<void> {
    await this.work(task).settled!(task);
  }

  output(task: ProcessTask): Buffer {
    return readFileSync(this.layout.outputPath(task.taskId));
  }

  /** Resolves once the output has this text. */
  async printed(task: ProcessTask, text: string): Promise<string> {
    return until(
      () => {
        const output = this.output(task).toString();
        return output.includes(text) && output;
      },
      { message: () => `${JSON.stringify(text)} in ${JSON.stringify(this.output(task).toString())}` },
    );
  }

  /** The living processes that carry the task's mark. */
  marked(task: ProcessTask): number[] {
    return marked(`${this.layout.runDir}/${task.taskId}`, true);
  }

  /**
   * The programs that the living processes of the task run, in order. A subshell on its way to its own is still the
   * shell.
   */
  programs(task: ProcessTask): string[] {
    return this.marked(task)
      .map((pid) => argumentsOf(pid)[0] ?? '')
      .sort();
  }

  /** Resolves once another host can tell that the supervisor lives: while it begins, it shows no arguments. */
  async visible(task: ProcessTask): Promise<ProcessTask> {
    const pid = task.details.pid!;
    await until(() => argumentsOf(pid).length > 0 || !isAlive(pid));
    return task;
  }

  /** Starts a supervisor without the kind, as a host did that died before it could write anything down. */
  supervisor(task: ProcessTask, shell: readonly string[] = ['/bin/sh']): ChildProcess {
    const { runDir } = this.layout;
    const { taskId, details } = task;
    const args = supervisorArguments({ runDir, taskId, umask: '0022', command: details.command });
    return spawned(shell[0]!, [...shell.slice(1), ...args], {
      detached: true,
      env: { ...process.env, [TASK_VARIABLE]: `${runDir}/${taskId}` },
    });
  }
}

/** A process that is killed after the test, with its group if it leads one. Its end is awaited. */
export function spawned(file: string, args: readonly string[], options: SpawnOptions = {}): ChildProcess {
  const child = spawn(file, [...args], { stdio: 'ignore', ...options });
  const ended = once(child, 'exit');
  onTestFinished(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    if (options.detached) process.kill(-child.pid!, 'SIGKILL');
    child.kill('SIGKILL');
    await ended;
  });
  return child;
}

/** What a store hands out. */
export function filesIn(layout: Layout): TaskFiles {
  return {
    runFolder: new RunFolder(layout),
    output: (taskId) => new OutputFile(layout.outputPath(taskId)),
    runFiles: (taskId) => new RunFiles(layout, taskId),
  };
}

function newLayout(): Layout {
  const layout = new Layout(tempDirectory());
  mkdirSync(layout.runDir, { mode: 0o700 });
  return layout;
}

const userStop: TaskStop = { cause: 'user', requestedAt: 1 };

/** The same task with a stop on record. */
export function stopping(task: ProcessTask): ProcessTask {
  return { ...task, stop: userStop };
}

/** Whether a process lives: zombies do not. */
export function isAlive(pid: number): boolean {
  const state = stateOf(pid);
  return state !== undefined && state !== 'Z' && state !== 'X';
}

/** The letter of the process table, `undefined` for no process. */
export function stateOf(pid: number): string | undefined {
  const stat = readProc(pid, 'stat');
  return stat?.charAt(stat.lastIndexOf(')') + 2);
}

function readProc(pid: number, file: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return undefined; // it ended
  }
}

/** The arguments of a process; none where it has ended, or is just beginning its program. */
function argumentsOf(pid: number): string[] {
  return (readProc(pid, 'cmdline') ?? '').split('\0').slice(0, -1);
}

const PF_KTHREAD = 0x00200000;
const FLAGS = 6;
const LOOKS = 2_000;

/**
 * Who begins another program has neither environment nor arguments for a moment: it is waited for. The kernel's own
 * threads never have.
 */
function environOf(pid: number): string {
  for (let look = 0; ; look++) {
    const environ = readProc(pid, 'environ') ?? '';
    if (environ !== '' || readProc(pid, 'cmdline') !== '' || look === LOOKS || !isAlive(pid)) return environ;
    const flags = Number(readProc(pid, 'stat')?.split(') ').at(-1)?.split(' ')[FLAGS]);
    if (flags & PF_KTHREAD) return environ;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
  }
}

function marked(mark: string, whole: boolean): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => {
      if (!Number.isInteger(pid) || !isAlive(pid)) return false;
      const variables = environOf(pid).split('\0');
      return variables.some((text) =>
        whole ? text === `${TASK_VARIABLE}=${mark}` : text.startsWith(`${TASK_VARIABLE}=${mark}`),
      );
    });
}

async function killTrees(runDir: string): Promise<void> {
  if (!existsSync(join(runDir, '..'))) return;
  await until(() => {
    const left = marked(`${runDir}/`, false);
    for (const pid of left) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // it ended meanwhile
      }
    }
    return left.length === 0;
  });
}
