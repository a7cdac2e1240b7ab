import { type Dirent, lstatSync, opendirSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, delay } from '../clock.js';
import type { Slices } from '../util/slices.js';
import { systemCode } from '../util/system-error.js';

/** Failures that may pass are tried again after these pauses. */
export const RETRY_PAUSES_MS = [20, 80, 320] as const;

/** What lies in a directory, by what it may be to us. Everything else is not ours to look at. */
export interface Listing {
  /** Names without `.json`, of whatever type the entry is. */
  readonly records: Set<string>;
  /** Folders that may hold a legacy task: `task.json` and its output. */
  readonly folders: string[];
  /** Files that a durable write leaves when its process is killed. */
  readonly drafts: string[];
}

/** A name that can become a task id by lower-casing, or is meant to. */
const folderName = /^[A-Za-z0-9_-]+$/;
const draftName = /^[a-z0-9]+(?:[-_][a-z0-9]+)*\.json\.next(?:\.\d+)?$/;

/** Reads the directory in slices; a failure that does not pass is thrown. */
export async function listDirectory(directory: string, clock: Clock, slices: Slices): Promise<Listing> {
  for (const pause of RETRY_PAUSES_MS) {
    try {
      return await readOnce(directory, slices);
    } catch (error) {
      if (['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM', 'ELOOP'].includes(systemCode(error) ?? '')) throw error;
      await delay(clock, pause);
    }
  }
  return readOnce(directory, slices);
}

async function readOnce(directory: string, slices: Slices): Promise<Listing> {
  const listing: Listing = { records: new Set(), folders: [], drafts: [] };
  for await (const entry of entriesOf(directory, slices)) sort(directory, entry, listing);
  return listing;
}

/** Every entry of a folder, read synchronously in slices. */
export async function* entriesOf(folder: string, slices: Slices): AsyncGenerator<Dirent> {
  const handle = opendirSync(folder, { bufferSize: 256 });
  try {
    for (let entry = handle.readSync(); entry; entry = handle.readSync()) {
      yield entry;
      await slices.pause();
    }
  } finally {
    handle.closeSync();
  }
}

function sort(directory: string, entry: Dirent, listing: Listing): void {
  const { name } = entry;
  if (name.startsWith('.')) return;
  if (name.endsWith('.json')) listing.records.add(name.slice(0, -'.json'.length));
  else if (draftName.test(name) && entry.isFile()) listing.drafts.push(name);
  else if (folderName.test(name) && isFolder(directory, entry)) listing.folders.push(name);
}

function isFolder(directory: string, entry: Dirent): boolean {
  if (entry.isDirectory()) return true;
  if (entry.isFile() || entry.isSymbolicLink() || entry.isFIFO() || entry.isSocket()) return false;
  // Some file systems do not say what an entry is.
  return lstatSync(join(directory, entry.name), { throwIfNoEntry: false })?.isDirectory() ?? false;
}
