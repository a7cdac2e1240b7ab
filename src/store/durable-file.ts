/*
 * The one durable write. Its order is the promise:
 *
 *   temporary file, fsync, rename to <target>.next | size checked | rename over <target> | fsync of the folder
 *
 * A crash before the second rename leaves the old file and something to sweep; after it, the new one. The size is
 * checked because a short write (a nearly full disk) is not reported by the writer that makes the temporary file.
 */
import { constants } from 'node:fs';
import { lstat, open, rename, stat, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { Limiter } from '../util/limiter.js';
import { shareRuns } from '../util/share-runs.js';
import { systemCode, unlessCode } from '../util/system-error.js';

/** Files that are written at once: each is open meanwhile, and a process may have only so many open. */
const CONCURRENT_FILES = 32;

export class DurableFiles {
  readonly #fsync: boolean;
  readonly #files = new Limiter(CONCURRENT_FILES);
  readonly #syncs = new Map<string, { run: () => Promise<void>; callers: number }>();

  constructor(options: { readonly fsync: boolean }) {
    this.#fsync = options.fsync;
  }

  /**
   * Replaces `target` by `bytes`, mode 0600: whole and durable when it resolves. When it rejects, `target` is as it was
   * and nothing else is left; only where the fsync of the folder is what failed may a file that was there before
   * already be the new one.
   */
  async write(target: string, bytes: Buffer): Promise<void> {
    const isNew = this.#fsync && !(await exists(target));
    const next = `${target}.next`;
    try {
      // A fresh object each time: the writer changes the one it is given.
      await this.#files.run(() => writeFileAtomic(next, bytes, { mode: 0o600, fsync: this.#fsync }), 'new');
      const { size } = await stat(next);
      if (size !== bytes.length) throw shortWrite(next, size, bytes.length);
      await rename(next, target);
    } catch (error) {
      await discard(next);
      throw error;
    }
    try {
      await this.syncFolder(dirname(target));
    } catch (error) {
      // The caller is told that nothing was written: a file that was not there before must not be there after.
      if (isNew) await discard(target);
      throw error;
    }
  }

  /** Removes a file for good; one that is not there is no failure. */
  async unlink(path: string): Promise<void> {
    await unlessCode(['ENOENT'], unlink(path));
    await this.syncFolder(dirname(path));
  }

  /** Makes every change of names in `folder` that was made before the call durable; calls that wait share one fsync. */
  async syncFolder(folder: string): Promise<void> {
    if (!this.#fsync) return;
    const sync = this.#syncs.get(folder) ?? {
      run: shareRuns(() => this.#files.run(() => fsyncFolder(folder))),
      callers: 0,
    };
    this.#syncs.set(folder, sync);
    sync.callers++;
    try {
      await sync.run();
    } finally {
      sync.callers--;
      if (sync.callers === 0) this.#syncs.delete(folder);
    }
  }
}

async function exists(path: string): Promise<boolean> {
  return (await unlessCode(['ENOENT'], lstat(path))) !== undefined;
}

function shortWrite(path: string, written: number, wanted: number): Error {
  const message = `ENOSPC: only ${written} of ${wanted} bytes were written, write '${path}'`;
  return Object.assign(new Error(message), { code: 'ENOSPC', syscall: 'write', path });
}

/** Best effort after a failure that is about to be reported: what cannot be removed now is swept at the next open. */
async function discard(path: string): Promise<void> {
  await unlink(path).catch(() => undefined);
}

async function fsyncFolder(folder: string): Promise<void> {
  // Windows cannot open a folder; its renames are journalled.
  if (process.platform === 'win32') return;
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } catch (error) {
    // Some file systems know no fsync of a folder: nothing more can be done there.
    if (systemCode(error) !== 'EINVAL' && systemCode(error) !== 'ENOTSUP') throw error;
  } finally {
    await handle.close();
  }
}
