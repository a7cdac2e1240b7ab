/*
 * The claims in `.owner`: `epoch-<N>` holds the identity of the owner number N, and is renamed to `epoch-<N>.released`
 * when it gives up. The highest number counts; it is never removed, only followed by a higher one, so a number is used
 * once. A claim is made by linking a complete file: it is never seen empty while its owner lives.
 */
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { OwnerIdentity } from '../task/types.js';
import { readBounded } from '../util/bounded-file.js';
import { isOwnerIdentity } from './identity.js';

/**
 * Other spellings of a number (leading zeros) are no names of ours: the claim would be looked for under another one.
 */
const claimName = /^epoch-([1-9]\d*)(?:\.released)?$/;
const claimOrLockName = /^epoch-([1-9]\d*)(?:\.released|\.lock)?$/;
/** The number after it is the last exact one: a claim of a higher one would never be found again. */
const FIRST_EPOCH_TOO_HIGH = Number.MAX_SAFE_INTEGER - 1;
/** An identity has a few hundred. */
const MAX_CLAIM_BYTES = 65_536;

/** The claim that counts. */
export interface TopClaim {
  /** 0: the directory was never claimed. */
  readonly epoch: number;
  /** Whether its owner has not given up: then the identity of that owner decides. */
  readonly held: boolean;
}

/** What a claim file says: an identity, nothing (a power cut before its bytes were on disk), or what no owner wrote. */
export type ClaimContent = OwnerIdentity | 'blank' | 'garbled';

export function claimPath(ownerDir: string, epoch: number): string {
  return join(ownerDir, `epoch-${epoch}`);
}

export function releasedPath(ownerDir: string, epoch: number): string {
  return `${claimPath(ownerDir, epoch)}.released`;
}

export async function readTopClaim(ownerDir: string): Promise<TopClaim> {
  const names = await readdir(ownerDir);
  const top = topClaim(names);
  if (top.epoch < FIRST_EPOCH_TOO_HIGH) return top;
  const name = names.find((one) => Number(claimName.exec(one)?.[1]) === top.epoch) ?? '';
  const hint = 'remove that file if no process uses the directory';
  throw new Error(`${join(ownerDir, name)} has a number that no owner made and none can follow: ${hint}`);
}

function topClaim(names: readonly string[]): TopClaim {
  let epoch = 0;
  for (const name of names) epoch = Math.max(epoch, Number(claimName.exec(name)?.[1] ?? 0));
  // Released outweighs held: a claim beside its own release was made on an old view, and is being withdrawn.
  return { epoch, held: epoch > 0 && !names.includes(`epoch-${epoch}.released`) };
}

/** The number of the claim, released or not, or of the lock beside it, that has this name. */
export function epochOf(name: string): number | undefined {
  const match = claimOrLockName.exec(name);
  return match ? Number(match[1]) : undefined;
}

/** `undefined`: it is not there (any more). */
export async function readClaim(path: string): Promise<ClaimContent | undefined> {
  const contents = await readBounded(path, MAX_CLAIM_BYTES);
  if (contents === undefined) return undefined;
  if (contents === 'irregular') return 'garbled';
  const text = contents.bytes.toString('utf8');
  if (/^\0*$/.test(text)) return 'blank';
  try {
    const value: unknown = JSON.parse(text);
    return isOwnerIdentity(value) ? value : 'garbled';
  } catch (error) {
    if (error instanceof SyntaxError) return 'garbled';
    throw error;
  }
}

/** The identity behind the claim that counts; `null` where there is none or it cannot be read. */
export async function readTopIdentity(ownerDir: string, epoch: number): Promise<OwnerIdentity | null> {
  for (const path of [claimPath(ownerDir, epoch), releasedPath(ownerDir, epoch)]) {
    // Only for a message: that we are fenced is certain without knowing the new owner.
    const content = await readClaim(path).catch(() => undefined);
    if (content !== undefined && content !== 'blank' && content !== 'garbled') return content;
  }
  return null;
}

/** Writes the identity whole, to be linked as a claim. */
export async function writeClaimDraft(path: string, identity: OwnerIdentity, fsync: boolean): Promise<void> {
  const handle = await open(path, 'wx', 0o600);
  try {
    await handle.chmod(0o600);
    await handle.writeFile(`${JSON.stringify(identity)}\n`);
    if (fsync) await handle.sync();
  } finally {
    await handle.close();
  }
}
