import type { Clock, Timer } from '../clock.js';
import type { Task } from './task/task.js';

interface Item {
  /** Absent in a hole: the task went otherwise, and is not kept. */
  task: Task | undefined;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

/**
 * When ended tasks with a `ttlMs` are due to go: the next one is found without visiting the others, and one timer waits for it. Times are on the
 * wall clock, the timer is not: one that fires early, because the clock was set back, is armed again; where the clock was set forward or the
 * machine slept, the next pass over the ended tasks finds what is due.
 */
export class Expiry {
  readonly #clock: Clock;
  readonly #onDue: () => void;
  /** A binary heap, the earliest first. Tasks that went otherwise leave holes until the holes outnumber the others. */
  #heap: Item[] = [];
  /** In the heap and not gone. */
  readonly #waiting = new Map<Task, Item>();
  /** Due, and not gone yet: a delivery is owed, or its removal failed. */
  readonly #due = new Set<Task>();
  #timer: Timer | undefined;
  #armedFor = Number.POSITIVE_INFINITY;
  #closed = false;

  /** `onDue` is called when something may have become due; it asks `due` and calls `arm` when it is done. */
  constructor(clock: Clock, onDue: () => void) {
    this.#clock = clock;
    this.#onDue = onDue;
  }

  /** The task goes at this time. */
  add(task: Task, at: number): void {
    const item = { task, at };
    this.#waiting.set(task, item);
    this.#heap.push(item);
    this.#rise(this.#heap.length - 1);
  }

  /** The task is gone. */
  delete(task: Task): void {
    this.#due.delete(task);
    const hole = this.#waiting.get(task);
    if (!hole) return;
    this.#waiting.delete(task);
    hole.task = undefined;
    if (this.#heap.length <= 2 * this.#waiting.size + 16) return;
    this.#heap = [];
    for (const [other, { at }] of [...this.#waiting]) this.add(other, at);
  }

  /** What is due now, each until it is deleted. */
  due(): Iterable<Task> {
    const now = this.#clock.now();
    for (let next = this.#heap[0]; next && next.at <= now; next = this.#heap[0]) {
      this.#removeFirst();
      if (!next.task) continue;
      this.#waiting.delete(next.task);
      this.#due.add(next.task);
    }
    return [...this.#due];
  }

  /** Waits for the next one, where there is one. */
  arm(): void {
    while (this.#heap[0] && !this.#heap[0].task) this.#removeFirst();
    const at = this.#heap[0]?.at ?? Number.POSITIVE_INFINITY;
    if (this.#closed || at === this.#armedFor) return;
    this.#timer?.clear();
    this.#armedFor = at;
    if (at === Number.POSITIVE_INFINITY) this.#timer = undefined;
    else this.#timer = this.#clock.after(at - this.#clock.now(), () => this.#fire());
  }

  close(): void {
    this.#closed = true;
    this.#timer?.clear();
    this.#timer = undefined;
  }

  #fire(): void {
    this.#timer = undefined;
    this.#armedFor = Number.POSITIVE_INFINITY;
    if ((this.#heap[0]?.at ?? Number.POSITIVE_INFINITY) <= this.#clock.now()) this.#onDue();
    else this.arm();
  }

  #removeFirst(): void {
    const last = this.#heap.pop();
    if (!last || this.#heap.length === 0) return;
    this.#heap[0] = last;
    this.#sink(0);
  }

  #rise(index: number): void {
    for (let at = index; at > 0; ) {
      const parent = (at - 1) >> 1;
      if (this.#heap[parent]!.at <= this.#heap[at]!.at) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  #sink(index: number): void {
    for (let at = index; ; ) {
      let least = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < this.#heap.length && this.#heap[child]!.at < this.#heap[least]!.at) least = child;
      }
      if (least === at) return;
      this.#swap(at, least);
      at = least;
    }
  }

  #swap(a: number, b: number): void {
    [this.#heap[a], this.#heap[b]] = [this.#heap[b]!, this.#heap[a]!];
  }
}
