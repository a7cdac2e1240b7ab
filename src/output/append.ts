/*
 * The output of in-process work. Appends reach the file in the order of the calls, as many as wait in one write; each
 * promise resolves once its bytes are in the file. The file is opened when there is something to write, and closed as
 * soon as one turn of the event loop brought nothing more: a thousand tasks that say something now and then hold no
 * file open.
 *
 * A failed write loses what it did not write, and rejects those appends and tells `onError`, once for each reason; what
 * is appended later is tried anew.
 */
import { chmod, type FileHandle, mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { BackgroundTaskError } from '../errors.js';
import { came } from '../task/show.js';
import { openToAppend } from '../util/bounded-file.js';
import { storageFailed, systemCode, unlessCode } from '../util/system-error.js';

/** What may wait to be written, in bytes: 16 MiB, each append counting 256 bytes more than it holds. */
const MAX_PENDING_BYTES = 16 * 1024 * 1024;
const APPEND_COST = 256;
/** Buffers in one write: what POSIX systems take at most. */
const MAX_BATCH = 1024;
export interface OutputLogOptions {
  /** Told of what could not be written, once for each distinct reason. Must not throw. */
  onError?: ((error: BackgroundTaskError) => void) | undefined;
  /** Default {@link MAX_PENDING_BYTES}. */
  maxPendingBytes?: number | undefined;
}

interface Pending {
  /** The caller's bytes, copied; what of them is in the file already is cut off. */
  rest: Buffer;
  readonly cost: number;
  readonly written: Promise<void>;
  resolve(): void;
  reject(error: BackgroundTaskError): void;
}

export class OutputLog {
  readonly #path: string;
  readonly #onError: (error: BackgroundTaskError) => void;
  readonly #maxPendingBytes: number;
  /** The oldest first; those being written stay in it until they are. */
  readonly #pending: Pending[] = [];
  #pendingBytes = 0;
  #pump: Promise<void> | undefined;
  #opened = false;
  #handle: FileHandle | undefined;
  #closed = false;
  readonly #reported = new Set<string>();

  constructor(path: string, options: OutputLogOptions = {}) {
    this.#path = path;
    this.#onError = options.onError ?? (() => undefined);
    this.#maxPendingBytes = options.maxPendingBytes ?? MAX_PENDING_BYTES;
  }

  /**
   * Adds to the output. Resolves once written to the file: await it, for that is what bounds the memory. While
   * something waits, an append that would make more than 16 MiB wait is refused with `STORAGE_FAILED`. A promise that
   * is not awaited may reject without consequences.
   */
  append(chunk: string | Uint8Array): Promise<void> {
    const appended = this.#append(chunk);
    appended.catch(() => undefined); // a caller that awaits it is told all the same, and so was onError
    return appended;
  }

  /** Resolves once all that was appended before is in the file; rejects with the first failure among that. */
  async flush(): Promise<void> {
    await Promise.all(this.#pending.map(({ written }) => written));
  }

  /** Writes what waits, and refuses what comes later. Idempotent; never rejects: failures were reported. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#pump;
  }

  #append(chunk: string | Uint8Array): Promise<void> {
    if (this.#closed) {
      return Promise.reject(
        new BackgroundTaskError('TASK_NOT_FOUND', 'the task has ended: nothing can be added to its output'),
      );
    }
    if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) {
      return Promise.reject(
        new BackgroundTaskError('INVALID_SPEC', `chunk: expected a string or a Uint8Array, got ${came(chunk)}`),
      );
    }
    const cost = APPEND_COST + (typeof chunk === 'string' ? Buffer.byteLength(chunk) : chunk.byteLength);
    if (this.#pending.length > 0 && this.#pendingBytes + cost > this.#maxPendingBytes) return this.#refuse();
    return this.#enqueue(typeof chunk === 'string' ? Buffer.from(chunk) : Buffer.from(chunk), cost);
  }

  #refuse(): Promise<never> {
    const message = `more than ${this.#maxPendingBytes} bytes of output wait to be written: await each append before the next one`;
    const error = new BackgroundTaskError('STORAGE_FAILED', message);
    this.#report(error, 'too much waits');
    return Promise.reject(error);
  }

  #enqueue(rest: Buffer, cost: number): Promise<void> {
    const { promise: written, resolve, reject } = withResolvers();
    written.catch(() => undefined); // see append
    this.#pending.push({ rest, cost, written, resolve, reject });
    this.#pendingBytes += cost;
    // A microtask later, so that all that is appended in one go is written in one.
    this.#pump ??= Promise.resolve().then(() => this.#run());
    return written;
  }

  /** Writes until nothing waits. Never rejects. One at a time. */
  async #run(): Promise<void> {
    do {
      while (this.#pending.length > 0) await this.#writeBatch();
      await setImmediate();
      if (this.#pending.length === 0) await this.#closeFile();
    } while (this.#pending.length > 0);
    this.#pump = undefined;
  }

  async #writeBatch(): Promise<void> {
    const batch = this.#pending.slice(0, MAX_BATCH);
    const failure = await this.#write(batch);
    this.#pending.splice(0, batch.length);
    for (const one of batch) {
      this.#pendingBytes -= one.cost;
      if (failure && one.rest.length > 0) one.reject(failure);
      else one.resolve();
    }
  }

  /** Cuts off what it wrote; answers why there is a rest, if there is one. */
  async #write(batch: readonly Pending[]): Promise<BackgroundTaskError | undefined> {
    try {
      for (let open = batch.filter(hasRest); open.length > 0; open = open.filter(hasRest)) {
        this.#handle ??= await this.#openFile();
        const { bytesWritten } = await this.#handle.writev(open.map(({ rest }) => rest));
        if (bytesWritten === 0) throw new Error('the system wrote nothing');
        cutOff(open, bytesWritten);
      }
      return undefined;
    } catch (cause) {
      const failure = storageFailed(`cannot write to ${this.#path}`, cause);
      this.#report(failure, systemCode(cause) ?? failure.message);
      return failure;
    }
  }

  async #openFile(): Promise<FileHandle> {
    const file = await unlessCode(['ENOENT'], openToAppend(this.#path));
    if (file) return this.#private(file);
    // Only the task's own folder: a directory that is gone is not made again.
    const folder = dirname(this.#path);
    const made = await unlessCode(
      ['EEXIST'],
      mkdir(folder, { mode: 0o700 }).then(() => true),
    );
    if (made) await chmod(folder, 0o700);
    return this.#private(await openToAppend(this.#path));
  }

  /** The umask may have taken rights away that we need for the next opening. */
  async #private(file: FileHandle): Promise<FileHandle> {
    try {
      if (this.#opened) return file;
      await file.chmod(0o600);
      this.#opened = true;
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async #closeFile(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    try {
      await handle?.close();
    } catch (cause) {
      // Some systems only say here that the disk refused; the appends have resolved already.
      this.#report(storageFailed(`cannot close ${this.#path}`, cause), `close ${systemCode(cause)}`);
    }
  }

  #report(error: BackgroundTaskError, reason: string): void {
    if (this.#reported.has(reason)) return;
    this.#reported.add(reason);
    this.#onError(error);
  }
}

function hasRest({ rest }: Pending): boolean {
  return rest.length > 0;
}

function cutOff(pending: readonly Pending[], bytes: number): void {
  let left = bytes;
  for (const one of pending) {
    const part = Math.min(left, one.rest.length);
    one.rest = one.rest.subarray(part);
    left -= part;
  }
}

function withResolvers() {
  let resolve!: () => void;
  let reject!: (error: BackgroundTaskError) => void;
  const promise = new Promise<void>((fulfil, refuse) => {
    resolve = fulfil;
    reject = refuse;
  });
  return { promise, resolve, reject };
}
