import {
  chmodSync,
  closeSync,
  fchmodSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { systemCode } from '../util/system-error.js';

/**
 * Moves an entry that is no record to `<rejectedDir>/<name>.json`, or `.1`, `.2`, …, untouched, with `<that>.reason`
 * beside it; returns where it is now. Nothing is ever overwritten: both names are reserved exclusively, and the entry
 * is renamed over its own reservation. Throws the system's error where it cannot be moved; then it is where it was, and
 * nothing new is left.
 */
export function moveAside(rejectedDir: string, path: string, name: string, reason: string): string {
  const isFolder = lstatSync(path).isDirectory();
  makeRejectedDir(rejectedDir);
  for (let n = 0; ; n++) {
    const target = join(rejectedDir, n === 0 ? `${name}.json` : `${name}.json.${n}`);
    if (!reserve(target, isFolder, reason)) continue;
    try {
      renameSync(path, target);
      return target;
    } catch (error) {
      rmSync(`${target}.reason`, { force: true });
      removePlaceholder(target, isFolder);
      throw error;
    }
  }
}

function makeRejectedDir(rejectedDir: string): void {
  try {
    mkdirSync(rejectedDir, { mode: 0o700 });
    chmodSync(rejectedDir, 0o700);
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
    if (!lstatSync(rejectedDir).isDirectory()) throw error;
  }
}

/** `false`: one of the two names is taken. */
function reserve(target: string, isFolder: boolean, reason: string): boolean {
  const reasonPath = `${target}.reason`;
  const fd = unlessTaken(() => openSync(reasonPath, 'wx', 0o600));
  if (fd === undefined) return false;
  let isReserved = false;
  try {
    fchmodSync(fd, 0o600);
    writeFileSync(fd, `${reason}\n`);
    isReserved = unlessTaken(() => makePlaceholder(target, isFolder)) ?? false;
  } finally {
    closeSync(fd);
    if (!isReserved) rmSync(reasonPath, { force: true });
  }
  return isReserved;
}

function makePlaceholder(target: string, isFolder: boolean): true {
  if (isFolder) mkdirSync(target, 0o700);
  else closeSync(openSync(target, 'wx', 0o600));
  return true;
}

function removePlaceholder(target: string, isFolder: boolean): void {
  if (isFolder) rmdirSync(target);
  else rmSync(target, { force: true });
}

function unlessTaken<T>(create: () => T): T | undefined {
  try {
    return create();
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return undefined;
    throw error;
  }
}
