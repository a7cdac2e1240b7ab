import type { Clock } from '../clock.js';
import type { Settings } from '../options.js';
import { compileFilter, type TaskFilter, type TaskSelector, withForeground } from '../task/filter.js';
import type { Task as AnyKindOfTask } from '../task/kind.js';
import { isSupported, type TaskRecord } from '../task/record.js';
import type { TaskRef } from '../task/types.js';
import { Slices, sortInSlices } from '../util/slices.js';
import { Expiry } from './expiry.js';
import type { Lifetime } from './lifetime.js';
import type { TaskTable } from './table.js';
import type { Task } from './task/task.js';

/** Which ended tasks to remove; all given conditions must hold. Tasks with an owed or failed hook are never removed. */
export interface PruneOptions<T = AnyKindOfTask> {
  /** Ended at least this long ago, in milliseconds. 0 or absent: any age. */
  olderThanMs?: number | undefined;
  /** The newest n ended tasks stay, whatever they are. Default 0. */
  keep?: number | undefined;
  /**
   * Only these tasks. One that is active, or whose hook is owed or failed, is left; one that is not there (any more) is passed over: what the
   * call is to bring about is so already. Absent: any task.
   */
  taskIds?: readonly TaskRef[] | undefined;
  /** Foreground tasks are included unless `includeForeground` is `false`. */
  filter?: TaskSelector<T> | undefined;
}

/** The same, checked: tasks by their ids, and a filter. */
interface PruneRequest extends Omit<PruneOptions, 'taskIds' | 'filter'> {
  readonly taskIds?: readonly string[] | undefined;
  readonly filter?: TaskFilter | undefined;
}

/** Removes ended tasks: by request, by the limits of `retention`, and by their own `ttlMs`. The output goes first, the record last. */
export class Retention {
  readonly #table: TaskTable<Task>;
  readonly #clock: Clock;
  readonly #limits: Settings['retention'];
  /** Ended tasks, in the order of their end, so that a limit is kept without visiting them all. */
  readonly #ended = { detached: new Set<Task>(), foreground: new Set<Task>() };
  #enforcing: Promise<void> | undefined;
  #again = false;

  readonly #expiry: Expiry;

  constructor(table: TaskTable<Task>, clock: Clock, limits: Settings['retention'], lifetime: Lifetime) {
    this.#table = table;
    this.#clock = clock;
    this.#limits = limits;
    this.#expiry = new Expiry(clock, () => lifetime.inBackground(this.enforce()));
  }

  /** A task ended, or was loaded ended. */
  ended(task: Task): void {
    const { record } = task;
    (record.detached ? this.#ended.detached : this.#ended.foreground).add(task);
    if (record.ttlMs !== undefined) this.#expiry.add(task, endOf(record) + record.ttlMs);
  }

  /** Nothing is removed by time any more. */
  close(): void {
    this.#expiry.close();
  }

  async prune({ olderThanMs = 0, keep = 0, taskIds, filter }: PruneRequest): Promise<string[]> {
    const matches = compileFilter(withForeground(filter));
    const before = this.#clock.now() - olderThanMs;
    const named = taskIds && new Set(taskIds);
    // Who is among the newest is asked of all; without that, tasks that are named cost nothing but themselves.
    const candidates = named && keep === 0 ? this.#named(named) : this.#table.all();
    const terminal = [...candidates].filter((task) => !task.isActive).sort(newestFirst);
    const chosen = terminal
      .slice(keep)
      .filter(({ taskId, record }) => matches(record) && (named?.has(taskId) ?? true))
      .filter(({ record }) => olderThanMs === 0 || endOf(record) <= before);
    return this.#removeAll(chosen, true);
  }

  #named(taskIds: Iterable<string>): Task[] {
    return [...taskIds].flatMap((taskId) => this.#table.get(taskId) ?? []);
  }

  /** What was loaded, in the order in which it ended. */
  async load(slices: Slices): Promise<void> {
    for (const task of (await this.#newestFirst(slices)).reverse()) {
      this.ended(task);
      await slices.pause();
    }
  }

  async #newestFirst(slices = new Slices(this.#clock)): Promise<Task[]> {
    const terminal = [...this.#table.all()].filter((task) => !task.isActive);
    return sortInSlices(terminal, newestFirst, slices);
  }

  /** Brings the ended tasks within the limits of `retention`, and removes those whose time to live is over; one run at a time. Failures are reported, and tried again next time. */
  enforce(): Promise<void> {
    this.#again = true;
    this.#enforcing ??= this.#enforceAll().finally(() => {
      this.#enforcing = undefined;
    });
    return this.#enforcing;
  }

  async #enforceAll(): Promise<void> {
    while (this.#again) {
      this.#again = false;
      const { maxAgeMs, maxTasks, maxForegroundTasks } = this.#limits;
      const excess = [
        ...surplus(this.#ended.detached, maxTasks),
        ...surplus(this.#ended.foreground, maxForegroundTasks),
      ];
      const aged = maxAgeMs === Number.POSITIVE_INFINITY ? [] : this.#olderThan(maxAgeMs);
      await this.#removeAll([...new Set([...excess, ...aged, ...this.#expiry.due()])], false);
    }
    this.#expiry.arm();
  }

  #olderThan(maxAgeMs: number): Task[] {
    const before = this.#clock.now() - maxAgeMs;
    return [...olderThan(this.#ended.detached, before), ...olderThan(this.#ended.foreground, before)];
  }

  async #removeAll(tasks: readonly Task[], rethrow: boolean): Promise<string[]> {
    const removed: string[] = [];
    for (const task of tasks) {
      if (!isPrunable(task.record)) continue;
      try {
        // Asked once more in its turn: a delivery may have been made owed again.
        if (await task.remove(isPrunable)) removed.push(task.taskId);
      } catch (error) {
        if (rethrow) throw error;
        task.reportOnce(error);
      }
    }
    return removed;
  }

  /** It was removed. */
  removed(task: Task): void {
    this.#ended.detached.delete(task);
    this.#ended.foreground.delete(task);
    this.#expiry.delete(task);
  }
}

export function isPrunable(record: TaskRecord): boolean {
  return (
    isSupported(record) &&
    Object.values(record.hooks).every(({ state }) => state === 'delivered' || state === 'skipped')
  );
}

/** The newest up to the limit stay; of the older ones, all that may go do. What may not go takes nobody else's place. */
function surplus(ended: ReadonlySet<Task>, limit: number): Task[] {
  let excess = ended.size - limit;
  const chosen: Task[] = [];
  for (const task of ended) {
    if (excess-- <= 0) break;
    if (isPrunable(task.record)) chosen.push(task);
  }
  return chosen;
}

/** In the order of their end: the first young one ends the walk. */
function* olderThan(ended: ReadonlySet<Task>, before: number): Generator<Task> {
  for (const task of ended) {
    if (endOf(task.record) > before) return;
    if (isPrunable(task.record)) yield task;
  }
}

function endOf(record: TaskRecord): number {
  return record.endedAt ?? record.startedAt ?? record.createdAt;
}

function newestFirst(a: Task, b: Task): number {
  return endOf(b.record) - endOf(a.record) || b.seq - a.seq;
}
