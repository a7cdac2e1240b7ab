import { compileFilter, type TaskFilter, withForeground } from '../task/filter.js';
import { isSupported, type TaskRecord } from '../task/record.js';
import type { TaskRef } from '../task/types.js';
import { Slices, sortInSlices } from '../util/slices.js';
import type { Core } from './core.js';
import type { Entry } from './entry.js';
import { Expiry } from './expiry.js';

/** Which ended tasks to remove; all given conditions must hold. Tasks with an owed or failed hook are never removed. */
export interface PruneOptions {
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
  filter?: TaskFilter | undefined;
}

/** Removes ended tasks: by request, by the limits of `retention`, and by their own `ttlMs`. The output goes first, the record last. */
export class Retention {
  readonly #core: Core;
  /** Ended tasks, in the order of their end, so that a limit is kept without visiting them all. */
  readonly #ended = { detached: new Set<Entry>(), foreground: new Set<Entry>() };
  #enforcing: Promise<void> | undefined;
  #again = false;

  readonly #expiry: Expiry;

  /** `onDue` is called when a task's time to live is over: it is to call `enforce`. */
  constructor(core: Core, onDue: () => void) {
    this.#core = core;
    this.#expiry = new Expiry(core.clock, onDue);
  }

  /** A task ended, or was loaded ended. */
  ended(entry: Entry): void {
    const { record } = entry;
    (record.detached ? this.#ended.detached : this.#ended.foreground).add(entry);
    if (record.ttlMs !== undefined) this.#expiry.add(entry, endOf(record) + record.ttlMs);
  }

  /** Nothing is removed by time any more. */
  close(): void {
    this.#expiry.close();
  }

  async prune(options: Omit<PruneOptions, 'taskIds'> & { taskIds?: readonly string[] | undefined }): Promise<string[]> {
    const { olderThanMs = 0, keep = 0, taskIds, filter } = options;
    const matches = compileFilter(withForeground(filter));
    const before = this.#core.clock.now() - olderThanMs;
    const named = taskIds && new Set(taskIds);
    // Who is among the newest is asked of all; without that, tasks that are named cost nothing but themselves.
    const candidates = named && keep === 0 ? this.#named(named) : this.#core.table.all();
    const terminal = [...candidates].filter((entry) => !entry.active).sort(newestFirst);
    const chosen = terminal
      .slice(keep)
      .filter(({ taskId, record }) => matches(record) && (named?.has(taskId) ?? true))
      .filter(({ record }) => olderThanMs === 0 || endOf(record) <= before);
    return this.#removeAll(chosen, true);
  }

  #named(taskIds: Iterable<string>): Entry[] {
    return [...taskIds].flatMap((taskId) => this.#core.table.get(taskId) ?? []);
  }

  /** What was loaded, in the order in which it ended. */
  async load(slices: Slices): Promise<void> {
    for (const entry of (await this.#newestFirst(slices)).reverse()) {
      this.ended(entry);
      await slices.pause();
    }
  }

  async #newestFirst(slices = new Slices(this.#core.clock)): Promise<Entry[]> {
    const terminal = [...this.#core.table.all()].filter((entry) => !entry.active);
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
      const { maxAgeMs, maxTasks, maxForegroundTasks } = this.#core.settings.retention;
      const excess = [
        ...surplus(this.#ended.detached, maxTasks),
        ...surplus(this.#ended.foreground, maxForegroundTasks),
      ];
      const aged = maxAgeMs === Number.POSITIVE_INFINITY ? [] : this.#olderThan(maxAgeMs);
      await this.#removeAll([...new Set([...excess, ...aged, ...this.#expiry.due()])], false);
    }
    this.#expiry.arm();
  }

  #olderThan(maxAgeMs: number): Entry[] {
    const before = this.#core.clock.now() - maxAgeMs;
    return [...olderThan(this.#ended.detached, before), ...olderThan(this.#ended.foreground, before)];
  }

  async #removeAll(entries: readonly Entry[], rethrow: boolean): Promise<string[]> {
    const removed: string[] = [];
    for (const entry of entries) {
      if (!isPrunable(entry.record)) continue;
      try {
        if (await this.#remove(entry)) removed.push(entry.taskId);
      } catch (error) {
        if (rethrow) throw error;
        this.#core.reportOnce(error, entry.taskId);
      }
    }
    return removed;
  }

  #remove(entry: Entry): Promise<boolean> {
    return entry.exclusive(async () => {
      if (!this.#core.table.has(entry) || !isPrunable(entry.record)) return false;
      // Asked once more in its turn: a delivery may have been made owed again.
      if (!(await this.#core.ledger.remove(entry, isPrunable))) return false;
      this.#core.table.remove(entry);
      this.#ended.detached.delete(entry);
      this.#ended.foreground.delete(entry);
      this.#expiry.delete(entry);
      this.#core.recovered(entry.taskId);
      this.#core.emit('task:pruned', { taskId: entry.taskId });
      this.#core.waits.notify(entry.taskId);
      return true;
    });
  }
}

export function isPrunable(record: TaskRecord): boolean {
  return (
    isSupported(record) &&
    Object.values(record.hooks).every(({ state }) => state === 'delivered' || state === 'skipped')
  );
}

/** The newest up to the limit stay; of the older ones, all that may go do. What may not go takes nobody else's place. */
function surplus(ended: ReadonlySet<Entry>, limit: number): Entry[] {
  let excess = ended.size - limit;
  const chosen: Entry[] = [];
  for (const entry of ended) {
    if (excess-- <= 0) break;
    if (isPrunable(entry.record)) chosen.push(entry);
  }
  return chosen;
}

/** In the order of their end: the first young one ends the walk. */
function* olderThan(ended: ReadonlySet<Entry>, before: number): Generator<Entry> {
  for (const entry of ended) {
    if (endOf(entry.record) > before) return;
    if (isPrunable(entry.record)) yield entry;
  }
}

function endOf(record: TaskRecord): number {
  return record.endedAt ?? record.startedAt ?? record.createdAt;
}

function newestFirst(a: Entry, b: Entry): number {
  return endOf(b.record) - endOf(a.record) || b.seq - a.seq;
}
