import { chmodSync, closeSync, mkdirSync, openSync, renameSync, rmdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { systemCode } from './failure.js';

/**
 * Moves an entry that is no record to `<rejectedDir>/<name>.json`, or `.1`, `.2`, …, untouched, with `<that>.reason` beside it; returns
 * where it is now. Nothing is ever overwritten: both names are reserved exclusively, and the entry is renamed over its own reservation.
 * Throws the system's error where it cannot be moved; then it is where it was, and nothing new is left.
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
      discard(target, isFolder);
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
  if (!createExclusively(() => writeFileSync(reasonPath, `${reason}\n`, { flag: 'wx', mode: 0o600 }), reasonPath)) {
    return false;
  }
  const placeholder = () => (isFolder ? mkdirSync(target, 0o700) : closeSync(openSync(target, 'wx', 0o600)));
  try {
    if (createExclusively(placeholder, null)) return true;
  } catch (error) {
    rmSync(reasonPath, { force: true });
    throw error;
  }
  rmSync(reasonPath, { force: true });
  return false;
}

/** Runs `create`; `false` where the name is taken. `partial` is what a failure halfway may leave. */
function createExclusively(create: () => void, partial: string | null): boolean {
  try {
    create();
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    if (partial !== null) rmSync(partial, { force: true });
    throw error;
  }
}

function discard(target: string, isFolder: boolean): void {
  if (isFolder) rmdirSync(target);
  else rmSync(target, { force: true });
}
