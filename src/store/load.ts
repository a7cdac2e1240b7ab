import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { type Clock, systemClock } from '../clock.js';
import { asError } from '../errors.js';
import { isTaskId } from '../task/id.js';
import type { TaskRecord } from '../task/record.js';
import { Slices } from '../util/slices.js';
import { storageFailed, unlessCode } from '../util/system-error.js';
import type { RejectedRecord } from './contract.js';
import { directoryPath } from './folders.js';
import { Layout } from './layout.js';
import type { ParseRecord } from './record-file.js';
import { moveAside } from './reject.js';
import { type BadEntry, type Scan, scanDirectory, scanForTask } from './scan.js';
import { sweep } from './sweep.js';

/** What an owner finds when it opens its directory. */
export interface Loaded {
  readonly records: ReadonlyMap<string, TaskRecord>;
  readonly rejected: readonly RejectedRecord[];
  /** By id: the record that is still in place though it could not be read, never to be written over. */
  readonly leftInPlace: ReadonlyMap<string, string>;
  /** What could not be swept. */
  readonly failures: readonly unknown[];
}

/** Reads every record, sets aside what is none, sweeps what dead owners left. Only for the owner. */
export async function loadRecords(layout: Layout, parse: ParseRecord, clock: Clock): Promise<Loaded> {
  const scan = await scanDirectory(layout.directory, parse, clock, await tryReadAside(layout.rejectedDir));
  for (const [taskId, folder] of scan.legacyFolders) layout.useLegacyFolder(taskId, folder);
  const slices = new Slices(clock);
  const rejected: RejectedRecord[] = [];
  const leftInPlace = new Map<string, string>();
  for (const entry of scan.bad) {
    const outcome = setAside(layout, entry);
    rejected.push(outcome);
    if (outcome.movedTo === null) leftInPlace.set(entry.name.toLowerCase(), entry.path);
    await slices.pause();
  }
  const failures = await trySweep(layout, clock, scan, leftInPlace);
  return { records: scan.records, rejected, leftInPlace, failures };
}

/** Without knowing which records were set aside, nobody knows whose files may go: then they all stay. */
async function trySweep(
  layout: Layout,
  clock: Clock,
  { records, drafts }: Scan,
  leftInPlace: ReadonlyMap<string, string>,
): Promise<readonly unknown[]> {
  try {
    const unread = new Set([...leftInPlace.keys(), ...(await setAsideIn(layout.rejectedDir)).keys()]);
    return await sweep({ layout, clock, records, unread, drafts });
  } catch (error) {
    return [error];
  }
}

function setAside(layout: Layout, { path, name, reason, leave }: BadEntry): RejectedRecord {
  if (leave) return { path, movedTo: null, reason };
  try {
    return { path, movedTo: moveAside(layout.rejectedDir, path, name, reason), reason };
  } catch (error) {
    return { path, movedTo: null, reason: `${reason}; it could not be moved aside: ${asError(error).message}` };
  }
}

/** Where it cannot be read no record is kept back for it; an owner's sweep meets the same failure and reports it. */
async function tryReadAside(rejectedDir: string): Promise<ReadonlyMap<string, readonly string[]>> {
  return setAsideIn(rejectedDir).catch(() => new Map());
}

/**
 * What was ever set aside, by the id of the task: a person may repair a record and put it back, and then it must be judged as before. Names
 * only: nothing in there is opened for being there.
 */
async function setAsideIn(rejectedDir: string): Promise<Map<string, string[]>> {
  const names = (await unlessCode(['ENOENT', 'ENOTDIR'], readdir(rejectedDir))) ?? [];
  const found = new Map<string, string[]>();
  for (const name of names) {
    const taskId = /^(.+?)\.json/.exec(name)?.[1]?.toLowerCase() ?? '';
    if (!isTaskId(taskId) || name.endsWith('.reason')) continue;
    const paths = found.get(taskId);
    if (paths) paths.push(join(rejectedDir, name));
    else found.set(taskId, [join(rejectedDir, name)]);
  }
  return found;
}

/**
 * The record of one task, with the folder of its output where another system made that. Changes nothing. `undefined`:
 * there is none. Throws `STORAGE_FAILED`, also for a record that cannot be read: what is there is not told as missing.
 */
export async function readTaskRecord(
  layout: Layout,
  taskId: string,
  parse: ParseRecord,
  { inFolders = false } = {},
): Promise<{ readonly record: TaskRecord; readonly legacyFolder: string | undefined } | undefined> {
  await setImmediate();
  const setAside = () => tryReadAside(layout.rejectedDir);
  try {
    const scan = await scanForTask(layout.directory, taskId, parse, systemClock, { inFolders, setAside });
    const record = scan.records.get(taskId);
    if (record) return { record, legacyFolder: scan.legacyFolders.get(taskId) };
    const [bad] = scan.bad;
    if (bad) throw new Error(`${bad.path}: ${bad.reason}`);
    return undefined;
  } catch (error) {
    throw storageFailed(`cannot read the record of "${taskId}"`, error);
  }
}

/** What is in a directory, as somebody who does not own it sees it. */
export interface RecordsRead {
  readonly records: readonly TaskRecord[];
  readonly rejected: readonly { readonly path: string; readonly reason: string }[];
}

/**
 * Reads the records without owning the directory and without changing anything, also while their owner writes: records are replaced by
 * renaming, so each is read whole, and one that was removed meanwhile is passed over. A directory that is not there is `STORAGE_FAILED`.
 */
export async function readRecords(directory: string | URL, parse: ParseRecord): Promise<RecordsRead> {
  // A host that polls must not keep everything else of its process waiting, however small the directory is.
  await setImmediate();
  try {
    const path = directoryPath(directory);
    const scan = await scanDirectory(path, parse, systemClock, await tryReadAside(new Layout(path).rejectedDir));
    return {
      records: [...scan.records.values()],
      rejected: scan.bad.map((entry) => ({ path: entry.path, reason: entry.reason })),
    };
  } catch (error) {
    throw storageFailed(`cannot read the directory ${String(directory)}`, error);
  }
}
