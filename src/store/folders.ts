import { chmod, lstat, mkdir, realpath, rmdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { storageFailed, systemCode, unlessCode } from '../util/system-error.js';
import type { DurableFiles } from './durable-file.js';
import { Layout } from './layout.js';

const PRIVATE = 0o700;

/** A directory that is ready to be owned. */
export interface PreparedDirectory {
  readonly layout: Layout;
  /** Takes back what was created, as far as it is still empty: for an open that fails later. */
  undo(): Promise<void>;
}

/** The path that a host named, absolute. */
export function directoryPath(directory: string | URL): string {
  return resolve(typeof directory === 'string' ? directory : fileURLToPath(directory));
}

/**
 * Creates the directory with all its parents, and `.owner`, each 0700 whatever the umask; a directory that was there
 * keeps its rights. Throws `STORAGE_FAILED` naming the directory, and then nothing that it created is left.
 */
export async function prepareDirectory(directory: string | URL, files: DurableFiles): Promise<PreparedDirectory> {
  const created: string[] = [];
  const undo = () => removeEmpty(created);
  try {
    const path = directoryPath(directory);
    await makeFolder(path, created);
    const layout = new Layout(await realpath(path));
    if (!(await stat(layout.directory)).isDirectory()) throw notAFolder(path);
    await makeOwnFolder(layout.ownerDir, created);
    for (const folder of created) await files.syncFolder(dirname(folder));
    return { layout, undo };
  } catch (error) {
    await undo();
    throw storageFailed(`cannot use the directory ${String(directory)}`, error);
  }
}

/** The folders that only the owner makes: an opener that fails to become the owner may not take them away again. */
export async function prepareOwnedFolders(layout: Layout, files: DurableFiles): Promise<void> {
  const created: string[] = [];
  try {
    await makeOwnFolder(layout.runDir, created);
    await files.syncFolder(layout.directory);
  } catch (error) {
    await removeEmpty(created);
    throw error;
  }
}

async function makeFolder(path: string, created: string[]): Promise<void> {
  if (await tryMakeFolder(path, created, ['EEXIST', 'ENOENT'])) return;
  // It exists, or its parent does not.
  if (await unlessCode(['ENOENT'], lstat(path))) return;
  if (dirname(path) !== path) await makeFolder(dirname(path), created);
  await tryMakeFolder(path, created, ['EEXIST']);
}

async function tryMakeFolder(path: string, created: string[], tolerated: readonly string[]): Promise<boolean> {
  try {
    await mkdir(path, { mode: PRIVATE });
  } catch (error) {
    if (tolerated.includes(systemCode(error) ?? '')) return false;
    throw error;
  }
  created.push(path);
  await chmod(path, PRIVATE);
  return true;
}

/** Makes the folder of the supervisors' files again where it was deleted; answers whether it had been. */
export async function remakeRunFolder({ runDir }: Layout): Promise<boolean> {
  const created: string[] = [];
  await makeOwnFolder(runDir, created);
  return created.length > 0;
}

/** One of the folders that are ours alone: never a link to somewhere else, and always private. */
async function makeOwnFolder(path: string, created: string[]): Promise<void> {
  if (await tryMakeFolder(path, created, ['EEXIST'])) return;
  const stats = await lstat(path);
  if (!stats.isDirectory()) throw notAFolder(path);
  if ((stats.mode & 0o777) !== PRIVATE) await chmod(path, PRIVATE);
}

function notAFolder(path: string): Error {
  return Object.assign(new Error(`ENOTDIR: not a directory, '${path}'`), { code: 'ENOTDIR', path });
}

async function removeEmpty(created: readonly string[]): Promise<void> {
  try {
    for (const folder of [...created].reverse()) await rmdir(folder);
  } catch {
    // Not empty: it is in use by now. Anything else: the failure that brought us here is the one to report.
  }
}
