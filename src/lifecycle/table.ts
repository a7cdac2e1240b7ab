import { BackgroundTaskError } from '../errors.js';
import { compileFilter, type TaskFilter } from '../task/filter.js';
import type { TaskRecord } from '../task/record.js';
import type { Entry } from './entry.js';

/** Every task in memory, in the order of registration, with the active ones apart: their cost must not follow all tasks ever. */
export class TaskTable {
  readonly #entries = new Map<string, Entry>();
  /** By `seq`, oldest first. Pruned entries leave a hole until the holes outnumber the tasks. */
  #order: Entry[] = [];
  readonly #active = new Set<Entry>();
  readonly #keys = new Map<string, Entry>();
  /** Ended tasks with a delivery that is owed or failed. */
  readonly #owing = new Set<Entry>();
  #nextSeq = 0;

  nextSeq(): number {
    return this.#nextSeq++;
  }

  get size(): number {
    return this.#entries.size;
  }

  add(entry: Entry): void {
    this.#entries.set(entry.taskId, entry);
    this.#order.push(entry);
    // Two registrations can become durable in another order than they were numbered in.
    for (let i = this.#order.length - 1; i > 0 && this.#order[i - 1]!.seq > entry.seq; i--) {
      this.#order[i] = this.#order[i - 1]!;
      this.#order[i - 1] = entry;
    }
    if (entry.active) this.#active.add(entry);
    this.changed(entry);
    const key = entry.record.idempotencyKey;
    if (key !== undefined) this.#keys.set(key, entry);
  }

  /** The entry's task ended. */
  ended(entry: Entry): void {
    this.#active.delete(entry);
  }

  /** The entry's record was written. */
  changed(entry: Entry): void {
    const owes =
      this.has(entry) &&
      !entry.active &&
      Object.values(entry.record.hooks).some(({ state }) => state === 'pending' || state === 'failed');
    if (owes) this.#owing.add(entry);
    else this.#owing.delete(entry);
  }

  /** Ended tasks that owe a delivery, or gave one up. */
  owing(): Iterable<Entry> {
    return this.#owing;
  }

  remove(entry: Entry): void {
    this.#entries.delete(entry.taskId);
    this.#active.delete(entry);
    this.#owing.delete(entry);
    const key = entry.record.idempotencyKey;
    if (key !== undefined && this.#keys.get(key) === entry) this.#keys.delete(key);
    if (this.#order.length > 2 * this.#entries.size + 16) this.#order = this.#order.filter((each) => this.has(each));
  }

  has(entry: Entry): boolean {
    return this.#entries.get(entry.taskId) === entry;
  }

  get(taskId: string): Entry | undefined {
    return this.#entries.get(taskId);
  }

  /** Throws `TASK_NOT_FOUND`. */
  expect(taskId: string): Entry {
    const entry = this.#entries.get(taskId);
    if (entry) return entry;
    throw new BackgroundTaskError('TASK_NOT_FOUND', `there is no task "${String(taskId).slice(0, 80)}"`, {
      taskId: String(taskId),
    });
  }

  byKey(idempotencyKey: string): Entry | undefined {
    return this.#keys.get(idempotencyKey);
  }

  /** Active tasks that this host may touch, oldest first. */
  active(): Entry[] {
    return [...this.#active].filter((entry) => entry.kind !== undefined);
  }

  /** All active tasks, also those that this host must not touch. */
  allActive(): Iterable<Entry> {
    return this.#active;
  }

  all(): Iterable<Entry> {
    return this.#entries.values();
  }

  /** Newest first; `after` is the id of the last task of the page before. */
  list(filter: TaskFilter, limit: number, after: string | undefined): TaskRecord[] {
    const matches = compileFilter(filter);
    const below = after === undefined ? Number.POSITIVE_INFINITY : this.expect(after).seq;
    const found: TaskRecord[] = [];
    for (const entry of this.#newestFirst(filter, below)) {
      if (found.length >= limit) break;
      if (matches(entry.view)) found.push(entry.view);
    }
    return found;
  }

  /** Only active tasks are visited where only active ones can match. */
  *#newestFirst(filter: TaskFilter, below: number): Generator<Entry> {
    if (wantsOnlyActive(filter)) {
      yield* [...this.#active].filter((entry) => entry.seq < below).sort((a, b) => b.seq - a.seq);
      return;
    }
    for (let i = this.#position(below) - 1; i >= 0; i--) {
      const entry = this.#order[i]!;
      if (this.has(entry)) yield entry;
    }
  }

  /** The first position in the order whose `seq` is at least `seq`. */
  #position(seq: number): number {
    let low = 0;
    let high = this.#order.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#order[middle]!.seq < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** How many tasks there are of each sort. */
  counts(): { running: number; queued: number; waiting: number; terminal: number } {
    const counts = { running: 0, queued: 0, waiting: 0 };
    for (const { record } of this.#active) counts[record.status as keyof typeof counts]++;
    return { ...counts, terminal: this.#entries.size - this.#active.size };
  }
}

function wantsOnlyActive(filter: TaskFilter): boolean {
  if (filter.active === true) return true;
  const statuses = filter.status === undefined ? [] : [filter.status].flat();
  return (
    statuses.length > 0 &&
    statuses.every((status) => status === 'queued' || status === 'running' || status === 'waiting')
  );
}
