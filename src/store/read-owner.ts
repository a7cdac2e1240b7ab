import type { OwnerIdentity } from '../task/types.js';
import { unlessCode } from '../util/system-error.js';
import { claimPath, readClaim, readTopClaim } from './claims.js';
import { ownIdentity } from './identity.js';
import { judgeOwner } from './verdict.js';

/** Who holds a directory, as a reader sees it. */
export interface OwnerSeen {
  readonly identity: OwnerIdentity;
  /** `'unknown'`: it runs where it cannot be seen from here. */
  readonly alive: boolean | 'unknown';
}

/** `unreadable`: the claim that counts, where no identity can be read from it. */
export interface OwnerReading {
  readonly owner: OwnerSeen | null;
  readonly unreadable?: string;
}

/** A claim that is given up between two looks is looked for again so often. */
const TRIES = 10;

/**
 * Who holds the claim that counts. `null`: none was ever made, the last one was given up, or a power cut left it blank.
 * Writes nothing.
 */
export async function readOwner(ownerDir: string): Promise<OwnerReading> {
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const top = await unlessCode(['ENOENT', 'ENOTDIR'], readTopClaim(ownerDir));
    if (!top?.held) return { owner: null };
    const path = claimPath(ownerDir, top.epoch);
    const content = await readClaim(path);
    if (content === 'garbled') return { owner: null, unreadable: path };
    if (content === 'blank') return { owner: null };
    if (content === undefined) continue;
    const verdict = await judgeOwner(content, ownIdentity(), ownerDir);
    return { owner: { identity: content, alive: verdict === 'unknown' ? verdict : verdict === 'alive' } };
  }
  throw new Error(`the claims in ${ownerDir} come and go`);
}
