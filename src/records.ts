/* What can be done with a directory without a manager: read it without owning it, and bring records in. */
import { z } from 'zod';
import { systemClock } from './clock.js';
import { BackgroundTaskError } from './errors.js';
import { judgeRecords } from './judge.js';
import { fits, type ImportReport, importRecords } from './legacy/import.js';
import { createParser } from './legacy/parser.js';
import type { OutputWindow, ReadOutputOptions } from './output/types.js';
import type { TaskStore } from './store/contract.js';
import { openFileStore } from './store/file-store.js';
import { openStoreReader, type StoreReader } from './store/reader.js';
import { checkOptions } from './task/filter.js';
import { taskIdOf } from './task/id.js';
import { jsonBytes } from './task/json.js';
import { MAX_RESULT_BYTES, nextRevision, type TaskRecord } from './task/record.js';
import { isTerminalStatus } from './task/status.js';
import type { OwnerIdentity, TaskRef, UnknownTask } from './task/types.js';

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
  const held = await reader.owner();
  const { owner, unreadable } = held;
  const found = judge ? await judgeRecords(records, { reader, isOwned: isHeld(held) }) : [...records];
  const tasks = found.sort((a, b) => b.createdAt - a.createdAt || (a.taskId < b.taskId ? 1 : -1));
  const unread =
    unreadable === undefined ? [] : [{ path: unreadable, reason: 'the owner of the directory cannot be read from it' }];
  return { tasks: tasks as unknown as UnknownTask[], rejected: [...rejected, ...unread], owner };
}

/**
 * Reads one task of a directory without owning it: by its id, or the task itself as any snapshot has it. `undefined`:
 * there is none. It is read as `readTasks` reads it, `judge` included, at the cost of this one task: no other record is
 * read, and the names in the directory are listed only where there is no `<taskId>.json`.
 *
 * Throws `STORAGE_FAILED` for a directory that cannot be read, and for a record that cannot; `INVALID_TASK_ID` and
 * `INVALID_SPEC`.
 */
export async function readTask(
  directory: string | URL,
  task: TaskRef,
  options?: { judge?: boolean | undefined },
): Promise<UnknownTask | undefined> {
  const taskId = taskIdOf(task);
  const { judge } = checkOptions(readOptions, options, 'readTask');
  const reader = await openStoreReader(directory, createParser([]));
  const record = await reader.task(taskId);
  if (!record || !judge || isTerminalStatus(record.status)) return record as UnknownTask | undefined;
  const [judged] = await judgeRecords([record], { reader, isOwned: isHeld(await reader.owner()) });
  return judged as UnknownTask | undefined;
}

/**
 * Reads a part of a task's output without owning the directory: the window that `readOutput` of its owner gives, with
 * the same options. No output yet: empty, size 0.
 *
 * Throws `TASK_NOT_FOUND`, and otherwise as `readTask`.
 */
export async function readTaskOutput(
  directory: string | URL,
  task: TaskRef,
  options?: ReadOutputOptions,
): Promise<OutputWindow> {
  const taskId = taskIdOf(task);
  const reader = await openStoreReader(directory, createParser([]));
  const record = await reader.taskWithOutput(taskId);
  if (!record) throw new BackgroundTaskError('TASK_NOT_FOUND', `there is no task "${taskId}"`, { taskId });
  return reader.output(taskId).read(options, { grows: !isTerminalStatus(record.status) });
}

/** Whether somebody owns the directory, or may. */
function isHeld({ owner, unreadable }: Awaited<ReturnType<StoreReader['owner']>>): boolean {
  return (owner !== null && owner.alive !== false) || unreadable !== undefined;
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
