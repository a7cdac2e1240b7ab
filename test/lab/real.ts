/* The real manager beside model.ts, with work that ends when it is told to, and how it did. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { BackgroundTaskManager, defineTaskKind } from 'holdfast';
import { z } from 'zod';
import { readDisk } from './checker.js';
import { isActive, type Model, type ModelTask } from './model.js';
import { until } from './until.js';

/** What in-process work is told. */
type Word = { readonly end: 'completed' | 'failed' } | { readonly ask: true };

interface Context {
  readonly taskId: string;
  readonly signal: AbortSignal;
  requestInput(prompt: string): Promise<unknown>;
}

/** In-process work that its kind takes up again. */
const agentKind = (work: (context: Context) => Promise<string>) =>
  defineTaskKind({ name: 'agent', details: z.object({}), recover: () => work });

export class Real {
  readonly #folder: string;
  readonly #directory: string;
  readonly #limit: number;
  readonly #words = new Map<string, (word: Word) => void>();
  readonly #fifos = new Map<string, number>();
  #slots: { release(): void }[] = [];
  /** Ids in the order in which they were heard to end, in this process. */
  readonly settled: string[] = [];
  readonly #agent = agentKind((context) => this.#work(context));
  manager!: BackgroundTaskManager<ReturnType<typeof agentKind>>;

  constructor(folder: string, limit: number) {
    this.#folder = folder;
    this.#directory = join(folder, 'tasks');
    this.#limit = limit;
  }

  async open(): Promise<void> {
    const limits = { maxRunningTasks: this.#limit, whenFull: 'queue', stopGraceMs: 2_000 } as const;
    this.manager = await BackgroundTaskManager.open({
      directory: this.#directory,
      fsync: false,
      // Where a watch cannot be had, the timer is what finds an end.
      reconcileIntervalMs: 1_000,
      kinds: [this.#agent],
      hooks: { inbox: 'pull' },
      ...limits,
    });
    this.manager.on('task:settled', ({ task }) => void this.settled.push(task.taskId));
  }

  /** Whoever has a slot by the model is `running` on record; its work may be about to begin. */
  async begun(model: Model): Promise<void> {
    const ids = model.ids(({ status }) => status === 'running');
    do await setImmediate();
    while (ids.some((id) => this.manager.getTask(id)?.status !== 'running'));
  }

  async restart(): Promise<void> {
    await this.manager.close();
    this.#slots = [];
    await this.open();
  }

  async add(taskId: string, kind: ModelTask['kind'], detached: boolean, owes: boolean): Promise<void> {
    const common = { taskId, description: taskId, detached, hooks: owes ? ['inbox'] : [] };
    if (kind === 'process') {
      const fifo = join(this.#folder, `${taskId}.fifo`);
      execFileSync('mkfifo', [fifo]);
      // For both ways, so that nobody waits for the other side.
      this.#fifos.set(taskId, openSync(fifo, 'r+'));
      await this.manager.registerTask({ ...common, kind, command: `read code <'${fifo}'; exit $code` });
    } else {
      const run = (context: Context) => this.#work(context);
      if (kind === 'function') await this.manager.registerTask({ ...common, kind, run });
      else await this.manager.registerTask({ ...common, kind, details: {}, run });
    }
  }

  /** Does as it is told until it is told to end. */
  async #work({ taskId, signal, requestInput }: Context): Promise<string> {
    for (;;) {
      const word = await this.#nextWord(taskId, signal);
      if ('ask' in word) await requestInput('Well?');
      else if (word.end === 'failed') throw new Error('told to fail');
      else return 'done';
    }
  }

  #nextWord(taskId: string, signal: AbortSignal): Promise<Word> {
    return new Promise((resolve, reject) => {
      this.#words.set(taskId, resolve);
      const stop = () => {
        if (this.#words.get(taskId) === resolve) this.#words.delete(taskId);
        reject(signal.reason);
      };
      signal.addEventListener('abort', stop, { once: true });
    });
  }

  async end(taskId: string, end: 'completed' | 'failed'): Promise<void> {
    const fifo = this.#fifos.get(taskId);
    if (fifo === undefined) await this.#say(taskId, { end });
    else writeSync(fifo, end === 'completed' ? '0\n' : '5\n');
    await this.manager.waitForTask(taskId, { timeoutMs: 10_000 });
  }

  async ask(taskId: string): Promise<void> {
    await this.#say(taskId, { ask: true });
    await until(() => this.manager.getTask(taskId)?.status === 'waiting', `${taskId} is waiting`, 10_000);
  }

  /** It may have been launched just now, or have been answered just now. */
  async #say(taskId: string, word: Word): Promise<void> {
    await until(() => this.#words.has(taskId), `${taskId} listens`, 10_000);
    const tell = this.#words.get(taskId)!;
    this.#words.delete(taskId);
    tell(word);
  }

  reserve(): void {
    this.#slots.push(this.manager.reserveSlot());
  }

  release(): void {
    this.#slots.pop()!.release();
  }

  /** Every difference between memory, disk and the model, once what was set going has arrived. */
  async compare(model: Model): Promise<void> {
    // A queued task that got a slot is launched in the background.
    await until(
      () =>
        model.ids(({ status }) => status === 'running').every((id) => this.manager.getTask(id)?.status === 'running'),
      'queued work to start',
      10_000,
    ).catch(() => undefined);
    const disk = readDisk(this.#directory);
    const problems = [...disk.problems];
    const same = (what: string, real: unknown, expected: unknown) => {
      if (JSON.stringify(real) !== JSON.stringify(expected))
        problems.push(`${what}: ${JSON.stringify(real)}, by the model ${JSON.stringify(expected)}`);
    };
    for (const [taskId, task] of model.tasks) {
      for (const [where, found] of Object.entries({
        memory: this.manager.getTask(taskId),
        disk: disk.records.get(taskId),
      })) {
        same(`${taskId} in ${where}`, found && summary(found), {
          status: task.status,
          detached: task.detached,
          metadata: task.metadata,
          inbox: task.inbox,
          answer: task.answer,
          attempt: task.attempt,
        });
      }
    }
    same(
      'the list',
      this.manager.listTasks({ includeForeground: true }).map(({ taskId }) => taskId),
      [...model.tasks.keys()].reverse(),
    );
    same('records', [...disk.records.keys()].sort(), [...model.tasks.keys()].sort());
    same('used slots', this.manager.status().slots.used, model.used);
    const counts = { running: 0, queued: 0, waiting: 0, terminal: 0 };
    for (const task of model.tasks.values()) counts[isActive(task) ? (task.status as 'running') : 'terminal']++;
    const { running, queued, waiting, terminal } = this.manager.status();
    same('status()', { running, queued, waiting, terminal }, counts);
    const owed = this.manager.listDeliveries({ state: 'pending' }).map(({ taskId }) => taskId);
    same('deliveries', owed.sort(), model.ids((task) => !isActive(task) && task.inbox === 'pending').sort());
    same(
      'events of ends that came twice',
      this.settled.filter((id, index) => this.settled.indexOf(id) !== index),
      [],
    );
    if (problems.length > 0) throw new Error(problems.join('; '));
  }

  async close(): Promise<void> {
    await this.manager.close({ tasks: 'stop', graceMs: 0 });
    for (const fifo of this.#fifos.values()) closeSync(fifo);
  }
}

const summary = ({ status, detached, metadata, hooks, lastInput, attempt }: any) => ({
  status,
  detached,
  metadata,
  inbox: hooks.inbox?.state,
  answer: lastInput?.value,
  attempt,
});
