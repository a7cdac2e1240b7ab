/*
 * How a manager ends: by being closed, or by losing its directory. Calls are refused from the first moment; waits are told only when
 * everything that closing ends has ended.
 */
import { delay } from '../clock.js';
import { BackgroundTaskError } from '../errors.js';
import type { Parts } from './parts.js';
import type { StopOptions } from './task/stopping.js';
import type { Task } from './task/task.js';

/** Work that does not end after its grace was over for so long is left to the next owner: its stop is on record. */
const LAST_WAIT_MS = 10_000;

export interface EndOptions extends StopOptions {
  readonly tasks?: 'leave' | 'stop' | undefined;
}

export class Closing {
  readonly #parts: Parts;
  #closed: Promise<void> | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /**
   * Another manager owns the directory now, and will judge our tasks: work in this process is told to end, and nothing is written. `false`: this
   * one had ended already.
   */
  fence(error: BackgroundTaskError): boolean {
    const { lifetime, table, waits, processes, shared } = this.#parts;
    if (!lifetime.fence(error)) return false;
    void this.#quiesce(0);
    for (const task of table.allActive()) {
      const over = task.dispose({ cause: 'shutdown', reason: error.message, requestedAt: shared.clock.now() });
      lifetime.inBackground(over, task.taskId);
    }
    this.#parts.retention.close();
    waits.close(error);
    processes.close();
    return true;
  }

  close(options: EndOptions): Promise<void> {
    this.#closed ??= this.#close(options);
    return this.#closed;
  }

  async #close(options: EndOptions): Promise<void> {
    const { lifetime, shared } = this.#parts;
    const refusal = new BackgroundTaskError('MANAGER_CLOSED', 'the manager is closed');
    if (!lifetime.refuse(refusal)) return shared.store.release();
    try {
      await this.#endTasks(options);
      const failure = await this.#settleRest();
      await this.#shutDown(refusal);
      if (failure) throw failure;
    } finally {
      await shared.store.release();
    }
  }

  async #endTasks({ tasks = 'leave', ...stop }: EndOptions): Promise<void> {
    const { registration, table, shared } = this.#parts;
    const graceMs = stop.graceMs ?? shared.settings.stopGraceMs;
    const { passes, launches, deliveries } = this.#quiesce(graceMs);
    await this.#atMost(graceMs + LAST_WAIT_MS, [passes, launches, ...registration.underWay]);
    const active = table.active();
    const left = tasks === 'leave' ? active.filter(canBeginAgain) : [];
    const ending = active.filter(
      (task) => !left.includes(task) && canEnd(task) && (tasks === 'stop' || endsWithHost(task)),
    );
    const ends = ending.map((task) => this.#end(task, { ...stop, graceMs }));
    // A dead owner's that could not be begun again is left as it is: a look would begin it now.
    const begun = left.filter(({ isOrphaned }) => !isOrphaned);
    const leaves = begun.map((task) => task.leave().catch((error: unknown) => task.report(error)));
    await Promise.all([this.#atMost(graceMs + LAST_WAIT_MS, ends), this.#atMost(graceMs, leaves)]);
    await deliveries;
  }

  /** Nothing new begins: no pass, no launch, no delivery. What is under way is awaited by whoever closes. */
  #quiesce(graceMs: number): Readonly<Record<'passes' | 'launches' | 'deliveries', Promise<void>>> {
    const { table, queue, reconciler, outbox } = this.#parts;
    for (const task of table.allActive()) task.abortLaunch();
    reconciler.schedule();
    return { passes: reconciler.idle(), launches: queue.idle(), deliveries: outbox.close(graceMs) };
  }

  /** The host's own code may hang (a `start`, a `stop`, a `run`): what waits for it is given up, and left to the next owner. */
  async #atMost(limitMs: number, work: readonly Promise<unknown>[]): Promise<void> {
    const over = new AbortController();
    const limit = delay(this.#parts.shared.clock, limitMs, over.signal).catch(() => undefined); // the work was faster
    await Promise.race([Promise.allSettled(work), limit]);
    over.abort();
  }

  async #end(task: Task, stop: StopOptions): Promise<void> {
    try {
      await task.stop({ ...stop, cause: 'shutdown' });
    } catch (error) {
      // A record that cannot be touched: the task stays as it is.
      return task.report(error);
    }
    const over = () => (!task.isActive || task.outcome ? true : undefined);
    await this.#parts.waits.until([task], over, {}, () => true);
  }

  /** Outcomes that could not be written are tried once more, as they are: never replaced by `shutdown`. */
  async #settleRest(): Promise<BackgroundTaskError | undefined> {
    const { lifetime, table } = this.#parts;
    lifetime.quiet();
    for (const task of table.allActive()) task.silence();
    const unwritten: Task[] = [];
    for (const task of [...table.allActive()]) {
      if (task.outcome && !(await task.settle(task.outcome))) unwritten.push(task);
    }
    const [task, ...others] = unwritten;
    if (!task) return undefined;
    const { taskId } = task;
    const more = others.length > 0 ? ` and ${others.length} more` : '';
    return new BackgroundTaskError('STORAGE_FAILED', `the outcome of "${taskId}"${more} could not be written`, {
      taskId,
    });
  }

  /** Ends everything that has no reason to outlive this manager. `error` is what pending waits are told. */
  async #shutDown(error: BackgroundTaskError): Promise<void> {
    const { lifetime, table, waits, retention, processes } = this.#parts;
    retention.close();
    waits.close(error);
    // What stands still for its output gets its stop on record while that can be written; what cannot get one goes on.
    await Promise.allSettled([...table.allActive()].map((task) => task.quiesce()));
    // A stop may wait for a launch that never answers.
    await this.#atMost(LAST_WAIT_MS, [lifetime.backgroundOver()]);
    lifetime.end();
    processes.close();
    await Promise.allSettled([...table.allActive()].map((task) => task.dispose()));
  }
}

/** Work in this process dies with the host, and nobody waits for foreground work any more. Queued work waits for the next owner. */
function endsWithHost({ record, work }: Task): boolean {
  return record.status !== 'queued' && (work.whenHostEnds !== 'goes on' || !record.detached);
}

/** Whether a crash of the host would leave this work to the next owner. A stop on record decides otherwise. */
function canBeginAgain({ record, working, work }: Task): boolean {
  return record.status !== 'queued' && work.whenHostEnds === 'can begin again' && record.detached && !working.stop;
}

/** Without a stop on record work that cannot be stopped, or not from here, is left as it is; what is queued never began, and can be. */
function canEnd({ record, outOfReach, work }: Task): boolean {
  return !outOfReach && (record.status === 'queued' || work.canStop);
}
