import { readdir, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { unlessCode } from '../util/system-error.js';
import { askBeacon } from './beacon.js';
import { epochOf } from './claims.js';

const instanceFile = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(sock|claim)$/;

/** Whether any owner or opener, by whatever id, listens in this folder. */
export async function anyoneAnswers(ownerDir: string): Promise<boolean> {
  for (const name of await readdir(ownerDir)) {
    const instanceId = /^(.+)\.sock$/.exec(name)?.[1];
    if (instanceId !== undefined && (await askBeacon(ownerDir, instanceId)) === 'answers') return true;
  }
  return false;
}

/**
 * Removes what former owners left in `.owner`: claims and locks below the epoch that we won, and sockets and drafts
 * whose maker no longer listens. Only for the owner. Other names are left alone.
 */
export async function sweepOwnerDir(ownerDir: string, epoch: number, instanceId: string): Promise<void> {
  const names = await readdir(ownerDir);
  for (const name of names) {
    const number = epochOf(name);
    if (number !== undefined && number < epoch) await remove(join(ownerDir, name), name.endsWith('.lock'));
  }
  for (const name of names) {
    const [, maker, type] = instanceFile.exec(name) ?? [];
    if (maker === undefined || maker === instanceId) continue;
    // An opener that lost the race a moment ago still listens, and cleans up after itself. A draft without a socket has
    // no maker any more.
    const answer = await askBeacon(ownerDir, maker);
    if (answer === 'refused' || (answer === 'unknown' && type === 'claim')) await remove(join(ownerDir, name), false);
  }
}

async function remove(path: string, isFolder: boolean): Promise<void> {
  await unlessCode(['ENOENT'], isFolder ? rmdir(path) : unlink(path));
}
