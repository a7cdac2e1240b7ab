import { lstat, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Clock } from '../clock.js';
import { BackgroundTaskError } from '../errors.js';
import type { OwnerIdentity } from '../task/types.js';
import { shareRuns } from '../util/share-runs.js';
import { storageFailed, systemCode, unlessCode } from '../util/system-error.js';
import { claimPath, readTopClaim, readTopIdentity, releasedPath, type TopClaim } from './claims.js';
import { Heartbeat } from './heartbeat.js';
import { sweepOwnerDir } from './owner-sweep.js';
import { takeOver, type WonClaim, withdraw } from './takeover.js';

export interface OwnershipOptions {
  readonly ownerDir: string;
  readonly identity: OwnerIdentity;
  readonly clock: Clock;
  readonly fsync: boolean;
  readonly foreignOwnerTimeoutMs: number | undefined;
  readonly waitForOwnerMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Run by the new owner alone, before the rest may rely on it; when it fails, the claim is taken back. */
  prepare(): Promise<void>;
  /** `how`: what happened, as a sentence without its end. */
  onFenced(owner: OwnerIdentity | null, how: string): void;
  onError(error: BackgroundTaskError): void;
}

/** Why this owner is none any more. */
interface Fence {
  /** The new owner; `null`: there is none, or it is not known which. */
  readonly owner: OwnerIdentity | null;
  readonly how: string;
}

/** The one owner of a directory, from its claim to its release, or until a higher claim fences it. */
export class Ownership {
  readonly #options: OwnershipOptions;
  readonly #won: WonClaim;
  #heartbeat: Heartbeat | undefined;
  #fence: Fence | undefined;
  #release: Promise<void> | undefined;

  private constructor(options: OwnershipOptions, won: WonClaim) {
    this.#options = options;
    this.#won = won;
  }

  /** Throws `DIRECTORY_OWNED`, or the system's error; either way it leaves no claim. */
  static async claim(options: OwnershipOptions): Promise<Ownership> {
    const won = await takeOver(options);
    const ownership = new Ownership(options, won);
    try {
      await ownership.#startHeartbeat();
      await options.prepare();
    } catch (error) {
      await ownership.#heartbeat?.stop().catch(() => undefined); // the first failure is the one to report
      await withdraw(options.ownerDir, won);
      throw error;
    }
    await ownership.#sweep();
    return ownership;
  }

  get identity(): OwnerIdentity {
    return this.#options.identity;
  }

  /** Looks at the claims; where we are no longer the owner, says so once. Calls that come together share one look. */
  readonly check = shareRuns(async () => {
    if (this.#fence || this.#release) return;
    const top = await this.#topClaim();
    if (top.held && top.epoch === this.#won.epoch && (await this.#claimIsThere())) return;
    const fence = top.epoch > this.#won.epoch ? await this.#takenOver(top.epoch) : await this.#claimLost();
    if (this.#release) return;
    this.#fence = fence;
    this.#options.onFenced(fence.owner, fence.how);
  });

  /** To be awaited before every write. Throws `OWNERSHIP_LOST`. */
  async assertOwned(taskId: string): Promise<void> {
    await this.check();
    if (!this.#fence) return;
    const { owner, how } = this.#fence;
    throw new BackgroundTaskError('OWNERSHIP_LOST', `${how}: nothing is written any more`, { taskId, owner });
  }

  async #takenOver(epoch: number): Promise<Fence> {
    const owner = await readTopIdentity(this.#options.ownerDir, epoch);
    const who = owner ? `process ${owner.pid} on ${owner.hostname}` : 'somebody else';
    return { owner, how: `${who} took the directory over` };
  }

  /** There is no later owner yet, but any manager may claim the directory without finding out about us. */
  async #claimLost(): Promise<Fence> {
    const { ownerDir } = this.#options;
    for (const folder of [dirname(ownerDir), ownerDir]) {
      if (!(await unlessCode(['ENOENT', 'ENOTDIR'], lstat(folder)))) {
        return { owner: null, how: `${folder} is gone: it was deleted, moved or unmounted` };
      }
    }
    return { owner: null, how: `this manager's claim was removed from ${ownerDir}` };
  }

  /**
   * Gives the directory up, for the next owner. Every part is tried, whatever fails; the first failure is thrown as
   * `STORAGE_FAILED`.
   */
  release(): Promise<void> {
    this.#release ??= this.#giveUp();
    return this.#release;
  }

  async #giveUp(): Promise<void> {
    const failures: unknown[] = [];
    const attempt = (work: Promise<void> | undefined) => work?.catch((error: unknown) => failures.push(error));
    if (!this.#fence) await attempt(this.#markReleased());
    await attempt(this.#heartbeat?.stop());
    await attempt(this.#won.beacon?.extinguish());
    if (failures.length > 0) throw storageFailed('cannot give the directory up cleanly', failures[0]);
  }

  /** A rename needs no space on a full disk. Where even that fails, the claim can perhaps be removed. */
  async #markReleased(): Promise<void> {
    const { ownerDir } = this.#options;
    const path = claimPath(ownerDir, this.#won.epoch);
    try {
      await unlessCode(['ENOENT'], rename(path, releasedPath(ownerDir, this.#won.epoch)));
    } catch (error) {
      await unlink(path).catch(() => {
        throw error;
      });
    }
  }

  async #startHeartbeat(): Promise<void> {
    this.#heartbeat = await Heartbeat.start({
      claimPath: claimPath(this.#options.ownerDir, this.#won.epoch),
      clock: this.#options.clock,
      stillOwner: async () => {
        await this.check();
        return !this.#fence && !this.#release;
      },
      onError: (error) => this.#options.onError(storageFailed('cannot renew the sign of life of this owner', error)),
    });
  }

  /** Only after the claim was won: before that, what lies there may be in use. A left-over that stays does no harm. */
  async #sweep(): Promise<void> {
    const { ownerDir, identity, onError } = this.#options;
    try {
      await sweepOwnerDir(ownerDir, this.#won.epoch, identity.instanceId);
    } catch (error) {
      onError(storageFailed('cannot remove what former owners left', error));
    }
  }

  async #topClaim(): Promise<TopClaim> {
    try {
      return await readTopClaim(this.#options.ownerDir);
    } catch (error) {
      // Without the folder there is no claim of ours, and any manager may make a new one.
      if (systemCode(error) === 'ENOENT') return { epoch: 0, held: false };
      throw error;
    }
  }

  async #claimIsThere(): Promise<boolean> {
    const path = claimPath(this.#options.ownerDir, this.#won.epoch);
    return (await unlessCode(['ENOENT'], lstat(path))) !== undefined;
  }
}
