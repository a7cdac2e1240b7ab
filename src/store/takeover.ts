/*
 * How a directory changes hands. An opener that found the last owner gone links its identity to the next number:
 * exactly one link succeeds.
 *
 * The list of claims may be old when the link is made: in between another opener may have claimed that number and given
 * it up again, which frees the name. But then the release, or a higher number, is there by now. So the winner looks
 * again: if it finds either, it withdraws and starts over. A first holder of a number never finds them, since no opener
 * follows an owner that has neither died nor given up.
 */
import { link, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, delay } from '../clock.js';
import { BackgroundTaskError } from '../errors.js';
import type { OwnerIdentity } from '../task/types.js';
import { systemCode, unlessCode } from '../util/system-error.js';
import { Beacon } from './beacon.js';
import { type ClaimContent, claimPath, readClaim, readTopClaim, writeClaimDraft } from './claims.js';
import { lastBeat, lockPath } from './heartbeat.js';
import { anyoneAnswers } from './owner-sweep.js';
import { judgeOwner, type Verdict } from './verdict.js';

/** A heartbeat is looked at this often while its owner is unknown. */
const POLL_MS = 1_000;
/**
 * An opener that waits for an owner to go looks again after the first of these, then after twice as long each time, up
 * to the second.
 */
const FIRST_LOOK_MS = 10;
const LONGEST_LOOK_MS = 250;

export interface TakeoverOptions {
  readonly ownerDir: string;
  readonly identity: OwnerIdentity;
  readonly clock: Clock;
  readonly fsync: boolean;
  /** How long the heartbeat of an owner that we know nothing of must stand still; `undefined`: it is never replaced. */
  readonly foreignOwnerTimeoutMs: number | undefined;
  /** How long to wait for an owner that is not known to be gone; absent: not at all. */
  readonly waitForOwnerMs?: number | undefined;
  /** Ends every wait, with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/** A claim that was won. */
export interface WonClaim {
  readonly epoch: number;
  readonly beacon: Beacon | null;
}

/**
 * Claims the next epoch once the last one is not held; throws `DIRECTORY_OWNED` where it still is when the time to wait
 * is up.
 */
export async function takeOver(options: TakeoverOptions): Promise<WonClaim> {
  const { clock, waitForOwnerMs = 0, signal } = options;
  const until = clock.monotonic() + waitForOwnerMs;
  for (let pause = FIRST_LOOK_MS; ; pause = Math.min(2 * pause, LONGEST_LOOK_MS)) {
    try {
      return await tryTakeOver(options);
    } catch (error) {
      const left = until - clock.monotonic();
      if (!isOwned(error) || left <= 0) throw error;
      // An owner that gives up, one that dies, and one that took over from another are all found by looking again.
      await delay(clock, Math.min(pause, left), signal);
    }
  }
}

async function tryTakeOver(options: TakeoverOptions): Promise<WonClaim> {
  for (;;) {
    options.signal?.throwIfAborted();
    const top = await readTopClaim(options.ownerDir);
    if (top.held && !(await isHolderGone(options, claimPath(options.ownerDir, top.epoch)))) continue;
    const won = await tryClaim(options, top.epoch + 1);
    if (won) return won;
  }
}

/**
 * Takes back a claim that was won when what comes after it fails; that failure is the one to report, whatever fails
 * here.
 */
export async function withdraw(ownerDir: string, won: WonClaim): Promise<void> {
  const path = claimPath(ownerDir, won.epoch);
  await unlink(path).catch(() => undefined); // as the comment above says
  await rmdir(lockPath(path)).catch(() => undefined); // so, too
  await won.beacon?.extinguish();
}

/** The beacon is lit before the claim can be seen: a reader of the claim can ask it. */
async function tryClaim(options: TakeoverOptions, epoch: number): Promise<WonClaim | null> {
  const { ownerDir, identity } = options;
  const beacon = await Beacon.light(ownerDir, identity.instanceId);
  let isWon = false;
  try {
    isWon = await linkClaim(options, epoch);
  } finally {
    if (!isWon) await beacon?.extinguish();
  }
  return isWon ? { epoch, beacon } : null;
}

async function linkClaim({ ownerDir, identity, fsync }: TakeoverOptions, epoch: number): Promise<boolean> {
  const draft = join(ownerDir, `${identity.instanceId}.claim`);
  try {
    await writeClaimDraft(draft, identity, fsync);
    if (!(await tryLink(draft, claimPath(ownerDir, epoch)))) return false;
  } finally {
    // Best effort, and swept by the next owner: whether the claim stands does not depend on it.
    await unlink(draft).catch(() => undefined);
  }
  return confirmClaim(ownerDir, epoch);
}

/**
 * Whether the link was made; not so where another opener was faster: the name is taken, or our draft was swept by the
 * new owner.
 */
async function tryLink(draft: string, claim: string): Promise<boolean> {
  try {
    await link(draft, claim);
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST' || systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}

/** The look after the link; a claim that does not count is taken back. */
async function confirmClaim(ownerDir: string, epoch: number): Promise<boolean> {
  let isTop = false;
  try {
    const top = await readTopClaim(ownerDir);
    isTop = top.epoch === epoch && top.held;
  } finally {
    if (!isTop) await unlessCode(['ENOENT'], unlink(claimPath(ownerDir, epoch)));
  }
  return isTop;
}

/**
 * Whether the holder of this claim is known to be gone; `false` where the claim itself is, and the others must be
 * looked at again. Throws `DIRECTORY_OWNED` otherwise, for an owner that we know nothing of only once its heartbeat was
 * seen or no foreign timeout is set.
 */
async function isHolderGone(options: TakeoverOptions, path: string): Promise<boolean> {
  const { clock, foreignOwnerTimeoutMs } = options;
  const since = clock.monotonic();
  const firstBeat = await lastBeat(path);
  for (;;) {
    const content = await readClaim(path);
    if (content === undefined) return false;
    const verdict = await judge(content, options);
    if (verdict === 'dead') return true;
    if ((await lastBeat(path)) !== firstBeat) throw owned(content, path, 'alive');
    if (verdict === 'alive' || foreignOwnerTimeoutMs === undefined) throw owned(content, path, verdict);
    const left = since + foreignOwnerTimeoutMs - clock.monotonic();
    if (left <= 0) return true;
    await delay(clock, Math.min(left, POLL_MS), options.signal);
  }
}

/**
 * A claim without an identity: blank, it is what a power cut left, unless an owner here answers; garbled, a person must
 * look at it.
 */
async function judge(content: ClaimContent, { identity, ownerDir }: TakeoverOptions): Promise<Verdict> {
  if (content === 'blank') return (await anyoneAnswers(ownerDir)) ? 'unknown' : 'dead';
  return content === 'garbled' ? 'unknown' : judgeOwner(content, identity, ownerDir);
}

function isOwned(error: unknown): boolean {
  return error instanceof BackgroundTaskError && error.code === 'DIRECTORY_OWNED';
}

function owned(content: ClaimContent, path: string, verdict: Verdict): BackgroundTaskError {
  if (content === 'blank' || content === 'garbled') {
    const hint = 'remove that file if no process uses the directory';
    return new BackgroundTaskError(
      'DIRECTORY_OWNED',
      `the owner of the directory cannot be read from ${path}: ${hint}`,
    );
  }
  const who = `process ${content.pid} on ${content.hostname} (claim ${path})`;
  const message =
    verdict === 'alive'
      ? `the directory is owned by ${who}, which is alive`
      : `the directory is owned by ${who}, and whether that is alive cannot be told from here`;
  return new BackgroundTaskError('DIRECTORY_OWNED', message, { owner: content });
}
