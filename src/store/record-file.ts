/*
 * Reads one record file and says what it is. Synchronous: tens of thousands of small files are read several times faster that way.
 * Looked at before it is opened, and only a regular file ever is: opening a FIFO would hang, opening a device may do anything.
 */
import { isUtf8 } from 'node:buffer';
import { closeSync, constants, lstatSync, openSync, readFileSync, type Stats } from 'node:fs';
import { asError } from '../errors.js';
import { isSupported, MAX_RECORD_BYTES, RecordError, type TaskRecord } from '../task/record.js';
import { systemCode } from '../util/system-error.js';

/** Reads one of the shapes that records come in; throws `RecordError` where the value is none. */
export type ParseRecord = (value: unknown, context: { fileName: string }) => TaskRecord;

export interface RecordFile {
  readonly path: string;
  /** Below the directory, as the parser is told. */
  readonly fileName: string;
  /** The id that its place gives it. */
  readonly taskId: string;
}

/** `bad`: no record, for `reason`; with `leave` it stays where it is. `retry`: a failure that may pass. */
export type Reading =
  | { readonly is: 'record'; readonly record: TaskRecord }
  | { readonly is: 'bad'; readonly reason: string; readonly leave: boolean }
  | { readonly is: 'gone' }
  | { readonly is: 'retry'; readonly error: Error };

/** What reading a file's bytes came to, before anybody looks at them. */
type Contents = Exclude<Reading, { is: 'record' }> | { readonly is: 'bytes'; readonly bytes: Buffer };

export function readRecordFile(file: RecordFile, parse: ParseRecord): Reading {
  const contents = readContents(file.path);
  return contents.is === 'bytes' ? understand(contents.bytes, file, parse) : contents;
}

function readContents(path: string): Contents {
  try {
    const stats = lstatSync(path);
    if (!stats.isFile()) return bad(`is ${typeName(stats)}, not a regular file`);
    if (stats.size > MAX_RECORD_BYTES)
      return bad(`has ${stats.size} bytes, more than the ${MAX_RECORD_BYTES} of a record`);
    return { is: 'bytes', bytes: readRegularFile(path) };
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT') return { is: 'gone' };
    if (code === 'EACCES' || code === 'EPERM') return bad(`cannot be read: no permission (${code})`, true);
    return { is: 'retry', error: asError(error) };
  }
}

function readRegularFile(path: string): Buffer {
  // Whatever took the file's place since it was looked at: a link is not followed, a FIFO does not hang. (Windows has neither flag.)
  const flags = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);
  const fd = openSync(path, flags);
  try {
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}

function understand(bytes: Buffer, file: RecordFile, parse: ParseRecord): Reading {
  if (bytes.length === 0) return bad('is empty');
  if (!isUtf8(bytes)) return bad('is not valid UTF-8');
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    return bad(`is not valid JSON: ${asError(error).message}`);
  }
  let record: TaskRecord;
  try {
    record = parse(value, { fileName: file.fileName });
  } catch (error) {
    return bad(`is not a task record: ${asError(error).message}`, error instanceof RecordError && error.newer);
  }
  if (record.taskId !== file.taskId) {
    return bad(
      `holds the task ${JSON.stringify(record.taskId)}, which is not the id its name gives`,
      !isSupported(record),
    );
  }
  return { is: 'record', record };
}

function bad(reason: string, leave = false): Reading & { is: 'bad' } {
  return { is: 'bad', reason, leave };
}

function typeName(stats: Stats): string {
  if (stats.isDirectory()) return 'a folder';
  if (stats.isSymbolicLink()) return 'a symbolic link';
  if (stats.isFIFO()) return 'a FIFO';
  if (stats.isSocket()) return 'a socket';
  return 'a device';
}
