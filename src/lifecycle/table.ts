import { BackgroundTaskError } from '../errors.js';
import { compileFilter, type ListPage, type TaskFilter } from '../task/filter.js';
import type { TaskRecord } from '../task/record.js';

/** What the table knows of a task. */
export interface Row {
  readonly taskId: string;
  /** The order of registration. */
  readonly seq: number;
  readonly record: TaskRecord;
  readonly view: TaskRecord;
  readonly isActive: boolean;
  /** `undefined`: this host must not touch it. */
  readonly kind: unknown;
}

/** Where a pruned task was in the order: the task itself is not kept. */
type Hole = Pick<Row, 'seq'>;

/** Every task in memory, in the order of registration, with the active ones apart: their cost must not follow all tasks ever. */
export class TaskTable<Task extends Row> {
  readonly #tasks = new Map<string, Task>();
  /** By `seq`, oldest first. Pruned tasks leave a hole until the holes outnumber the tasks. */
  #order: (Task | Hole)[] = [];
  readonly #active = new Set<Task>();
  readonly #keys = new Map<string, Task>();
  /** Ended tasks with a delivery that is owed or failed. */
  readonly #owing = new Set<Task>();
  #nextSeq = 0;

  nextSeq(): number {
    return this.#nextSeq++;
  }

  get size(): number {
    return this.#tasks.size;
  }

  /** The task's record was written: it is here from the first time on, and found by what it is now. */
  put(task: Task): void {
    if (!this.has(task)) this.#add(task);
    if (task.isActive) this.#active.add(task);
    else this.#active.delete(task);
    const owes =
      !task.isActive && Object.values(task.record.hooks).some(({ state }) => state === 'pending' || state === 'failed');
    if (owes) this.#owing.add(task);
    else this.#owing.delete(task);
  }

  #add(task: Task): void {
    this.#tasks.set(task.taskId, task);
    this.#order.push(task);
    // Two registrations can become durable in another order than they were numbered in.
    for (let i = this.#order.length - 1; i > 0 && this.#order[i - 1]!.seq > task.seq; i--) {
      this.#order[i] = this.#order[i - 1]!;
      this.#order[i - 1] = task;
    }
    const key = task.record.idempotencyKey;
    if (key !== undefined) this.#keys.set(key, task);
  }

  /** Ended tasks that owe a delivery, or gave one up. */
  owing(): Iterable<Task> {
    return this.#owing;
  }

  remove(task: Task): void {
    this.#tasks.delete(task.taskId);
    this.#active.delete(task);
    this.#owing.delete(task);
    const key = task.record.idempotencyKey;
    if (key !== undefined && this.#keys.get(key) === task) this.#keys.delete(key);
    const { seq } = task;
    this.#order[this.#position(seq)] = { seq };
    if (this.#order.length > 2 * this.#tasks.size + 16) this.#order = this.#order.filter((each) => this.has(each));
  }

  has(task: Task | Hole): task is Task {
    return this.#tasks.get((task as Task).taskId) === task;
  }

  get(taskId: string): Task | undefined {
    return this.#tasks.get(taskId);
  }

  /** Throws `TASK_NOT_FOUND`. */
  expect(taskId: string): Task {
    const task = this.#tasks.get(taskId);
    if (task) return task;
    throw new BackgroundTaskError('TASK_NOT_FOUND', `there is no task "${String(taskId).slice(0, 80)}"`, {
      taskId: String(taskId),
    });
  }

  byKey(idempotencyKey: string): Task | undefined {
    return this.#keys.get(idempotencyKey);
  }

  /** Active tasks that this host may touch, in the order in which they came. */
  active(): Task[] {
    return [...this.#active].filter((task) => task.kind !== undefined);
  }

  /** All active tasks, also those that this host must not touch. */
  allActive(): Iterable<Task> {
    return this.#active;
  }

  all(): Iterable<Task> {
    return this.#tasks.values();
  }

  /** `after` is the id of the last task of the page before. Throws `TASK_NOT_FOUND`. */
  list(
    filter: TaskFilter,
    limit: number,
    after: string | undefined,
    order: ListPage['order'] = 'newest',
  ): TaskRecord[] {
    const matches = compileFilter(filter);
    const last = after === undefined ? undefined : this.expect(after).seq;
    const isOldestFirst = order === 'oldest';
    const candidates = wantsOnlyActive(filter)
      ? this.#activeInOrder(isOldestFirst, last)
      : isOldestFirst
        ? this.#oldestFirst(last)
        : this.#newestFirst(last);
    const found: TaskRecord[] = [];
    for (const task of candidates) {
      if (found.length >= limit) break;
      if (matches(task.view)) found.push(task.view);
    }
    return found;
  }

  /** Only active tasks are visited where only active ones can match. */
  #activeInOrder(isOldestFirst: boolean, last: number | undefined): Task[] {
    const by = isOldestFirst ? 1 : -1;
    const open = last === undefined ? [...this.#active] : [...this.#active].filter(({ seq }) => by * (seq - last) > 0);
    return open.sort((a, b) => by * (a.seq - b.seq));
  }

  /** Those before `last`. A predicate may have the order change meanwhile: then this walk goes on in the old one. */
  *#newestFirst(last = Number.POSITIVE_INFINITY): Generator<Task> {
    const order = this.#order;
    for (let i = this.#position(last) - 1; i >= 0; i--) {
      const task = order[i]!;
      if (this.has(task)) yield task;
    }
  }

  /** Those behind `last`. */
  *#oldestFirst(last = Number.NEGATIVE_INFINITY): Generator<Task> {
    const order = this.#order;
    for (let i = this.#position(last + 1); i < order.length; i++) {
      const task = order[i]!;
      if (this.has(task)) yield task;
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
    return { ...counts, terminal: this.#tasks.size - this.#active.size };
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
