/* The calls of the public API that are about several tasks, or about what a task left on disk. Their options have been checked. */
import { BackgroundTaskError } from '../errors.js';
import type { OutputWindow, ReadOutputOptions } from '../output/types.js';
import { compileFilter, type TaskFilter, withForeground } from '../task/filter.js';
import { NotJsonError, toJson } from '../task/json.js';
import type { TaskRecord } from '../task/record.js';
import type { JsonValue } from '../task/types.js';
import { jsonObject } from './json-input.js';
import type { Parts } from './parts.js';
import type { StopRequest } from './task/stopping.js';
import type { Task } from './task/task.js';
import type { WaitOptions } from './waits.js';

/** How a foreground task left the foreground. */
export type Release = 'detached' | 'detached_by_timeout' | 'terminal';

export class Calls {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  update(task: Task, patch: { description?: string | undefined; metadata?: unknown }): Promise<TaskRecord> {
    const metadata = patch.metadata === undefined ? {} : jsonObject(patch.metadata, 'metadata');
    return task.post({ is: 'described', description: patch.description, metadata });
  }

  waitForTask(
    task: Task,
    { orWaiting, ...options }: WaitOptions & { orWaiting?: boolean | undefined },
  ): Promise<TaskRecord> {
    const over = () => (!task.isActive || (orWaiting && task.record.status === 'waiting') ? task.view : undefined);
    return this.#parts.waits.until([task], over, options, () => task.view);
  }

  async waitForAny(named: readonly Task[] | undefined, options: WaitOptions): Promise<TaskRecord | undefined> {
    const tasks = named ?? this.#parts.table.active();
    options.signal?.throwIfAborted();
    if (tasks.length === 0) return undefined;
    const first = () => firstEnded(tasks);
    const ended = await this.#parts.waits.until<Task | null>(tasks, first, options, () => null);
    return ended?.view;
  }

  waitForIdle({ filter, ...options }: WaitOptions & { filter?: TaskFilter | undefined }): Promise<boolean> {
    const { table, registration, waits } = this.#parts;
    const matches = compileFilter(withForeground(filter));
    const idle = () => {
      for (const task of table.allActive()) if (task.kind && matches(task.view)) return undefined;
      for (const record of registration.unwritten()) if (matches(record)) return undefined;
      return true;
    };
    return waits.until<boolean>(undefined, idle, options, () => false);
  }

  waitForRelease(task: Task, options: WaitOptions): Promise<Release> {
    const released = () =>
      task.released ?? (!task.isActive ? 'terminal' : task.record.detached ? 'detached' : undefined);
    return this.#parts.waits.until<Release>([task], released, options, () => {
      throw new DOMException(`the task is still in the foreground after ${options.timeoutMs} ms`, 'TimeoutError');
    });
  }

  /** Resolves once the task has ended. */
  async stop(task: Task, request: StopRequest): Promise<TaskRecord> {
    await task.stop(request);
    return this.waitForTask(task, {});
  }

  async stopAll(filter: TaskFilter | undefined, request: StopRequest): Promise<TaskRecord[]> {
    const matches = compileFilter(withForeground(filter));
    const stoppable = (task: Task) => task.work.canStop && !task.outOfReach && matches(task.view);
    const tasks = this.#parts.table.active().filter(stoppable);
    return Promise.all(tasks.map((task) => this.stop(task, request)));
  }

  async provideInput(task: Task, value: unknown): Promise<TaskRecord> {
    assertWaiting(task);
    // Copied now: what the caller does with it afterwards changes nothing.
    const answer = inputOf(value, task.taskId);
    return task.work.answer(answer);
  }

  async readOutput(task: Task, options: ReadOutputOptions | undefined): Promise<OutputWindow> {
    // While it runs, a character that is half written is left for the next read.
    return task.output.read(options, { grows: task.isActive });
  }

  async readResult(task: Task): Promise<JsonValue | undefined> {
    const { record, taskId } = task;
    // A host killed between the result's file and the settlement leaves a file that nothing vouches for.
    if (task.isActive || record.status === 'lost') return undefined;
    return 'result' in record ? record.result : this.#parts.shared.store.getResult(taskId);
  }

  async *followOutput(
    task: Task,
    offset: number | undefined,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<string, void, undefined> {
    const over = new AbortController();
    const ended = this.waitForTask(task, { signal: over.signal });
    ended.catch(() => undefined); // ended by us below, or the manager closed, which the follower is told by `closed`
    const closed = ended.then(() => new Promise<never>(() => undefined));
    closed.catch(() => undefined); // the follower may have finished
    try {
      yield* task.output.follow({
        offset: offset ?? 0,
        ...(signal && { signal }),
        clock: this.#parts.shared.clock,
        ended: ended.then(
          () => undefined,
          () => new Promise<void>(() => undefined),
        ),
        closed,
      });
    } finally {
      over.abort();
    }
  }
}

/** Of those that have ended, who ended first. */
function firstEnded(tasks: readonly Task[]): Task | undefined {
  return tasks
    .filter((task) => !task.isActive)
    .reduce<Task | undefined>(
      (first, task) => (first && first.record.endedAt! <= task.record.endedAt! ? first : task),
      undefined,
    );
}

function assertWaiting({ taskId, record, working }: Task): void {
  const { status } = record;
  if (status === 'waiting' && !working.stop) return;
  const why =
    working.stop && status === 'waiting' ? 'the task is being stopped' : `the task is ${status}, and waits for nothing`;
  throw new BackgroundTaskError('TASK_NOT_WAITING', why, { taskId });
}

function inputOf(value: unknown, taskId: string): JsonValue {
  try {
    return toJson(value, 'value');
  } catch (error) {
    if (!(error instanceof NotJsonError)) throw error;
    throw new BackgroundTaskError('INVALID_INPUT', `the answer is not JSON: ${error.message}`, {
      cause: error,
      taskId,
    });
  }
}
