import { constants, type FSWatcher, watch } from 'node:fs';
import { link, open, unlink } from 'node:fs/promises';
import { basename } from 'node:path';
import { asError } from '../errors.js';
import type { Layout } from '../store/layout.js';
import { readBounded, removeAnything } from '../util/bounded-file.js';
import { systemCode, unlessCode } from '../util/system-error.js';

const VOID = 'void';
const FILE_MODE = 0o600;
/** More than a supervisor ever writes. */
const MAX_RUN_FILE_BYTES = 32;
const EXIT_SUFFIX = '.exit';

/** Who has the right to run a task: the supervisor with this pid, nobody for ever (`void`), or somebody who could not write it down. */
export type Claim = number | 'void' | 'unsigned';

/** What a supervisor wrote down when its command had ended. */
export interface ExitRecord {
  readonly code: number;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

/**
 * Who has the right to run the task; `undefined`: nobody took it yet. What took the place of the claim (a FIFO, a link, a large file) says
 * that somebody has it and not who: `unsigned`.
 */
export async function readClaim(layout: Layout, taskId: string): Promise<Claim | undefined> {
  const contents = await readBounded(layout.pidPath(taskId), MAX_RUN_FILE_BYTES);
  if (contents === undefined) return undefined;
  if (contents === 'irregular') return 'unsigned';
  const text = contents.bytes.toString('latin1');
  if (text.trim() === VOID) return 'void';
  return /^\d+\n$/.test(text) ? Number(text) : 'unsigned';
}

/**
 * Takes the right to run away from a supervisor that may still come. `false`: it was there first. The claim appears with its word in it: of an
 * empty one, left by a host that was killed on the way, nobody could say that nothing ran.
 */
export async function claimVoid(layout: Layout, taskId: string): Promise<boolean> {
  const draft = layout.voidDraftPath(taskId);
  await unlessCode(['ENOENT'], unlink(draft));
  try {
    await writeNew(draft, `${VOID}\n`);
    return (
      (await unlessCode(
        ['EEXIST'],
        link(draft, layout.pidPath(taskId)).then(() => true),
      )) ?? false
    );
  } catch (error) {
    if (!['ENOSPC', 'EDQUOT'].includes(systemCode(error) ?? '')) throw error;
    return claimWithoutWord(layout, taskId);
  } finally {
    await unlessCode(['ENOENT'], unlink(draft));
  }
}

/** For a full disk, which may still have room for a name: it is the creation that counts. */
async function claimWithoutWord(layout: Layout, taskId: string): Promise<boolean> {
  const file = await unlessCode(['EEXIST'], open(layout.pidPath(taskId), 'wx', FILE_MODE));
  await file?.close();
  return file !== undefined;
}

async function writeNew(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx', FILE_MODE);
  try {
    await file.writeFile(Buffer.from(text));
  } finally {
    await file.close();
  }
}

/** In place: a moment without the file would give the right to run to whoever comes. */
async function makeVoid(pidPath: string): Promise<void> {
  const file = await open(
    pidPath,
    constants.O_WRONLY | constants.O_TRUNC | constants.O_NOFOLLOW | constants.O_NONBLOCK,
  );
  try {
    await file.writeFile(`${VOID}\n`);
  } finally {
    await file.close();
  }
}

/** The exit record, once it is complete: with its newline. What is no regular file is no exit record. */
export async function readExit(layout: Layout, taskId: string): Promise<ExitRecord | undefined> {
  const contents = await readBounded(layout.exitPath(taskId), MAX_RUN_FILE_BYTES);
  if (contents === undefined || contents === 'irregular') return undefined;
  const text = contents.bytes.toString('latin1');
  return /^\d{1,3}\n$/.test(text) ? { code: Number(text), at: contents.modifiedAt } : undefined;
}

/** Makes room for a new task of this id. */
export async function removeRunFiles(layout: Layout, taskId: string): Promise<void> {
  await removeAnything(layout.pidPath(taskId));
  await removeAnything(layout.exitPath(taskId));
}

/**
 * The outcome is on record: what led to it may go. A claim that keeps a late supervisor from running stays, and with `refuseLate` a claim of
 * that sort takes the place of the one that ran.
 */
export async function removeSettled(layout: Layout, taskId: string, options: { refuseLate: boolean }): Promise<void> {
  if (typeof (await readClaim(layout, taskId)) === 'number') {
    if (options.refuseLate) await makeVoid(layout.pidPath(taskId));
    else await removeAnything(layout.pidPath(taskId));
  }
  await removeAnything(layout.exitPath(taskId));
}

/** One watcher for the exit records of all tasks. It can miss and can fail: it only makes things faster. Never holds the process. */
export class ExitWatch {
  readonly #listener: ExitListener;
  #watcher: FSWatcher | undefined;
  #begun = false;

  constructor(listener: ExitListener) {
    this.#listener = listener;
  }

  /** Harmless when done twice. A watcher that failed is not tried again. */
  begin(runDir: string): void {
    if (this.#begun) return;
    this.#begun = true;
    try {
      const self = basename(runDir);
      this.#watcher = watch(runDir, { persistent: false }, (event, name) => {
        if (name?.endsWith(EXIT_SUFFIX)) this.#listener.onExit(name.slice(0, -EXIT_SUFFIX.length));
        else if (event === 'rename' && name === self) this.#listener.onFolderGone();
      });
      this.#watcher.on('error', (error) => this.#failed(error));
    } catch (error) {
      this.#failed(error);
    }
  }

  /** The folder is another one than before. */
  renew(runDir: string): void {
    if (!this.#watcher) return;
    this.close();
    this.#begun = false;
    this.begin(runDir);
  }

  close(): void {
    this.#begun = true;
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  #failed(error: unknown): void {
    this.close();
    this.#listener.onError(asError(error));
  }
}

/** Who hears of what a watch sees. */
export interface ExitListener {
  /** The exit record of this task may have changed. */
  onExit(taskId: string): void;
  /** The folder was deleted or moved: nothing is seen any more before {@link ExitWatch.renew}. */
  onFolderGone(): void;
  onError(error: Error): void;
}
