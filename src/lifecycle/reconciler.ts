import type { Timer } from '../clock.js';
import { asError, withJsonError } from '../errors.js';
import type { ReconcileReport } from '../events.js';
import type { News } from './news.js';
import type { Queue } from './queue.js';
import type { Retention } from './retention.js';
import type { TaskTable } from './table.js';
import type { LookResult, Surroundings } from './task/subject.js';
import type { Task } from './task/task.js';

/** Looks that run at once in a pass: probes may wait for something outside. */
const CONCURRENT_LOOKS = 16;

/** What a pass works on. */
interface Needs extends Pick<Surroundings, 'clock' | 'lifetime' | 'settings' | 'store'> {
  readonly news: News;
  readonly table: TaskTable<Task>;
  readonly queue: Queue;
  readonly retention: Retention;
}

/** Passes over the active tasks: on a timer while there are any, and on request. One bad task never stops a pass. */
export class Reconciler {
  readonly #needs: Needs;
  #timer: Timer | undefined;
  #running: Promise<ReconcileReport> | undefined;
  #next: Promise<ReconcileReport> | undefined;
  last: { readonly at: number; readonly report: ReconcileReport } | null = null;

  constructor(needs: Needs) {
    this.#needs = needs;
  }

  /** A call during a pass waits for one more, which all such callers share: the pass under way may be past what they mean. */
  reconcile(): Promise<ReconcileReport> {
    if (this.#next) return this.#next;
    if (!this.#running) return this.#begin();
    this.#next = this.#running
      .catch(() => undefined) // its own callers hear of it
      .then(() => {
        this.#next = undefined;
        return this.#begin();
      });
    return this.#next;
  }

  /** Arms the timer while something is active, and clears it when nothing is. */
  schedule(): void {
    const { settings, lifetime, clock, news } = this.#needs;
    const { reconcileIntervalMs } = settings;
    const wanted = !lifetime.isClosing && reconcileIntervalMs > 0 && !isEmpty(this.#candidates());
    if (!wanted) {
      this.#timer?.clear();
      this.#timer = undefined;
      return;
    }
    this.#timer ??= clock.after(reconcileIntervalMs, () => {
      this.#timer = undefined;
      this.reconcile().catch((error: unknown) => news.report(error));
    });
  }

  /** Resolves when no pass is under way. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running.catch(() => undefined); // whoever asked for the pass hears of it
  }

  #begin(): Promise<ReconcileReport> {
    const pass = this.#pass().finally(() => {
      this.#running = undefined;
      this.schedule();
    });
    this.#running = pass;
    return pass;
  }

  async #pass(): Promise<ReconcileReport> {
    const { store, lifetime, queue, retention, clock, news } = this.#needs;
    await store.checkOwnership();
    lifetime.assertWritable();
    const tasks = [...this.#candidates()];
    const found: Found[] = [];
    const open = tasks.values();
    const worker = async () => {
      for (const task of open) found.push(await look(task));
    };
    await Promise.all(Array.from({ length: CONCURRENT_LOOKS }, worker));
    queue.retry();
    await retention.enforce();
    const ids = (...results: LookResult[]) =>
      Object.freeze(found.filter(({ result }) => result && results.includes(result)).map(({ task }) => task.taskId));
    const failed = ({ task: { taskId }, error }: Found) =>
      error ? [Object.freeze(withJsonError({ taskId, error }))] : [];
    const report: ReconcileReport = Object.freeze({
      checked: tasks.length,
      settled: ids('settled', 'lost'),
      adopted: ids('adopted'),
      lost: ids('lost'),
      failures: Object.freeze(found.flatMap(failed)),
    });
    this.last = { at: clock.now(), report };
    news.emit('manager:reconciled', { report });
    return report;
  }

  /** The active tasks that this host may touch. A generator, because asking whether there is any must not cost a walk over all. */
  *#candidates(): Generator<Task> {
    for (const task of this.#needs.table.allActive()) if (task.kind !== undefined || task.isOrphaned) yield task;
  }
}

interface Found {
  readonly task: Task;
  readonly result?: LookResult;
  readonly error?: Error;
}

/** Also where the look failed, or what it found could not be written: a stop and a deadline are carried out all the same. */
async function look(task: Task): Promise<Found> {
  try {
    return { task, result: await task.look() };
  } catch (error) {
    return { task, error: asError(error) };
  } finally {
    task.catchUp();
  }
}

function isEmpty(items: Iterable<unknown>): boolean {
  for (const _ of items) return false;
  return true;
}
