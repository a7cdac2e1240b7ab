/* What can be done with a directory without a manager: read it without owning it, and bring records in. */
import { systemClock } from './clock.js';
import { fits, type ImportReport, importRecords } from './legacy/import.js';

import { createParser } from './legacy/index.js';
import { type FileStore, openFileStore, readRecords } from './store/file-store.js';
import { jsonBytes } from './task/json.js';
import { MAX_RESULT_BYTES, nextRevision, type TaskRecord } from './task/record.js';
import type { UnknownTask } from './task/types.js';

/** What `readTasks` found. */
export interface ReadReport {
  /** Newest first. */
  readonly tasks: readonly UnknownTask[];
  /** What could not be read, and why; it stays where it is. */
  readonly rejected: readonly { readonly path: string; readonly reason: string }[];
}

/**
 * Reads the records of a directory without owning it, for dashboards and command lines; a manager may be writing at the same time.
 * Nothing is moved, settled or changed. Throws `STORAGE_FAILED` for a directory that cannot be read.
 */
export async function readTasks(directory: string | URL): Promise<ReadReport> {
  const { records, rejected } = await readRecords(directory, createParser([]));
  const tasks = [...records].sort((a, b) => b.createdAt - a.createdAt || (a.taskId < b.taskId ? 1 : -1));
  return { tasks: tasks as unknown as UnknownTask[], rejected };
}

/**
 * Writes records of any known shape, current or legacy, into a directory: each is normalised and written once; one whose id is there
 * already is left alone. Running tasks are written as `lost`, because nothing of ours runs them, except tmux sessions. Takes ownership
 * while it works. Throws `DIRECTORY_OWNED` or `STORAGE_FAILED`.
 */
export async function importTasks(directory: string | URL, records: readonly unknown[]): Promise<ImportReport> {
  const parse = createParser([]);
  const store = await openFileStore({
    directory,
    fsync: true,
    clock: systemClock,
    parse,
    onFenced: () => undefined,
    onError: (error) => process.emitWarning(error),
  });
  try {
    const { records: present, rejected, unavailableIds } = await store.load();
    // Nobody listens here, and the next owner will not meet them again.
    for (const { path, reason } of rejected) process.emitWarning(`${path} is no record: ${reason}`, 'RejectedRecord');
    const ids = new Set([...present.map((record) => record.taskId), ...unavailableIds]);
    return await importRecords(records, {
      parse,
      now: systemClock.now,
      exists: (taskId) => ids.has(taskId),
      write: async (record) => {
        await store.put(nextRevision(await withResultAside(record, store), systemClock.now()));
        ids.add(record.taskId);
      },
    });
  } finally {
    await store.release();
  }
}

/** A large result goes to its own file first, as that of a task which ends here. */
async function withResultAside(record: TaskRecord, store: FileStore): Promise<TaskRecord> {
  const { result, ...rest } = record;
  if (result === undefined || (jsonBytes(result) <= MAX_RESULT_BYTES && fits(record))) return record;
  await store.putResult(record.taskId, result);
  return rest;
}
