import type { Clock } from '../clock.js';
import { Changes } from './changes.js';
import { DEFAULT_WINDOW_BYTES, readWindow } from './window.js';

/** How long a change may stay unseen when the system fails to tell of it. */
const LOOK_AGAIN_MS = 1_000;

export interface FollowOptions {
  readonly path: string;
  /** In bytes; default 0. One within a character moves on to the next. */
  readonly offset?: number;
  readonly signal?: AbortSignal;
  readonly clock: Clock;
  /** Resolves when the task is terminal: all its output is in the file. */
  readonly ended: Promise<void>;
  /** Rejects when the manager closes. */
  readonly closed: Promise<never>;
}

/**
 * What is in the file, then what comes, in chunks of at most 64 KiB that never split a character; ends once the task
 * has ended and all was read. Rejects with the signal's reason, or with what `closed` rejects with. Everything it
 * opened is closed however it ends. It does not hold the process.
 */
export async function* followFile(options: FollowOptions): AsyncGenerator<string, void, undefined> {
  const { path, clock } = options;
  const wait = new Wait(options);
  const changes = new Changes(path, () => wait.wake());
  try {
    for (let offset = options.offset ?? 0; ; ) {
      wait.throwIfOver();
      // Asked before the read: all that was written before the end is seen by it.
      const final = wait.ended;
      wait.reset();
      const window = await readWindow(path, { offset, maxBytes: DEFAULT_WINDOW_BYTES }, { grows: !final });
      if (window.nextOffset > offset) offset = window.nextOffset;
      if (window.text !== '') yield window.text;
      else if (final) return;
      else if (!wait.woken && !changes.approach()) await wait.forWake(clock);
    }
  } finally {
    changes.close();
    wait.dispose();
  }
}

/** What a follower waits for between two reads. */
class Wait {
  ended = false;
  readonly #signal: AbortSignal | undefined;
  /** Why it is over: what to throw. */
  #over: { readonly reason: unknown } | undefined;
  /** Something happened since the last reset. */
  #woken = false;
  #resolve: (() => void) | undefined;
  readonly wake = () => {
    this.#woken = true;
    this.#resolve?.();
  };

  constructor({ signal, ended, closed }: FollowOptions) {
    this.#signal = signal;
    signal?.addEventListener('abort', this.wake);
    ended.then(
      () => {
        this.ended = true;
        this.wake();
      },
      (reason: unknown) => this.#end(reason),
    );
    closed.catch((reason: unknown) => this.#end(reason));
  }

  get woken(): boolean {
    return this.#woken;
  }

  reset(): void {
    this.#woken = false;
  }

  throwIfOver(): void {
    this.#signal?.throwIfAborted();
    if (this.#over) throw this.#over.reason;
  }

  /** Until something happens, or the time has come to look again. */
  async forWake(clock: Clock): Promise<void> {
    if (this.#woken) return;
    const timer = clock.after(LOOK_AGAIN_MS, this.wake);
    await new Promise<void>((resolve) => {
      this.#resolve = resolve;
    });
    timer.clear();
  }

  dispose(): void {
    this.#signal?.removeEventListener('abort', this.wake);
  }

  #end(reason: unknown): void {
    this.#over ??= { reason };
    this.wake();
  }
}
