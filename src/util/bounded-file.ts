/*
 * Files that work of ours could have replaced: a task runs as the host's own user, so what lies under such a name may by now be a FIFO, which
 * blocks whoever opens it, a link to a device that never ends, or a file of any size. None of them is waited for, followed, or read beyond
 * what a file of ours can hold.
 */
import { constants } from 'node:fs';
import { type FileHandle, open, rm, unlink } from 'node:fs/promises';
import { systemCode, unlessCode } from './system-error.js';

/** (Windows has neither flag.) */
const CAREFULLY = (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);
const FILE_MODE = 0o600;
/** What an open with these flags answers for links, sockets, FIFOs without a reader, and folders. */
const irregularCodes = ['ELOOP', 'EMLINK', 'ENXIO', 'EOPNOTSUPP', 'EISDIR'];
/** Room for a file that grows between being measured and being read. */
const LEAST_ROOM = 64;

export interface BoundedContents {
  readonly bytes: Buffer;
  /** When the file was last written, in milliseconds since the epoch. Asked after the reading: it belongs to these bytes. */
  readonly modifiedAt: number;
}

/**
 * Reads a file of at most `maxBytes`. `undefined`: there is nothing of this name; `'irregular'`: what is there is no regular file, or larger,
 * and so nothing that we wrote. Throws what else the system says, which may pass.
 */
export async function readBounded(path: string, maxBytes: number): Promise<BoundedContents | 'irregular' | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDONLY | CAREFULLY);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    if (irregularCodes.includes(systemCode(error) ?? '')) return 'irregular';
    throw error;
  }
  try {
    const { size } = await file.stat().then((stats) => (stats.isFile() ? stats : { size: Number.POSITIVE_INFINITY }));
    if (size > maxBytes) return 'irregular';
    const bytes = await readInto(file, Buffer.allocUnsafe(Math.min(maxBytes, Math.max(size, LEAST_ROOM)) + 1));
    return bytes.length > maxBytes ? 'irregular' : { bytes, modifiedAt: Math.floor((await file.stat()).mtimeMs) };
  } finally {
    await file.close();
  }
}

async function readInto(file: FileHandle, buffer: Buffer): Promise<Buffer> {
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return buffer.subarray(0, length);
}

/** Opens a file to add to it, and creates it where there is none. Throws where something else than a regular file is there. */
export async function openToAppend(path: string): Promise<FileHandle> {
  const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | CAREFULLY;
  const file = await open(path, flags, FILE_MODE).catch((error: unknown) => {
    throw irregularCodes.includes(systemCode(error) ?? '') ? irregular(path, error) : error;
  });
  try {
    if ((await file.stat()).isFile()) return file;
    throw irregular(path);
  } catch (error) {
    await file.close();
    throw error;
  }
}

function irregular(path: string, cause?: unknown): Error {
  return Object.assign(new Error(`${path} is not a regular file: something replaced it`, { cause }), {
    code: systemCode(cause),
  });
}

/** Removes whatever has this name: a file as a rule, or what a task put in its place. A link is removed, not what it leads to. */
export async function removeAnything(path: string): Promise<void> {
  try {
    await unlessCode(['ENOENT'], unlink(path));
  } catch (error) {
    // A folder: Linux says the one, other systems the other.
    if (systemCode(error) !== 'EISDIR' && systemCode(error) !== 'EPERM') throw error;
    await rm(path, { recursive: true });
  }
}
