/*
 * Bringing records in that have no file yet. One write for each record, and none for a bad one; what was written stays when a later
 * write fails, and the same import can simply be made again.
 */

import { setImmediate } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { BackgroundTaskError } from '../errors.js';
import { jsonBytes, toJson } from '../task/json.js';
import { isSupported, MAX_RECORD_BYTES, RecordError, type TaskRecord } from '../task/record.js';
import { came, show } from '../task/show.js';
import { isTerminalStatus, judge } from '../task/status.js';

/** What became of each record given to `importTasks`. */
export interface ImportReport {
  /** The ids that were written. */
  readonly imported: readonly string[];
  /** The ids that were there already: they are left alone. */
  readonly skipped: readonly string[];
  /** What was not written, by its place in the list, and why. */
  readonly rejected: readonly { readonly index: number; readonly reason: string }[];
}

/** What the import needs of a store. */
export interface ImportTarget {
  /** Throws for a value that is no record. */
  parse(value: unknown): TaskRecord;
  exists(taskId: string): boolean | Promise<boolean>;
  /** Durable when it resolves. A failure ends the import and is passed on. */
  write(record: TaskRecord): Promise<void>;
  /** Milliseconds since the epoch: the end of tasks that are found to be lost. */
  now(): number;
}

/** The event loop turns once for so many records, where no write makes it turn. */
const RECORDS_PER_TURN = 20;

/** What a record gains at most when it is settled. */
const SETTLED_MARGIN_BYTES = 128;

/**
 * Normalises each record and writes it once. Of two records with the same id in one list the first is written; the second is skipped
 * where it is the same, and rejected where it is another task: leaving it out without a word would lose it.
 */
export async function importRecords(records: readonly unknown[], target: ImportTarget): Promise<ImportReport> {
  if (!Array.isArray(records))
    throw new BackgroundTaskError('INVALID_SPEC', `importTasks: records: expected an array, got ${came(records)}`);
  const imported: string[] = [];
  const skipped: string[] = [];
  const rejected: { index: number; reason: string }[] = [];
  const seen = new Map<string, { readonly index: number; readonly record: TaskRecord }>();
  for (let index = 0; index < records.length; index++) {
    if (index % RECORDS_PER_TURN === 0) await setImmediate();
    const read = readForImport(records[index], target);
    if (typeof read === 'string') {
      rejected.push({ index, reason: read });
      continue;
    }
    const { taskId } = read;
    const first = seen.get(taskId);
    if (first && !isDeepStrictEqual(first.record, read)) {
      rejected.push({
        index,
        reason: `taskId: ${show(taskId)} is the id of record ${first.index} too, which is another task`,
      });
    } else if (first || (await target.exists(taskId))) {
      skipped.push(taskId);
    } else {
      await target.write(settled(read, target.now()));
      imported.push(taskId);
    }
    if (!first) seen.set(taskId, { index, record: read });
  }
  return { imported, skipped, rejected };
}

/** The record, or why it cannot be imported. */
function readForImport(value: unknown, target: ImportTarget): TaskRecord | string {
  try {
    const record = target.parse(toJson(value, 'record'));
    if (!isSupported(record)) throw new RecordError('written by a newer version');
    // Its result may go to a file of its own.
    const { result: _, ...rest } = record;
    if (!fits(rest)) throw new RecordError(`has ${jsonBytes(rest)} bytes, more than a record may have`);
    return record;
  } catch (error) {
    // Whatever it is (a getter of the value may have thrown): it is the reason, and the other records go on.
    return error instanceof Error ? error.message : `threw ${show(error)}`;
  }
}

/** Whether a record is small enough to be written, also with what its settlement adds. */
export function fits(record: object): boolean {
  return jsonBytes(record) <= MAX_RECORD_BYTES - SETTLED_MARGIN_BYTES;
}

/** A record from elsewhere says that work runs which nobody here can look at, save for kube-coder's sessions: a probe may find those. */
function settled(record: TaskRecord, now: number): TaskRecord {
  if (isTerminalStatus(record.status) || mayStillRun(record)) return record;
  const { waitingFor: _, ...rest } = record;
  return { ...rest, status: judge('gone', record.stop), endedAt: Math.max(now, record.startedAt ?? record.createdAt) };
}

function mayStillRun(record: TaskRecord): boolean {
  return record.owner === null && record.kind === 'tmux' && Object.hasOwn(record.metadata, 'kube-coder');
}
