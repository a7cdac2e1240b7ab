/*
 * Work that was there before its task: its output is read into the task's, its `done` is how it ends, and it is asked to end by its `stop`.
 * Nothing is read before the record is on disk, and no source faster than its output is written.
 */
import { came } from '../../task/show.js';
import type { Awaitable } from '../../task/types.js';

type Chunk = string | Uint8Array;
type Source = AsyncIterable<Chunk>;

/** `work` of a spec, checked. */
export interface GivenWork {
  readonly output?: Source | readonly Source[] | undefined;
  readonly done: PromiseLike<unknown>;
  readonly stop?: ((how: 'terminate' | 'kill') => Awaitable<void>) | undefined;
}

/** What the task does for its work. */
interface Reader {
  append(chunk: Chunk): Promise<void>;
  now(): number;
  report(error: unknown): void;
}

/** Sources that are Node streams: one that fails while nobody reads it yet must not bring the host down, and one that nobody reads any more is destroyed. */
interface StreamLike {
  on?(event: 'error', listener: () => void): unknown;
  off?(event: 'error', listener: () => void): unknown;
  destroy?(): unknown;
}

/** A promise of the host's that rejects is no unhandled rejection: also where the registration is refused. */
export function handled(done: unknown): void {
  if (isThenable(done)) Promise.resolve(done).catch(() => undefined); // whoever owns the work knows; the task's own end is told by its record
}

export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function';
}

export class ExistingWork {
  readonly #sources: readonly Source[];
  readonly #open = new Map<Source, AsyncIterator<Chunk>>();
  readonly #stop: GivenWork['stop'];
  readonly #done: Promise<unknown>;
  readonly #closed: Promise<void>;
  #close!: () => void;
  #isClosed = false;
  #isDone = false;
  #isTold = false;
  #isKilled = false;
  /** When `done` settled. */
  endedAt: number | undefined;

  constructor({ output = [], done, stop }: GivenWork) {
    this.#sources = isSource(output) ? [output] : output;
    this.#stop = stop;
    this.#done = Promise.resolve(done);
    this.#closed = new Promise((resolve) => {
      this.#close = resolve;
    });
  }

  /** From now on it belongs to a task. Gives it back by the function that it returns, as long as nothing was read. */
  take(): () => void {
    const streams = this.#sources as readonly StreamLike[];
    for (const stream of streams) stream.on?.('error', ignore);
    return () => {
      for (const stream of streams) stream.off?.('error', ignore);
    };
  }

  /** Resolves as `done` did, once all output was appended; rejects with the error of a source that fails before `done` has settled. */
  async run(reader: Reader): Promise<unknown> {
    const settled = this.#done.catch(() => undefined).then(() => this.#settled(reader.now())); // thrown by the last line
    const read = this.#sources.map((source) => this.#read(source, reader));
    await Promise.race([settled, Promise.all(read).then(() => settled)]);
    const rest = Promise.allSettled(read).then((ends) => {
      // How the work ended is known; that its output may not be whole has to be told.
      for (const end of ends) if (end.status === 'rejected' && !this.#isClosed) reader.report(end.reason);
    });
    await Promise.race([rest, this.#closed]);
    return this.#done;
  }

  #settled(now: number): void {
    this.#isDone = true;
    this.endedAt = now;
  }

  async #read(source: Source, { append }: Reader): Promise<void> {
    const iterator = source[Symbol.asyncIterator]();
    this.#open.set(source, iterator);
    try {
      for (let next = await iterator.next(); !next.done && !this.#isClosed; next = await iterator.next()) {
        const { value } = next;
        if (typeof value !== 'string' && !(value instanceof Uint8Array)) {
          throw new TypeError(`work.output: expected chunks that are strings or Uint8Arrays, got ${came(value)}`);
        }
        await append(value).catch(() => undefined); // reported by the log; the work must not stand still for a disk
      }
    } finally {
      if (!this.#isClosed) this.#open.delete(source);
    }
  }

  /** Asks it to end, once. */
  async terminate(): Promise<void> {
    if (this.#isTold || this.#isDone) return;
    this.#isTold = true;
    await this.#stop?.('terminate');
  }

  /** The grace is over. `false`: nobody can end it, and it is given up on. One that is done does not wait for its output any longer. */
  async kill(): Promise<boolean> {
    if (this.#isDone) this.close();
    else if (!this.#stop) return false;
    else if (!this.#isKilled) {
      await this.#stop('kill');
      this.#isKilled = true;
    }
    return true;
  }

  /** Nobody reads it any more. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#close();
    for (const [source, iterator] of this.#open) {
      (source as StreamLike).destroy?.();
      // Not awaited: it may wait for a chunk that never comes.
      iterator.return?.().catch(() => undefined); // nobody reads it any more
    }
    this.#open.clear();
  }
}

export function isSource(value: unknown): value is Source {
  return typeof (value as Partial<Source> | null | undefined)?.[Symbol.asyncIterator] === 'function';
}

function ignore(): void {
  // The reader of the stream is told.
}
