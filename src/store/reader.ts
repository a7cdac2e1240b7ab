/* A directory as a reader sees it that does not own it. Nothing is created, moved or changed. */
import { lstat, realpath } from 'node:fs/promises';
import { OutputFile } from '../output/output-file.js';
import type { TaskRecord } from '../task/record.js';
import { storageFailed, unlessCode } from '../util/system-error.js';
import type { TaskFiles } from './contract.js';
import { directoryPath } from './folders.js';
import { Layout } from './layout.js';
import { type RecordsRead, readRecords, readTaskRecord } from './load.js';
import { type OwnerReading, readOwner } from './read-owner.js';
import { type ParseRecord, readRecordFile } from './record-file.js';
import { RunFiles } from './run-files.js';
import { RunFolder } from './run-folder.js';

/** Throws `STORAGE_FAILED` for a directory that is not there. */
export async function openStoreReader(directory: string | URL, parse: ParseRecord): Promise<StoreReader> {
  try {
    return new StoreReader(directory, new Layout(await realpath(directoryPath(directory))), parse);
  } catch (error) {
    throw storageFailed(`cannot read the directory ${String(directory)}`, error);
  }
}

export class StoreReader implements TaskFiles {
  readonly runFolder: RunFolder;
  /** As the caller named it, for what is reported to the caller. */
  readonly #directory: string | URL;
  readonly #layout: Layout;
  readonly #parse: ParseRecord;

  constructor(directory: string | URL, layout: Layout, parse: ParseRecord) {
    this.runFolder = new RunFolder(layout);
    this.#directory = directory;
    this.#layout = layout;
    this.#parse = parse;
  }

  /** Throws `STORAGE_FAILED`. */
  records(): Promise<RecordsRead> {
    return readRecords(this.#directory, this.#parse);
  }

  /** One task; `undefined`: there is none. Throws `STORAGE_FAILED`. */
  async task(taskId: string): Promise<TaskRecord | undefined> {
    return this.#find(taskId, false);
  }

  /** One task, with its output found: see `output`. */
  async taskWithOutput(taskId: string): Promise<TaskRecord | undefined> {
    const record = await this.#find(taskId, false);
    if (!record) return undefined;
    const isThere = await unlessCode(['ENOENT', 'ENOTDIR'], lstat(this.#layout.outputPath(taskId)));
    return isThere ? record : this.#find(taskId, true);
  }

  async #find(taskId: string, inFolders: boolean): Promise<TaskRecord | undefined> {
    const found = await readTaskRecord(this.#layout, taskId, this.#parse, { inFolders });
    if (found?.legacyFolder !== undefined) this.#layout.useLegacyFolder(taskId, found.legacyFolder);
    return found?.record;
  }

  /** The record of a task as it is now; `undefined`: it was removed. `known` where it cannot be read. */
  record(known: TaskRecord): TaskRecord | undefined {
    const { taskId } = known;
    const file = { path: this.#layout.recordPath(taskId), fileName: `${taskId}.json`, taskId };
    const reading = readRecordFile(file, this.#parse);
    if (reading.is === 'gone') return undefined;
    return reading.is === 'record' ? reading.record : known;
  }

  /** Throws `STORAGE_FAILED`. */
  async owner(): Promise<OwnerReading> {
    try {
      return await readOwner(this.#layout.ownerDir);
    } catch (error) {
      throw storageFailed(`cannot tell who owns ${this.#layout.directory}`, error);
    }
  }

  output(taskId: string): OutputFile {
    return new OutputFile(this.#layout.outputPath(taskId));
  }

  runFiles(taskId: string): RunFiles {
    return new RunFiles(this.#layout, taskId);
  }
}
