/*
 * How active tasks stand, for whoever reads a directory without owning it. The look is the owner's, and so is the judgement; but nothing is
 * written, and nobody is refused the right to run. A manager may settle the same tasks meanwhile: it writes the outcome before it removes what
 * led to it, so that a record which still is as it was read vouches for what was seen beside it.
 */
import { systemClock } from './clock.js';
import { ended } from './lifecycle/decide/ended.js';
import type { Outcome } from './lifecycle/decide/finding.js';
import { createProcessLook, type ProcessLook } from './process/process-kind.js';
import { ownIdentity } from './store/identity.js';
import type { StoreReader } from './store/reader.js';
import { isProcessTask } from './task/guards.js';
import { isSupported, type TaskRecord } from './task/record.js';
import { isTerminalStatus } from './task/status.js';
import { describeError } from './task/task-error.js';

const CONCURRENT_LOOKS = 16;

export interface JudgeOptions {
  readonly reader: StoreReader;
  /** Whether somebody owns the directory, or may: then what left no trace is for the owner to judge, who may have seen its end. */
  readonly isOwned: boolean;
}

/** The records, in their order, those of processes that have ended as they ended. Those that were removed meanwhile are left out. */
export async function judgeRecords(records: readonly TaskRecord[], options: JudgeOptions): Promise<TaskRecord[]> {
  const look = createProcessLook({ files: options.reader, owner: ownIdentity(), clock: systemClock });
  const judged: (TaskRecord | undefined)[] = [...records];
  const open = records.entries();
  const worker = async () => {
    for (const [index, record] of open) if (isOpen(record)) judged[index] = await judgeRecord(record, look, options);
  };
  await Promise.all(Array.from({ length: CONCURRENT_LOOKS }, worker));
  return judged.filter((record) => record !== undefined);
}

function isOpen(record: TaskRecord): boolean {
  const { status } = record;
  return !isTerminalStatus(status) && status !== 'queued' && isSupported(record) && isProcessTask(record as never);
}

async function judgeRecord(
  record: TaskRecord,
  look: ProcessLook,
  options: JudgeOptions,
): Promise<TaskRecord | undefined> {
  const outcome = await outcomeOf(record, look, options);
  if (!outcome) return record;
  const now = readAgain(record, options);
  if (!now || isTerminalStatus(now.status)) return now;
  // Begun anew: what was seen was the end of something else.
  if (now.startedAt !== record.startedAt || now.attempt !== record.attempt) return now;
  return ended(now, outcome, false);
}

/** `undefined`: it goes on, or nobody here can tell. */
async function outcomeOf(
  record: TaskRecord,
  look: ProcessLook,
  { isOwned }: JudgeOptions,
): Promise<Outcome | undefined> {
  // What cannot be looked at has not been seen to end: it is shown as it is on record.
  const found = await look(record as never).catch(() => undefined);
  if (!found) return undefined;
  const base = { endedAt: found.endedAt ?? systemClock.now(), ...(!isOwned && { outlivedCaller: true }) };
  if (found.state === 'gone') return isOwned ? undefined : { ...base, ending: 'gone', ...whyLost(record) };
  const details = found.details && { details: found.details as unknown as TaskRecord['details'] };
  if (found.state === 'completed') return { ...base, ending: 'completed', ...details };
  return { ...base, ending: 'failed', error: describeError(found.error), ...details };
}

function whyLost({ stop }: TaskRecord): { stopReason?: string } {
  return stop ? {} : { stopReason: 'its owner died, the work is gone, and nothing says how it ended' };
}

/** The record as it is now; `undefined`: it was removed. Other systems' records are not where ours are, and nobody writes them any more. */
function readAgain(record: TaskRecord, { reader }: JudgeOptions): TaskRecord | undefined {
  return record.owner === null ? record : reader.record(record);
}
