/*
 * What a supervisor leaves in the run folder: the claim (`.pid`), which is the right to run, and the exit record
 * (`.exit`). Every file of a supervisor is read, written and deleted here.
 */
import { constants } from 'node:fs';
import { link, open, unlink } from 'node:fs/promises';
import { readBounded, removeAnything } from '../util/bounded-file.js';
import { systemCode, unlessCode } from '../util/system-error.js';
import type { Layout } from './layout.js';

/** In a `.pid` file: a recovery took the right to run, so that a supervisor that comes late does nothing. */
const VOID = 'void';
const FILE_MODE = 0o600;
/** More than a supervisor ever writes. */
const MAX_RUN_FILE_BYTES = 32;
const runFileName = /^(.+)\.(pid|exit|void)$/;

/**
 * Who has the right to run a task: the supervisor with this pid, no one ever again (`void`), or a supervisor whose pid
 * cannot be read.
 */
export type Claim = number | 'void' | 'unsigned';

/** What a supervisor wrote down when its command had ended. */
export interface ExitRecord {
  readonly code: number;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

/** The supervisor's files of one task. */
export class RunFiles {
  readonly #claimPath: string;
  readonly #draftPath: string;
  readonly #exitPath: string;

  constructor(layout: Layout, taskId: string) {
    this.#claimPath = layout.pidPath(taskId);
    this.#draftPath = layout.voidDraftPath(taskId);
    this.#exitPath = layout.exitPath(taskId);
  }

  /**
   * Who has the right to run the task; `undefined`: it was not taken yet. What took the place of the claim (a FIFO, a
   * link, a large file) says that the right is taken and not by which supervisor: `unsigned`.
   */
  async readClaim(): Promise<Claim | undefined> {
    const contents = await readBounded(this.#claimPath, MAX_RUN_FILE_BYTES);
    if (contents === undefined) return undefined;
    if (contents === 'irregular') return 'unsigned';
    const text = contents.bytes.toString('latin1');
    if (text.trim() === VOID) return 'void';
    return /^\d+\n$/.test(text) ? Number(text) : 'unsigned';
  }

  /**
   * Takes the right to run away from a supervisor that may still come. `false`: it was there first. The claim appears
   * with its word in it: of an empty one, left by a host that was killed on the way, it could not be told that nothing
   * ran.
   */
  async claimVoid(): Promise<boolean> {
    await unlessCode(['ENOENT'], unlink(this.#draftPath));
    try {
      await writeNew(this.#draftPath, `${VOID}\n`);
      const linked = link(this.#draftPath, this.#claimPath).then(() => true);
      return (await unlessCode(['EEXIST'], linked)) ?? false;
    } catch (error) {
      if (!['ENOSPC', 'EDQUOT'].includes(systemCode(error) ?? '')) throw error;
      return this.#claimWithoutWord();
    } finally {
      await unlessCode(['ENOENT'], unlink(this.#draftPath));
    }
  }

  /** For a full disk, which may still have room for a name: it is the creation that counts. */
  async #claimWithoutWord(): Promise<boolean> {
    const file = await unlessCode(['EEXIST'], open(this.#claimPath, 'wx', FILE_MODE));
    await file?.close();
    return file !== undefined;
  }

  /** The exit record, once it is complete: with its newline. What is no regular file is no exit record. */
  async readExit(): Promise<ExitRecord | undefined> {
    const contents = await readBounded(this.#exitPath, MAX_RUN_FILE_BYTES);
    if (contents === undefined || contents === 'irregular') return undefined;
    const text = contents.bytes.toString('latin1');
    return /^\d{1,3}\n$/.test(text) ? { code: Number(text), at: contents.modifiedAt } : undefined;
  }

  /** Makes room for a new task of this id, or for a new launch. */
  async remove(): Promise<void> {
    await removeAnything(this.#claimPath);
    await removeAnything(this.#exitPath);
  }

  /**
   * The outcome is on record: what led to it may go. A claim that keeps a late supervisor from running stays, and with
   * `refuseLate` a claim of that sort takes the place of the one that ran.
   */
  async removeSettled({ refuseLate }: { readonly refuseLate: boolean }): Promise<void> {
    if (typeof (await this.readClaim()) === 'number') {
      if (refuseLate) await this.#makeVoid();
      else await removeAnything(this.#claimPath);
    }
    await removeAnything(this.#exitPath);
  }

  /** In place: a moment without the file would give the right to run to a supervisor that comes in it. */
  async #makeVoid(): Promise<void> {
    const flags = constants.O_WRONLY | constants.O_TRUNC | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    const file = await open(this.#claimPath, flags);
    try {
      await file.writeFile(`${VOID}\n`);
    } finally {
      await file.close();
    }
  }
}

/** The name of a supervisor's file; `undefined`: it is none of ours. */
export function parseRunFileName(name: string): { taskId: string; isClaim: boolean; isDraft: boolean } | undefined {
  const [, taskId, ending] = runFileName.exec(name) ?? [];
  return taskId === undefined ? undefined : { taskId, isClaim: ending === 'pid', isDraft: ending === 'void' };
}

async function writeNew(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx', FILE_MODE);
  try {
    await file.writeFile(Buffer.from(text));
  } finally {
    await file.close();
  }
}
