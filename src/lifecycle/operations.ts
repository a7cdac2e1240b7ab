/* The calls of the public API that need more than one part of the lifecycle. Their options have been checked. */
import { asError, BackgroundTaskError } from '../errors.js';
import type { DeliveryEntry } from '../hooks/types.js';
import { followFile } from '../output/follow.js';
import type { OutputWindow, ReadOutputOptions } from '../output/types.js';
import { compileFilter, type TaskFilter, withForeground } from '../task/filter.js';
import { NotJsonError, toJson } from '../task/json.js';
import type { TaskRecord } from '../task/record.js';
import type { HookState, JsonValue } from '../task/types.js';
import { type Core, expectManaged } from './core.js';
import type { Engine } from './engine.js';
import type { Entry } from './entry.js';
import { resume } from './in-process.js';
import { withRoom } from './ledger.js';
import { jsonObject } from './spec-parser.js';
import type { StopRequest } from './stopping.js';
import type { WaitOptions } from './waits.js';

export class Operations {
  readonly #core: Core;
  readonly #engine: Engine;

  /** Answers under way. One that comes meanwhile waits: the question is still open where the first is refused. */
  readonly #answering = new Map<Entry, Promise<unknown>>();

  constructor(core: Core, engine: Engine) {
    this.#core = core;
    this.#engine = engine;
  }

  update(entry: Entry, patch: { description?: string | undefined; metadata?: unknown }): Promise<TaskRecord> {
    const metadata = patch.metadata === undefined ? {} : jsonObject(patch.metadata, 'metadata');
    return this.#core.ledger.change(
      entry,
      (record) =>
        withRoom({
          ...record,
          description: patch.description ?? record.description,
          metadata: { ...record.metadata, ...metadata },
        }),
      (task) => this.#core.emit('task:updated', { task }),
    );
  }

  waitForTask(
    entry: Entry,
    { orWaiting, ...options }: WaitOptions & { orWaiting?: boolean | undefined },
  ): Promise<TaskRecord> {
    const over = () => (!entry.active || (orWaiting && entry.record.status === 'waiting') ? entry.view : undefined);
    return this.#core.waits.until([entry.taskId], over, options, () => entry.view);
  }

  async waitForAny(named: readonly Entry[] | undefined, options: WaitOptions): Promise<TaskRecord | undefined> {
    const entries = named ?? this.#core.table.active();
    const first = () => firstEnded(entries);
    options.signal?.throwIfAborted();
    if (entries.length === 0) return undefined;
    const ids = entries.map((entry) => entry.taskId);
    return this.#core.waits.until<Entry | null>(ids, first, options, () => null).then((entry) => entry?.view);
  }

  waitForIdle({ filter, ...options }: WaitOptions & { filter?: TaskFilter | undefined }): Promise<boolean> {
    const matches = compileFilter(withForeground(filter));
    const idle = () => {
      for (const entry of this.#core.table.allActive()) if (entry.kind && matches(entry.view)) return undefined;
      for (const record of this.#engine.registration.underWay()) if (matches(record)) return undefined;
      return true;
    };
    return this.#core.waits.until<boolean>(undefined, idle, options, () => false);
  }

  waitForRelease(entry: Entry, options: WaitOptions): Promise<'detached' | 'detached_by_timeout' | 'terminal'> {
    const released = () =>
      entry.released ?? (!entry.active ? 'terminal' : entry.record.detached ? 'detached' : undefined);
    return this.#core.waits.until<'detached' | 'detached_by_timeout' | 'terminal'>(
      [entry.taskId],
      released,
      options,
      () => {
        throw new DOMException(`the task is still in the foreground after ${options.timeoutMs} ms`, 'TimeoutError');
      },
    );
  }

  /** Resolves once the task has ended. */
  async stop(entry: Entry, request: StopRequest): Promise<TaskRecord> {
    await this.#engine.stopping.begin(entry, request);
    return this.waitForTask(entry, {});
  }

  async stopAll(filter: TaskFilter | undefined, request: StopRequest): Promise<TaskRecord[]> {
    const matches = compileFilter(withForeground(filter));
    const stoppable = ({ kind, view, outOfReach }: Entry) =>
      (!kind?.start || kind.stop !== undefined) && !outOfReach && matches(view);
    return Promise.all(
      this.#core.table
        .active()
        .filter(stoppable)
        .map((entry) => this.stop(entry, request)),
    );
  }

  async provideInput(entry: Entry, value: unknown): Promise<TaskRecord> {
    assertWaiting(entry);
    // Copied now: what the caller does with it afterwards changes nothing.
    const answer = inputOf(value, entry.taskId);
    const before = this.#answering.get(entry);
    // Work in this process answers for itself at once; other work may take its time.
    if (before && !entry.run) throw notWaiting(entry, 'another answer is on its way');
    const answered = (before ?? Promise.resolve()).then(() => this.#answer(entry, answer));
    const over = answered
      .catch(() => undefined) // whoever answered hears of it
      .finally(() => {
        if (this.#answering.get(entry) === over) this.#answering.delete(entry);
      });
    this.#answering.set(entry, over);
    return answered;
  }

  async #answer(entry: Entry, answer: JsonValue): Promise<TaskRecord> {
    const { taskId } = entry;
    if (entry.run) return entry.run.answer(answer);
    // It may have ended while another answer was on its way.
    assertWaiting(entry);
    const kind = expectManaged(entry);
    if (!kind.provideInput) {
      throw new BackgroundTaskError(
        'INVALID_INPUT',
        `tasks of the kind "${kind.name}" take no input: the kind defines no provideInput`,
        { taskId },
      );
    }
    const prompt = entry.record.waitingFor?.prompt ?? '';
    // On record before the work sees it; `waiting` ends only once the work took it.
    await this.#core.ledger.change(entry, (record) =>
      withRoom({ ...record, lastInput: { prompt, value: answer, answeredAt: this.#core.clock.now() } }),
    );
    try {
      await kind.provideInput(entry.view, answer);
    } catch (error) {
      const { message } = asError(error);
      throw new BackgroundTaskError('INVALID_INPUT', `the work did not take the answer: ${message}`, {
        cause: error,
        taskId,
      });
    }
    // A probe may have seen already that the work goes on.
    return resume(this.#core, entry, answer, 'leave');
  }

  async readOutput(entry: Entry, options: ReadOutputOptions | undefined): Promise<OutputWindow> {
    // While it runs, a character that is half written is left for the next read.
    return this.#core.store.output(entry.taskId).read(options, { grows: entry.active });
  }

  async readResult(entry: Entry): Promise<JsonValue | undefined> {
    // A host killed between the result's file and the settlement leaves a file that nothing vouches for.
    if (entry.active || entry.record.status === 'lost') return undefined;
    return 'result' in entry.record ? entry.record.result : this.#core.store.getResult(entry.taskId);
  }

  async *followOutput(
    entry: Entry,
    offset: number | undefined,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<string, void, undefined> {
    const over = new AbortController();
    const ended = this.waitForTask(entry, { signal: over.signal });
    ended.catch(() => undefined); // ended by us below, or the manager closed, which the follower is told by `closed`
    const closed = ended.then(() => new Promise<never>(() => undefined));
    closed.catch(() => undefined); // the follower may have finished
    try {
      yield* followFile({
        path: this.#core.store.output(entry.taskId).path,
        offset: offset ?? 0,
        ...(signal && { signal }),
        clock: this.#core.clock,
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

  listDeliveries(filter: { state?: HookState | undefined; name?: string | undefined }): readonly DeliveryEntry<any>[] {
    const records = function* (entries: Iterable<Entry>) {
      for (const entry of entries) if (!entry.active) yield entry.view;
    };
    // An inbox is asked often: what it is owed must not cost a walk over all tasks ever.
    const few = filter.state === 'pending' || filter.state === 'failed';
    return this.#engine.outbox.list(records(few ? this.#core.table.owing() : this.#core.table.all()), filter);
  }
}

/** Of those that have ended, who ended first. */
function firstEnded(entries: readonly Entry[]): Entry | undefined {
  return entries
    .filter((entry) => !entry.active)
    .reduce<Entry | undefined>(
      (first, entry) => (first && first.record.endedAt! <= entry.record.endedAt! ? first : entry),
      undefined,
    );
}

function assertWaiting(entry: Entry): void {
  const { status } = entry.record;
  if (status !== 'waiting') throw notWaiting(entry, `the task is ${status}, and waits for nothing`);
  if (entry.working.stop) throw notWaiting(entry, 'the task is being stopped');
}

function notWaiting({ taskId }: Entry, why: string): BackgroundTaskError {
  return new BackgroundTaskError('TASK_NOT_WAITING', why, { taskId });
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
