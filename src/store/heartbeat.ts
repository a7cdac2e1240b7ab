/*
 * The sign of life of an owner: the time stamp of `<claim>.lock`, renewed every ten seconds. Each claim has a lock of
 * its own, so that an owner that was taken over, and its exit handler, can never remove its successor's. It decides
 * nothing while the owner's process can be seen or asked; only for a machine that we know nothing of is a lock that
 * stands still a reason to take over.
 */
import fs from 'node:fs';
import { rmdir, stat } from 'node:fs/promises';
import lockfile from 'proper-lockfile';
import type { Clock, Timer } from '../clock.js';
import { asError } from '../errors.js';
import { unlessCode } from '../util/system-error.js';

const BEAT_MS = 10_000;

export interface HeartbeatOptions {
  readonly claimPath: string;
  readonly clock: Clock;
  /** Another process changed the lock: are we still the owner? */
  stillOwner(): Promise<boolean>;
  onError(error: Error): void;
}

export function lockPath(claimPath: string): string {
  return `${claimPath}.lock`;
}

/** The last sign of life beside this claim, to be compared only; `null` where there was none. */
export async function lastBeat(claimPath: string): Promise<string | null> {
  const stats = await unlessCode(['ENOENT'], stat(lockPath(claimPath), { bigint: true }));
  return stats === undefined ? null : `${stats.mtimeNs}`;
}

export class Heartbeat {
  readonly #options: HeartbeatOptions;
  #release: (() => Promise<void>) | undefined;
  #retry: Timer | undefined;
  #recovery: Promise<void> | undefined;
  #stopped = false;

  private constructor(options: HeartbeatOptions) {
    this.#options = options;
  }

  static async start(options: HeartbeatOptions): Promise<Heartbeat> {
    const heartbeat = new Heartbeat(options);
    await heartbeat.#lock();
    return heartbeat;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#retry?.clear();
    await this.#recovery;
    // Released already: a foreign change to the lock was found a moment ago.
    if (this.#release) await unlessCode(['ERELEASED', 'ENOTACQUIRED'], this.#release());
    this.#release = undefined;
  }

  async #lock(): Promise<void> {
    const { claimPath } = this.#options;
    // The claim is ours, so a lock that lies there is a left-over, or ours with a changed time stamp.
    await unlessCode(['ENOENT'], rmdir(lockPath(claimPath)));
    this.#release = await lockfile.lock(claimPath, {
      lockfilePath: lockPath(claimPath),
      realpath: false,
      stale: Number.POSITIVE_INFINITY,
      update: BEAT_MS,
      fs: lockFs(),
      onCompromised: () => {
        this.#release = undefined;
        this.#recover();
      },
    });
  }

  /**
   * The lock is gone or was touched. Where we are still the owner that means nothing, but the heart must go on beating.
   */
  #recover(): void {
    if (this.#stopped) return;
    this.#recovery = this.#relock()
      .catch((error: unknown) => {
        this.#options.onError(asError(error));
        if (!this.#stopped) this.#retry = this.#options.clock.after(BEAT_MS, () => this.#recover());
      })
      .finally(() => {
        this.#recovery = undefined;
      });
  }

  async #relock(): Promise<void> {
    if (await this.#options.stillOwner()) await this.#lock();
  }
}

/**
 * The calls that the lock makes, with a private mode. An object of its own: the lock writes a cache into the one it is
 * given.
 */
function lockFs() {
  return {
    mkdir: (path: string, done: fs.NoParamCallback) =>
      fs.mkdir(path, 0o700, (error) => (error ? done(error) : fs.chmod(path, 0o700, done))),
    stat: fs.stat,
    utimes: fs.utimes,
    rmdir: fs.rmdir,
    rmdirSync: fs.rmdirSync,
  };
}
