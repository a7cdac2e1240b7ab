import type { OutputFile } from '../output/output-file.js';
import type { TaskRecord } from '../task/record.js';
import type { JsonValue, OwnerIdentity } from '../task/types.js';
import type { RunFiles } from './run-files.js';
import type { RunFolder } from './run-folder.js';

/** A record that could not be read: set aside, or left where it is (`movedTo: null`). */
export interface RejectedRecord {
  /** Where it was. */
  readonly path: string;
  /** Where it is now; `null`: it was left in place. */
  readonly movedTo: string | null;
  readonly reason: string;
}

/** What a store found when it was read. */
export interface LoadedRecords {
  readonly records: readonly TaskRecord[];
  readonly rejected: readonly RejectedRecord[];
  /** Ids of records that could not be read and were left in place: taken for as long as they are there. */
  readonly unavailableIds: ReadonlySet<string>;
}

/** The files of tasks beside their records, as objects. */
export interface TaskFiles {
  /** The output of a task, whether there is any yet or not. */
  output(taskId: string): OutputFile;
  /** The files of the supervisor of a task, whether there are any or not. */
  runFiles(taskId: string): RunFiles;
  /** The folder of all supervisors' files. */
  readonly runFolder: RunFolder;
}

/**
 * Durable records, and the files that belong to them. The only paths that leave a store are those of an
 * {@link OutputFile} and of the {@link RunFolder}. A store is owned by one manager at a time; every write checks that
 * it still is, and throws `OWNERSHIP_LOST` where it is not. Every other failure is `STORAGE_FAILED` with the system's
 * error as its cause.
 */
export interface TaskStore extends TaskFiles {
  /** Who this manager is. */
  readonly owner: OwnerIdentity;
  /** Reads every record, sets aside what cannot be read, sweeps what dead owners left. Called once. */
  load(): Promise<LoadedRecords>;
  /**
   * Durable and whole when it resolves; on a failure the previous record is untouched. One call at a time for each id.
   */
  put(record: TaskRecord): Promise<void>;
  /**
   * Removes the record and all that belongs to it, the record last: a crash in between leaves a record to remove again.
   */
  remove(taskId: string): Promise<void>;
  /**
   * Removes what an earlier task of this id left beside its record: run files and a result. Before the id is used, or
   * used again.
   */
  clear(taskId: string): Promise<void>;
  /** Keeps a result that is too large for the record; durable when it resolves. */
  putResult(taskId: string, result: JsonValue): Promise<void>;
  /** The result that `putResult` kept, or `undefined`. */
  getResult(taskId: string): Promise<JsonValue | undefined>;
  /** Looks whether another manager took over; where one did, `onFenced` is called once, and every later write fails. */
  checkOwnership(): Promise<void>;
  /** Gives ownership up; needs no disk space. Idempotent. */
  release(): Promise<void>;
}
