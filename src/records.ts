/* What can be done with a directory without a manager: read it without owning it, and bring records in. */
import { z } from 'zod';
import { systemClock } from './clock.js';
import { judgeRecords } from './judge.js';
import { fits, type ImportReport, importRecords } from './legacy/import.js';
import { createParser } from './legacy/parser.js';
import type { TaskStore } from './store/contract.js';
import { openFileStore } from './store/file-store.js';
import { openStoreReader } from './store/reader.js';
import { checkOptions } from './task/filter.js';
import { jsonBytes } from './task/json.js';
import { MAX_RESULT_BYTES, nextRevision, type TaskRecord } from './task/record.js';
import type { OwnerIdentity, UnknownTask } from './task/types.js';

/** What `readTasks` found. */
export interface ReadReport {
  /** Newest first. */
  readonly tasks: readonly UnknownTask[];
  /** What could not be read, and why; it stays where it is. */
  readonly rejected: readonly { readonly path: string; readonly reason: string }[];
  /**
   * Who holds the directory, and whether that lives (`'unknown'`: it runs where it cannot be seen from here). `null`:
   * no one, because none ever did or the last one gave it up.
   */
  readonly owner: { readonly identity: OwnerIdentity; readonly alive: boolean | 'unknown' } | null;
}

const readOptions = z.strictObject({ judge: z.boolean().optional() });

/**
 * Reads the records of a directory without owning it, for dashboards and command lines; a manager may be writing at the
 * same time. Nothing is moved, settled or changed. `judge: true`: each active process is looked at as an owner would,
 * so that one which ended while no manager lived is shown as it ended, with its exit code and the time of its end;
 * `lost` only where it provably ran and is provably gone. What cannot be told, and tasks of other kinds, are shown as
 * they are on record. Default `false`.
 *
 * Throws `STORAGE_FAILED` for a directory that cannot be read, and `INVALID_SPEC`.
 */
export async function readTasks(
  directory: string | URL,
  options?: { judge?: boolean | undefined },
): Promise<ReadReport> {
  const { judge } = checkOptions(readOptions, options, 'readTasks');
  const reader = await openStoreReader(directory, createParser([]));
  const { records, rejected } = await reader.records();
  const { owner, unreadable } = await reader.owner();
  const isOwned = (owner !== null && owner.alive !== false) || unreadable !== undefined;
  const found = judge ? await judgeRecords(records, { reader, isOwned }) : [...records];
  const tasks = found.sort((a, b) => b.createdAt - a.createdAt || (a.taskId < b.taskId ? 1 : -1));
  const unread =
    unreadable === undefined ? [] : [{ path: unreadable, reason: 'the owner of the directory cannot be read from it' }];
  return { tasks: tasks as unknown as UnknownTask[], rejected: [...rejected, ...unread], owner };
}

/**
 * Writes records of any known shape, current or legacy, into a directory: each is normalised and written once; one
 * whose id is there already is left alone. Running tasks are written as `lost`, because nothing of ours runs them,
 * except tmux sessions. Takes ownership while it works. Throws `DIRECTORY_OWNED` or `STORAGE_FAILED`.
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
    // There are no listeners here, and the next owner will not meet them again.
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
async function withResultAside(record: TaskRecord, store: TaskStore): Promise<TaskRecord> {
  const { result, ...rest } = record;
  if (result === undefined || (jsonBytes(result) <= MAX_RESULT_BYTES && fits(record))) return record;
  await store.putResult(record.taskId, result);
  return rest;
}
