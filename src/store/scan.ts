/*
 * Finds every record below a directory without changing anything. Nothing found is ever silently dropped: each record-like entry ends up as
 * a record or among the bad ones, unless it vanished while we looked.
 *
 * Two layouts: `<id>.json`, and a legacy folder holding `task.json`, which counts only where there is no `<id>.json`. Folders are looked
 * into only where that can matter: tens of thousands of ordinary task folders cost nothing.
 */
import { lstatSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, delay } from '../clock.js';
import type { TaskRecord } from '../task/record.js';
import { Slices } from '../util/slices.js';
import { systemCode } from '../util/system-error.js';
import { type Listing, listDirectory, RETRY_PAUSES_MS } from './listing.js';
import { type ParseRecord, type Reading, type RecordFile, readRecordFile } from './record-file.js';

/** An entry that is no record. */
export interface BadEntry {
  readonly path: string;
  /** Its name when it is set aside, without `.json`. */
  readonly name: string;
  readonly reason: string;
  /** It stays where it is: it may be a record after all, for a newer version or once it can be read. */
  readonly leave: boolean;
}

export interface Scan {
  readonly records: Map<string, TaskRecord>;
  readonly bad: BadEntry[];
  /** By task id: the folder that holds the output of a legacy task, where its name is not the id. */
  readonly legacyFolders: Map<string, string>;
  /** Left-over temporary files. */
  readonly drafts: readonly string[];
}

interface Source extends RecordFile {
  readonly name: string;
  readonly legacyFolder?: string;
}

/** `setAside`: by id, what was moved to `.rejected`. Throws the system's error where the directory itself cannot be read. */
export async function scanDirectory(
  directory: string,
  parse: ParseRecord,
  clock: Clock,
  setAside: ReadonlyMap<string, readonly string[]>,
): Promise<Scan> {
  const slices = new Slices(clock);
  const listing = await listDirectory(directory, clock, slices);
  const scan: Scan = { records: new Map(), bad: [], legacyFolders: new Map(), drafts: listing.drafts };
  await readAll(await findSources(directory, listing, scan, slices, setAside), parse, scan, clock, slices);
  return scan;
}

/** `inFolders`: also where its record is not in a folder; its output may be. */
export interface TaskScanOptions {
  readonly inFolders: boolean;
  readonly setAside: () => Promise<ReadonlyMap<string, readonly string[]>>;
}

/**
 * The same for one task. The record of no other one is read, and their names only where it has no `<id>.json`, or for
 * its folder: that of another system may be written in capitals.
 */
export async function scanForTask(
  directory: string,
  taskId: string,
  parse: ParseRecord,
  clock: Clock,
  { inFolders, setAside }: TaskScanOptions,
): Promise<Scan> {
  const slices = new Slices(clock);
  const scan: Scan = { records: new Map(), bad: [], legacyFolders: new Map(), drafts: [] };
  if (!inFolders) await readAll([ownSource(directory, taskId)], parse, scan, clock, slices);
  if (scan.records.size > 0 || scan.bad.length > 0) return scan;
  const listing = await listDirectory(directory, clock, slices);
  const records = new Set(listing.records.has(taskId) ? [taskId] : []);
  const folders = listing.folders.filter((folder) => folder.toLowerCase() === taskId);
  const own: Listing = { records, folders, drafts: [] };
  await readAll(await findSources(directory, own, scan, slices, await setAside()), parse, scan, clock, slices);
  return scan;
}

function ownSource(directory: string, name: string): Source {
  return { path: join(directory, `${name}.json`), fileName: `${name}.json`, taskId: name, name };
}

async function findSources(
  directory: string,
  listing: Listing,
  scan: Scan,
  slices: Slices,
  setAside: ReadonlyMap<string, readonly string[]>,
): Promise<Source[]> {
  const sources: Source[] = [];
  for (const name of listing.records) {
    sources.push(ownSource(directory, name));
    await slices.pause();
  }
  for (const [taskId, folders] of await groupByTaskId(listing, slices)) {
    // Names that are the same in lower case are taken in a fixed order, so that the same one wins at every open.
    for (const folder of folders.sort()) {
      const path = join(directory, folder, 'task.json');
      await slices.pause();
      if (!isRegularFile(path)) continue;
      // What was written back wins, also once it could not be read: the older file would say what was true long ago.
      if (!listing.records.has(taskId) && isOlder(path, setAside.get(taskId))) continue;
      if (listing.records.has(taskId) && !scan.legacyFolders.has(taskId)) scan.legacyFolders.set(taskId, folder);
      else sources.push({ path, fileName: `${folder}/task.json`, taskId, name: folder, legacyFolder: folder });
    }
  }
  return sources;
}

/** The folders that must be looked into, by the id that each would have. */
async function groupByTaskId(listing: Listing, slices: Slices): Promise<Map<string, string[]>> {
  const groups = new Map<string, string[]>();
  for (const folder of listing.folders) {
    await slices.pause();
    if (!mayBeLegacy(folder, listing)) continue;
    const taskId = folder.toLowerCase();
    const group = groups.get(taskId);
    if (group) group.push(folder);
    else groups.set(taskId, [folder]);
  }
  return groups;
}

function mayBeLegacy(folder: string, listing: Listing): boolean {
  return folder !== folder.toLowerCase() || !listing.records.has(folder);
}

function isRegularFile(path: string): boolean {
  try {
    return lstatSync(path).isFile();
  } catch (error) {
    // No such file is the ordinary case. Any other failure is met again, and reported, when the file is read.
    return systemCode(error) !== 'ENOENT' && systemCode(error) !== 'ENOTDIR';
  }
}

/** Older than a record of ours that was set aside. What a person repaired is newer; what cannot be told keeps nothing back. */
function isOlder(path: string, setAside: readonly string[] = []): boolean {
  return setAside.some((other) => isOwnRecord(other) && writtenAt(path) < writtenAt(other));
}

function writtenAt(path: string): number {
  try {
    return lstatSync(path).mtimeMs;
  } catch {
    return Number.NaN; // neither older nor newer: a failure that lasts is met again, and reported, when the file is read
  }
}

/** Not the `task.json` of another system's folder, which is set aside for reasons of its own. */
function isOwnRecord(setAside: string): boolean {
  try {
    return !/^[^\n]*\/task\.json: /.test(readFileSync(`${setAside}.reason`, 'utf8'));
  } catch {
    return false; // who cannot be asked why says nothing against the other
  }
}

async function readAll(
  sources: readonly Source[],
  parse: ParseRecord,
  scan: Scan,
  clock: Clock,
  slices: Slices,
): Promise<void> {
  let open = sources;
  for (const pause of [...RETRY_PAUSES_MS, null]) {
    const again: Source[] = [];
    for (const source of open) {
      const reading = readRecordFile(source, parse);
      if (reading.is !== 'retry') settle(source, reading, scan);
      else if (pause !== null) again.push(source);
      else settle(source, { is: 'bad', reason: `cannot be read: ${reading.error.message}`, leave: true }, scan);
      await slices.pause();
    }
    if (again.length === 0 || pause === null) return;
    open = again;
    await delay(clock, pause);
  }
}

function settle(source: Source, reading: Exclude<Reading, { is: 'retry' }>, scan: Scan): void {
  const { path, fileName, name, taskId, legacyFolder } = source;
  const told = (reason: string) => (legacyFolder === undefined ? reason : `${fileName}: ${reason}`);
  if (reading.is === 'bad') scan.bad.push({ path, name, reason: told(reading.reason), leave: reading.leave });
  else if (reading.is === 'gone') settleGone(source, scan);
  else if (scan.records.has(taskId)) {
    const reason = told(`its id in lower case, ${taskId}, is taken by another record`);
    scan.bad.push({ path, name, reason, leave: false });
  } else {
    scan.records.set(taskId, reading.record);
    if (legacyFolder !== undefined && legacyFolder !== taskId) scan.legacyFolders.set(taskId, legacyFolder);
  }
}

/** Removed since it was listed. A name that is not UTF-8 cannot be looked up by what it was decoded to, and is no less there. */
function settleGone({ path, name }: Source, scan: Scan): void {
  if (!name.includes('\uFFFD')) return;
  scan.bad.push({ path, name, reason: 'its name is not valid UTF-8', leave: true });
}
