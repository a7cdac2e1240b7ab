/*
 * From a record that says `running` to work that runs. The record is on disk before the work begins: a crash in between leaves a
 * `running` task whose kind finds that nothing runs, never work without a record.
 */

import { asError, BackgroundTaskError } from '../errors.js';
import { detailsFit, type KindRuntime } from '../task/kind.js';
import type { TaskRecord } from '../task/record.js';
import { describeError } from '../task/task-error.js';
import { Limiter } from '../util/limiter.js';
import { type Core, isOver } from './core.js';
import type { Deadlines } from './deadlines.js';
import type { Entry } from './entry.js';
import { InProcessRun } from './in-process.js';
import { without, withRoom } from './ledger.js';
import type { ProgressReports } from './progress.js';
import { detailPatch, failure, type Settlement } from './settlement.js';

/** What the launch of one task takes. */
export interface Launch {
  readonly entry: Entry;
  readonly kind: KindRuntime;
  /** `run`, or the input of `start`. */
  readonly input: unknown;
  /** Whether somebody awaits the launch: then a failure is told to them, and no hook is owed. */
  readonly callerWaits: boolean;
}

/** Output files that are made at once: each is held open for a moment. */
const CONCURRENT_OUTPUTS = 16;

export class Launcher {
  readonly #core: Core;
  readonly #settlement: Settlement;
  readonly #deadlines: Deadlines;
  readonly #progress: ProgressReports;
  readonly #hint: (entry: Entry) => void;
  readonly #outputs = new Limiter(CONCURRENT_OUTPUTS);
  /** Of launches under way. */
  readonly #controllers = new Set<AbortController>();
  #closed: DOMException | undefined;

  constructor(
    core: Core,
    settlement: Settlement,
    deadlines: Deadlines,
    progress: ProgressReports,
    hint: (entry: Entry) => void,
  ) {
    this.#core = core;
    this.#settlement = settlement;
    this.#deadlines = deadlines;
    this.#progress = progress;
    this.#hint = hint;
  }

  /** Tells launches under way that the manager closes. */
  close(): void {
    this.#closed ??= new DOMException('the manager is closing', 'AbortError');
    for (const controller of this.#controllers) controller.abort(this.#closed);
  }

  /** The record of a task whose work begins now. */
  begun(record: TaskRecord): TaskRecord {
    const startedAt = Math.max(this.#core.clock.now(), record.createdAt);
    return {
      ...record,
      status: 'running',
      startedAt,
      owner: this.#core.store.owner,
      ...(record.timeoutMs && { deadlineAt: startedAt + record.timeoutMs }),
    };
  }

  /** Begins the work of a task that is `running` on record. Throws `LAUNCH_FAILED` once that is on record, too. Under `exclusive`. */
  async launch(launch: Launch): Promise<void> {
    const { entry, kind } = launch;
    this.#deadlines.arm(entry);
    if (kind.start) await this.#start(launch, kind.start);
    else {
      const run = new InProcessRun(this.#core, entry, kind, this.#progress, this.#hint);
      entry.run = run;
      this.#core.emit('task:started', { task: entry.view });
      void run.start(launch.input as (context: unknown) => unknown);
    }
  }

  async #start(launch: Launch, start: NonNullable<KindRuntime['start']>): Promise<void> {
    const { entry } = launch;
    const controller = new AbortController();
    this.#controllers.add(controller);
    if (this.#closed) controller.abort(this.#closed);
    const started = this.#callStart(launch, start, controller.signal);
    const over = started.catch(() => undefined); // whoever launches hears of it
    entry.launching = { over, abort: (reason) => controller.abort(reason) };
    try {
      await started;
    } finally {
      entry.launching = undefined;
      this.#controllers.delete(controller);
    }
  }

  async #callStart(launch: Launch, start: NonNullable<KindRuntime['start']>, signal: AbortSignal): Promise<void> {
    const { entry, kind, input } = launch;
    let learnt: object | undefined;
    try {
      learnt = (await start(await this.#outputs.run(() => this.#context(entry, signal)), input)) ?? undefined;
    } catch (error) {
      if (!launch.callerWaits && this.#gaveUpToClose(error)) return this.giveUp(entry);
      throw await this.#failed(launch, error);
    }
    if (learnt) await this.#learn(entry, kind, learnt);
    this.#core.emit('task:started', { task: entry.view });
  }

  #gaveUpToClose(error: unknown): boolean {
    return this.#closed !== undefined && (error === this.#closed || asError(error).name === 'AbortError');
  }

  /** The manager closes before this work began: it is queued again, for the next owner. One that is being stopped ends instead. */
  async giveUp(entry: Entry): Promise<void> {
    if (entry.working.stop) {
      const endedAt = this.#core.notBefore(entry.record);
      await this.#settlement.settle(entry, { ending: 'gone', endedAt, neverBegan: 'nobody was told' });
      return;
    }
    this.#deadlines.clear(entry);
    await this.#core.ledger.change(
      entry,
      (record) => (record.status === 'running' ? queuedAgain(record) : undefined),
      (task) => this.#core.emit('task:queued', { task }),
    );
    entry.slot?.release();
    entry.slot = undefined;
  }

  async #context(entry: Entry, signal: AbortSignal) {
    const output = this.#core.store.output(entry.taskId);
    await output.prepare();
    const { taskId, record, view } = entry;
    return {
      taskId,
      attempt: record.attempt,
      details: record.details,
      outputPath: output.path,
      signal,
      task: view,
    };
  }

  /** What `start` learnt goes on record. The work runs already, so a refusal now is reported, not thrown; the next write carries it. */
  async #learn(entry: Entry, kind: KindRuntime, learnt: object): Promise<void> {
    try {
      const details = { ...entry.record.details, ...detailPatch(learnt) };
      if (!detailsFit(kind, { ...entry.view, details }))
        throw new TypeError(`start of "${kind.name}" answered with details that do not fit the kind`);
      withRoom({ ...entry.view, details });
      entry.note({ details });
      await this.#core.ledger.change(entry, (record) => ({ ...record }));
    } catch (error) {
      if (isOver(error)) throw error;
      this.#core.reportOnce(error, entry.taskId);
    }
  }

  async #failed({ entry, callerWaits }: Launch, error: unknown): Promise<BackgroundTaskError> {
    await this.#settlement.settle(entry, {
      ...failure(describeError(error)),
      endedAt: this.#core.notBefore(entry.record),
      neverBegan: callerWaits ? 'caller was told' : 'nobody was told',
    });
    return new BackgroundTaskError(
      'LAUNCH_FAILED',
      `could not start "${entry.record.description}": ${describeError(error).message}`,
      {
        cause: error,
        taskId: entry.taskId,
      },
    );
  }
}

/** A record that was `running` and whose work never began. Its deadline counts from the start, which is still to come. */
export function queuedAgain(record: TaskRecord): TaskRecord {
  return { ...without(record, 'deadlineAt'), status: 'queued', startedAt: null };
}
