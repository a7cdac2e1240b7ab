import { constants } from 'node:buffer';
import { chmod, lstat, mkdir, rmdir, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Clock } from '../clock.js';
import { BackgroundTaskError } from '../errors.js';
import { OutputFile } from '../output/output-file.js';
import { MAX_RECORD_BYTES, type TaskRecord } from '../task/record.js';
import type { JsonValue, OwnerIdentity } from '../task/types.js';
import { readBounded } from '../util/bounded-file.js';
import { type Lane, Limiter } from '../util/limiter.js';
import { storageFailed, systemCode, unlessCode } from '../util/system-error.js';
import type { LoadedRecords, TaskStore } from './contract.js';
import { DurableFiles } from './durable-file.js';
import { prepareDirectory, prepareOwnedFolders } from './folders.js';
import { ownIdentity } from './identity.js';
import type { Layout } from './layout.js';
import { loadRecords } from './load.js';
import { Ownership } from './ownership.js';
import type { ParseRecord } from './record-file.js';
import { RunFiles } from './run-files.js';
import { RunFolder } from './run-folder.js';

/** A result is written from one string, and read into one. */
const MAX_RESULT_FILE_BYTES = constants.MAX_STRING_LENGTH;

export interface FileStoreOptions {
  readonly directory: string | URL;
  /** `false`: what is written survives a killed process, not a power cut. */
  readonly fsync: boolean;
  /**
   * Milliseconds that the heartbeat of an owner we know nothing of must stand still before it is replaced; absent:
   * never.
   */
  readonly foreignOwnerTimeoutMs?: number | undefined;
  /** How long to wait for an owner to go. Default: not at all. */
  readonly waitForOwnerMs?: number | undefined;
  /** Ends the wait. */
  readonly signal?: AbortSignal | undefined;
  readonly clock: Clock;
  parse: ParseRecord;
  /**
   * Called once, when another manager took the directory over, or when it is gone; `null` where none took over or it is
   * not known which. `how`: what happened, as a sentence without its end.
   */
  onFenced(owner: OwnerIdentity | null, how: string): void;
  /** Failures that belong to no call. */
  onError(error: BackgroundTaskError): void;
  /** @internal For tests of what other machines would do. */
  readonly identity?: OwnerIdentity | undefined;
}

/**
 * Changes under way at once: enough for many to share one fsync of the folder, and few enough for an outcome not to
 * wait long among them.
 */
const CONCURRENT_CHANGES = 256;

/**
 * Creates the directory where needed and takes ownership of it. Throws `DIRECTORY_OWNED` with its owner, or
 * `STORAGE_FAILED`; either way nothing that it made is left.
 */
export async function openFileStore(options: FileStoreOptions): Promise<FileStore> {
  const files = new DurableFiles(options);
  const { layout, undo } = await prepareDirectory(options.directory, files);
  try {
    const ownership = await Ownership.claim({
      ownerDir: layout.ownerDir,
      identity: options.identity ?? ownIdentity(),
      clock: options.clock,
      fsync: options.fsync,
      foreignOwnerTimeoutMs: options.foreignOwnerTimeoutMs,
      waitForOwnerMs: options.waitForOwnerMs,
      signal: options.signal,
      prepare: () => prepareOwnedFolders(layout, files),
      onFenced: (owner, how) => options.onFenced(owner, how),
      onError: (error) => options.onError(error),
    });
    return new FileStore(options, layout, files, ownership);
  } catch (error) {
    await undo();
    if (options.signal?.aborted && error === options.signal.reason) throw error;
    throw storageFailed(`cannot take ownership of ${layout.directory}`, error);
  }
}

/** Records as files: see {@link Layout} for which is where. */
export class FileStore implements TaskStore {
  readonly runFolder: RunFolder;
  readonly #layout: Layout;
  readonly #options: FileStoreOptions;
  readonly #files: DurableFiles;
  readonly #ownership: Ownership;
  readonly #writes = new Set<Promise<void>>();
  readonly #limiter = new Limiter(CONCURRENT_CHANGES);
  #leftInPlace: ReadonlyMap<string, string> = new Map();
  #isReleased = false;

  /** @internal */
  constructor(options: FileStoreOptions, layout: Layout, files: DurableFiles, ownership: Ownership) {
    this.runFolder = new RunFolder(layout);
    this.#layout = layout;
    this.#options = options;
    this.#files = files;
    this.#ownership = ownership;
  }

  get owner(): OwnerIdentity {
    return this.#ownership.identity;
  }

  async load(): Promise<LoadedRecords> {
    const { parse, clock, onError } = this.#options;
    const loaded = await loadRecords(this.#layout, parse, clock).catch((error: unknown) => {
      throw storageFailed(`cannot read the directory ${this.#layout.directory}`, error);
    });
    this.#leftInPlace = loaded.leftInPlace;
    const [failure] = loaded.failures;
    if (failure !== undefined) {
      onError(storageFailed(`cannot remove ${loaded.failures.length} of the files that former owners left`, failure));
    }
    return {
      records: [...loaded.records.values()],
      rejected: loaded.rejected,
      unavailableIds: new Set(loaded.leftInPlace.keys()),
    };
  }

  async put(record: TaskRecord): Promise<void> {
    const { taskId } = record;
    await this.#write(taskId, `cannot write the record of ${taskId}`, async () => {
      const bytes = Buffer.from(`${JSON.stringify(record)}\n`);
      if (bytes.length > MAX_RECORD_BYTES) throw tooLarge(bytes.length);
      await this.#assertNotLeftInPlace(taskId);
      await this.#files.write(this.#layout.recordPath(taskId), bytes);
    });
  }

  async remove(taskId: string): Promise<void> {
    await this.#write(taskId, `cannot remove ${taskId}`, async () => {
      await this.runFiles(taskId).remove();
      await this.#removeFolder(taskId);
      await this.#files.unlink(this.#layout.recordPath(taskId));
      this.#layout.forgetLegacyFolder(taskId);
    });
  }

  async clear(taskId: string): Promise<void> {
    const work = async () => {
      await this.runFiles(taskId).remove();
      await removeFile(this.#layout.resultPath(taskId));
    };
    // Every new task comes through here first: in this lane the new ones wait, however many, without keeping outcomes
    // waiting.
    await this.#write(taskId, `cannot remove what an earlier ${taskId} left`, work, 'new');
  }

  async putResult(taskId: string, result: JsonValue): Promise<void> {
    await this.#write(taskId, `cannot write the result of ${taskId}`, async () => {
      const path = this.#layout.resultPath(taskId);
      await this.#makeTaskFolder(dirname(path));
      await this.#files.write(path, Buffer.from(`${JSON.stringify(result)}\n`));
    });
  }

  async getResult(taskId: string): Promise<JsonValue | undefined> {
    try {
      const path = this.#layout.resultPath(taskId);
      const contents = await unlessCode(['ENOTDIR'], readBounded(path, MAX_RESULT_FILE_BYTES));
      if (contents === 'irregular') throw new Error(`${path} is not a regular file, or larger than any result`);
      return contents && (JSON.parse(contents.bytes.toString('utf8')) as JsonValue);
    } catch (error) {
      throw storageFailed(`cannot read the result of ${taskId}`, error, taskId);
    }
  }

  output(taskId: string): OutputFile {
    return new OutputFile(this.#layout.outputPath(taskId));
  }

  runFiles(taskId: string): RunFiles {
    return new RunFiles(this.#layout, taskId);
  }

  async checkOwnership(): Promise<void> {
    try {
      await this.#ownership.check();
    } catch (error) {
      throw storageFailed('cannot tell whether this manager still owns the directory', error);
    }
  }

  /** Waits for the writes under way: after it, the next owner finds them done. */
  async release(): Promise<void> {
    this.#isReleased = true;
    await Promise.allSettled(this.#writes);
    await this.#ownership.release();
  }

  /**
   * Every change goes through here: it waits for its place, is checked for ownership right before it begins, waited for
   * by `release`, and its failure made ours. `work` never waits for another change.
   */
  async #write(taskId: string, failure: string, work: () => Promise<void>, lane?: Lane): Promise<void> {
    if (this.#isReleased) {
      throw new BackgroundTaskError('OWNERSHIP_LOST', 'the directory was given up: nothing is written any more', {
        taskId,
      });
    }
    const write = this.#limiter.run(() => this.#ownership.assertOwned(taskId).then(work), lane);
    this.#writes.add(write);
    try {
      await write;
    } catch (error) {
      throw storageFailed(failure, error, taskId);
    } finally {
      this.#writes.delete(write);
    }
  }

  /** A record that we could not read may be that of a task: the id is taken for as long as the file is there. */
  async #assertNotLeftInPlace(taskId: string): Promise<void> {
    const path = this.#leftInPlace.get(taskId);
    if (path === undefined || !(await unlessCode(['ENOENT'], lstat(path)))) return;
    throw new BackgroundTaskError('TASK_EXISTS', `${path} is there but could not be read, and is not overwritten`, {
      taskId,
    });
  }

  async #makeTaskFolder(folder: string): Promise<void> {
    try {
      await mkdir(folder, { mode: 0o700 });
    } catch (error) {
      if (systemCode(error) === 'EEXIST') return;
      throw error;
    }
    await chmod(folder, 0o700);
    await this.#files.syncFolder(dirname(folder));
  }

  /** Only what is ours; a folder with anything else in it stays, and so does what is not a real folder. */
  async #removeFolder(taskId: string): Promise<void> {
    for (const folder of new Set([this.#layout.taskDir(taskId), dirname(this.#layout.resultPath(taskId))])) {
      const stats = await unlessCode(['ENOENT'], lstat(folder));
      if (!stats?.isDirectory()) continue;
      for (const path of this.#layout.taskFiles(folder)) await removeFile(path);
      // Durable before the current record goes: a legacy one that came back would be read as a task again.
      if (await removeFile(this.#layout.legacyRecordPath(folder))) await this.#files.syncFolder(folder);
      await unlessCode(['ENOENT', 'ENOTEMPTY', 'EEXIST'], rmdir(folder));
    }
  }
}

/** Removes a file, and says whether there was one; a folder of its name is not ours. */
async function removeFile(path: string): Promise<boolean> {
  const removed = unlink(path).then(() => true);
  return (await unlessCode(['ENOENT', 'EISDIR'], removed)) ?? false;
}

function tooLarge(bytes: number): Error {
  return new Error(`it would take ${bytes} bytes, more than the ${MAX_RECORD_BYTES} of a record`);
}
