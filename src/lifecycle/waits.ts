import type { Clock } from '../clock.js';
import type { BackgroundTaskError } from '../errors.js';

/** How long to wait, and what ends the wait. A wait never touches the task. */
export interface WaitOptions {
  /** Milliseconds from the call. 0: answers at once. Absent: as long as it takes. */
  timeoutMs?: number | undefined;
  /** Aborting it rejects with its reason. */
  signal?: AbortSignal | undefined;
}

/** Keeps the process alive while somebody waits for something of ours; nothing else of ours does. */
export class Holder {
  #count = 0;
  #timer: NodeJS.Timeout | undefined;

  async while<T>(promise: Promise<T>): Promise<T> {
    if (this.#count++ === 0) this.#timer = setInterval(() => undefined, 2 ** 31 - 1);
    try {
      return await promise;
    } finally {
      if (--this.#count === 0) clearInterval(this.#timer);
    }
  }

  /** The same items; the process is kept alive while one is awaited, and not between two. */
  async *iterate<T>(items: AsyncGenerator<T, void, undefined>): AsyncGenerator<T, void, undefined> {
    try {
      for (let next = await this.while(items.next()); !next.done; next = await this.while(items.next()))
        yield next.value;
    } finally {
      await items.return();
    }
  }
}

export interface Wait {
  /** Tries to end the wait. */
  check(): void;
  fail(error: unknown): void;
}

/** The waits for one task; absent where nobody waits. */
export interface Awaited {
  waits: Set<Wait> | undefined;
}

/** Waits for something to happen to tasks. */
export class Waits {
  readonly #clock: Clock;
  readonly #holder: Holder;
  readonly #pending = new Set<Wait>();
  /** Those that are about any task. */
  readonly #any = new Set<Wait>();
  #closed: BackgroundTaskError | undefined;

  constructor(clock: Clock, holder: Holder) {
    this.#clock = clock;
    this.#holder = holder;
  }

  /**
   * Resolves with what `answer` gives, as soon as it gives something; it is asked at once and whenever something happened to the tasks
   * named (to any, where none are). `late` answers when the time is up.
   */
  until<T>(
    tasks: readonly Awaited[] | undefined,
    answer: () => T | undefined,
    options: WaitOptions,
    late: () => T,
  ): Promise<T> {
    if (this.#closed) return Promise.reject(this.#closed);
    if (options.signal?.aborted) return Promise.reject(options.signal.reason);
    const now = answer();
    if (now !== undefined) return Promise.resolve(now);
    if (options.timeoutMs === 0) return new Promise((resolve) => resolve(late()));
    return this.#holder.while(this.#wait(tasks, answer, options, late));
  }

  #wait<T>(
    tasks: readonly Awaited[] | undefined,
    answer: () => T | undefined,
    { timeoutMs, signal }: WaitOptions,
    late: () => T,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const end = (conclude: () => void) => {
        this.#remove(wait, tasks);
        timer?.clear();
        signal?.removeEventListener('abort', onAbort);
        try {
          conclude();
        } catch (error) {
          reject(error);
        }
      };
      const wait: Wait = {
        check: () => {
          try {
            const value = answer();
            if (value !== undefined) end(() => resolve(value));
          } catch (error) {
            wait.fail(error); // the host's own condition: it must not reach whoever tells of a change
          }
        },
        fail: (error) => end(() => reject(error)),
      };
      const onAbort = () => wait.fail(signal?.reason);
      const timer =
        timeoutMs === undefined ? undefined : this.#clock.after(timeoutMs, () => end(() => resolve(late())));
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#add(wait, tasks);
    });
  }

  #add(wait: Wait, tasks: readonly Awaited[] | undefined): void {
    this.#pending.add(wait);
    if (!tasks) this.#any.add(wait);
    for (const task of tasks ?? []) {
      task.waits ??= new Set();
      task.waits.add(wait);
    }
  }

  #remove(wait: Wait, tasks: readonly Awaited[] | undefined): void {
    this.#pending.delete(wait);
    this.#any.delete(wait);
    for (const task of tasks ?? []) {
      task.waits?.delete(wait);
      if (task.waits?.size === 0) task.waits = undefined;
    }
  }

  /** Something happened to this task, or to the tasks as a whole. */
  notify(task?: Awaited): void {
    for (const wait of [...(task?.waits ?? []), ...this.#any]) wait.check();
  }

  /** Every wait still pending, and every later one, rejects with `error`. */
  close(error: BackgroundTaskError): void {
    this.#closed ??= error;
    for (const wait of [...this.#pending]) wait.fail(error);
  }
}
