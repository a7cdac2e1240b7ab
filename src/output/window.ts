/*
 * Parts of an output file. Whatever the file's size, only the part that was asked for is read; whatever its bytes,
 * successive windows put together are the text of the whole file: bytes that are no UTF-8 become U+FFFD exactly as a
 * decoder of the whole would have them.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { z } from 'zod';
import { BackgroundTaskError } from '../errors.js';
import { count, countOrInfinity } from '../task/fields.js';
import { checkOptions } from '../task/filter.js';
import { storageFailed, unlessCode } from '../util/system-error.js';
import type { OutputWindow, ReadOutputOptions } from './types.js';
import { bytesOfOpenCharacter, MAX_CHARACTER_BYTES, nextBoundary, previousBoundary } from './utf8.js';

export const DEFAULT_WINDOW_BYTES = 65_536;
/** No window is larger, whatever was asked for: 64 MiB. */
const MAX_WINDOW_BYTES = 64 * 1024 * 1024;
const SCAN_BLOCK_BYTES = 65_536;
/** Decoded in one turn of the event loop. */
const DECODE_SLICE_BYTES = 128 * 1024;
const NEWLINE = 0x0a;
const MARGIN = MAX_CHARACTER_BYTES - 1;
/** A FIFO, or a link to one, must not block: it is opened without waiting, and refused. */
const OPEN_FLAGS = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

/** What the reader knows of the file. */
export interface ReadWindowContext {
  /**
   * Whether more may come. Then a character that is incomplete at the very end of the file is left for the next read;
   * otherwise it is U+FFFD, so that a reader always comes to the end. Default `false`.
   */
  readonly grows?: boolean;
}

interface Wanted {
  readonly kind: 'offset' | 'tailBytes' | 'tailLines';
  readonly amount: number;
  readonly maxBytes: number;
}

/**
 * Reads a part of the file at `path`; one that does not exist is empty. Links are followed: the output of a task of
 * another system may be one. Throws `INVALID_SPEC` for options that are wrong, and `STORAGE_FAILED`.
 */
export async function readWindow(
  path: string,
  options?: ReadOutputOptions,
  { grows = false }: ReadWindowContext = {},
): Promise<OutputWindow> {
  const wanted = parseOptions(options);
  try {
    const file = await openExisting(path);
    if (!file) return { text: '', offset: 0, nextOffset: 0, size: 0, truncated: false, path };
    return { ...(await readAndClose(file, wanted, grows)), path };
  } catch (error) {
    throw storageFailed(`cannot read the output ${path}`, error);
  }
}

async function openExisting(path: string): Promise<FileHandle | undefined> {
  return unlessCode(['ENOENT', 'ENOTDIR'], open(path, OPEN_FLAGS));
}

async function readAndClose(file: FileHandle, wanted: Wanted, grows: boolean): Promise<Omit<OutputWindow, 'path'>> {
  try {
    const info = await file.stat();
    if (!info.isFile()) throw new Error('it is not a regular file');
    return await readFrom(file, info.size, wanted, grows);
  } finally {
    await file.close();
  }
}

async function readFrom(
  file: FileHandle,
  sizeThen: number,
  wanted: Wanted,
  grows: boolean,
): Promise<Omit<OutputWindow, 'path'>> {
  const asked = await startOf(file, sizeThen, wanted);
  // Three bytes before and one behind tell whether the ends lie within a character; the start may move on by up to
  // three.
  const from = Math.max(0, asked - MARGIN);
  const to = Math.min(sizeThen, asked + MARGIN + Math.max(wanted.maxBytes, MAX_CHARACTER_BYTES) + 1);
  const bytes = await readRange(file, from, to);
  // A file that became shorter meanwhile ends where the reading did.
  const size = bytes.length < to - from ? from + bytes.length : sizeThen;
  const { start, end } = cut(bytes, Math.min(asked, size) - from, wanted, grows);
  const offset = from + start;
  const nextOffset = from + end;
  return {
    text: await decode(bytes.subarray(start, end)),
    offset,
    nextOffset,
    size,
    truncated: offset > 0 || nextOffset < size,
  };
}

/** Moves the start on and the end back to where characters begin and end. */
function cut(
  bytes: Uint8Array,
  asked: number,
  { kind, maxBytes }: Wanted,
  grows: boolean,
): { start: number; end: number } {
  const start = nextBoundary(bytes, asked);
  if (start + maxBytes < bytes.length) {
    const end = previousBoundary(bytes, start + maxBytes);
    // A character that is larger than the window comes whole: a reader must get on.
    if (end > start || maxBytes === 0) return { start, end };
    if (nextBoundary(bytes, start + 1) < bytes.length) return { start, end: nextBoundary(bytes, start + 1) };
  }
  const end = bytes.length - (grows ? bytesOfOpenCharacter(bytes, bytes.length) : 0);
  // Within the incomplete character at the end: a tail begins before it, so that reading on gives the whole of it.
  return kind === 'offset' ? { start, end: Math.max(start, end) } : { start: Math.min(start, end), end };
}

/** Where the window begins, give or take a character. */
async function startOf(file: FileHandle, size: number, { kind, amount, maxBytes }: Wanted): Promise<number> {
  if (kind === 'offset') return Math.min(amount, size);
  if (kind === 'tailBytes') return Math.max(0, size - maxBytes);
  return startOfLastLines(file, size, amount, Math.max(0, size - maxBytes));
}

/** Scans backwards, but not beyond `floor`. The newline that ends the file begins no line. */
async function startOfLastLines(file: FileHandle, size: number, lines: number, floor: number): Promise<number> {
  if (lines === 0) return size;
  let found = 0;
  for (let end = size; end > floor; end -= SCAN_BLOCK_BYTES) {
    const from = Math.max(floor, end - SCAN_BLOCK_BYTES);
    const block = await readRange(file, from, end);
    for (let at = block.length - (end === size ? 2 : 1); at >= 0; at--) {
      if (block[at] === NEWLINE && ++found === lines) return from + at + 1;
    }
  }
  return floor;
}

/** Up to `to`, or to the end of the file. */
async function readRange(file: FileHandle, from: number, to: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(Math.max(0, to - from));
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, from + length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return buffer.subarray(0, length);
}

async function decode(bytes: Buffer): Promise<string> {
  let text = '';
  for (let from = 0; from < bytes.length; ) {
    const to =
      from + DECODE_SLICE_BYTES < bytes.length ? previousBoundary(bytes, from + DECODE_SLICE_BYTES) : bytes.length;
    text += bytes.toString('utf8', from, to);
    from = to;
    if (from < bytes.length) await setImmediate();
  }
  return text;
}

const schema = z.strictObject({
  offset: count.optional(),
  maxBytes: countOrInfinity(1).optional(),
  tailBytes: count.optional(),
  tailLines: count.optional(),
});

function parseOptions(options: unknown): Wanted {
  const { maxBytes, ...given } = checkOptions(schema, options, 'readOutput');
  const kinds = (['offset', 'tailBytes', 'tailLines'] as const).filter((name) => given[name] !== undefined);
  if (kinds.length > 1) throw invalid(`expected one of offset, tailBytes and tailLines, got ${kinds.join(' and ')}`);
  const kind = kinds[0] ?? 'offset';
  const amount = given[kind] ?? 0;
  if (kind !== 'tailBytes') return { kind, amount, maxBytes: atMost(maxBytes ?? DEFAULT_WINDOW_BYTES) };
  if (maxBytes !== undefined) throw invalid('expected tailBytes without maxBytes, got both');
  return { kind, amount, maxBytes: atMost(amount) };
}

function atMost(bytes: number): number {
  return Math.min(bytes, MAX_WINDOW_BYTES);
}

function invalid(problem: string): BackgroundTaskError {
  return new BackgroundTaskError('INVALID_SPEC', `readOutput: ${problem}`);
}
