/** A request for a place. */
interface Waiting {
  /** Since when; the oldest goes first. */
  readonly since: number;
  readonly order: number;
  enter: ((leave: () => void) => void) | undefined;
}

/**
 * A limited number of places, given to the request that has waited longest. None is given before `open()`, within the
 * call that asks, or after `close()`. A binary heap: a restarted host may find tens of thousands of owed deliveries.
 */
export class Places {
  #free: number;
  #order = 0;
  #state: 'shut' | 'open' | 'closed' = 'shut';
  #admitting = false;
  readonly #heap: Waiting[] = [];

  constructor(places: number) {
    this.#free = places;
  }

  /** Calls `enter` once there is a place; it gives the place back by calling `leave`. Returns how to stop waiting. */
  ask(since: number, enter: (leave: () => void) => void): () => void {
    const waiting: Waiting = { since, order: this.#order++, enter };
    if (this.#state === 'closed') return () => undefined;
    this.#push(waiting);
    this.#admit();
    return () => {
      waiting.enter = undefined;
    };
  }

  open(): void {
    if (this.#state === 'shut') this.#state = 'open';
    this.#admit();
  }

  close(): void {
    this.#state = 'closed';
    this.#heap.length = 0;
  }

  #admit(): void {
    if (this.#admitting || this.#state !== 'open' || this.#free === 0) return;
    this.#admitting = true;
    // In a microtask, so that of all requests of one tick the oldest goes first.
    queueMicrotask(() => {
      this.#admitting = false;
      while (this.#state === 'open' && this.#free > 0 && this.#heap.length > 0) this.#pop().enter?.(this.#take());
    });
  }

  #take(): () => void {
    this.#free--;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#free++;
      this.#admit();
    };
  }

  #push(waiting: Waiting): void {
    const heap = this.#heap;
    let index = heap.length;
    for (let parent = (index - 1) >> 1; index > 0 && before(waiting, heap[parent]!); parent = (index - 1) >> 1) {
      heap[index] = heap[parent]!;
      index = parent;
    }
    heap[index] = waiting;
  }

  #pop(): Waiting {
    const heap = this.#heap;
    const first = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let index = 0;
    for (let child = 1; child < heap.length; child = 2 * index + 1) {
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[index] = heap[child]!;
      index = child;
    }
    heap[index] = last;
    return first;
  }
}

function before(a: Waiting, b: Waiting): boolean {
  return a.since < b.since || (a.since === b.since && a.order < b.order);
}
