/* Parts of a record that several findings change in the same way. */
import { BackgroundTaskError } from '../../errors.js';
import { jsonBytes } from '../../task/json.js';
import { MAX_RECORD_BYTES, type TaskRecord } from '../../task/record.js';
import { isTerminalStatus } from '../../task/status.js';
import type { JsonValue, OwnerIdentity } from '../../task/types.js';

/** `record` without these keys: absent, not `undefined`, is how a record says "none". */
export function without<K extends keyof TaskRecord>(record: TaskRecord, ...keys: K[]): TaskRecord {
  const copy: Record<string, unknown> = { ...record };
  for (const key of keys) delete copy[key];
  return copy as unknown as TaskRecord;
}

/** What an active record may take, so that its outcome always fits beside what is there; an ended one gains only deliveries. */
const ROOM_BYTES = { active: MAX_RECORD_BYTES - 288 * 1024, ended: MAX_RECORD_BYTES - 64 * 1024 };

/** Refuses what would make a record outgrow its limit. Throws `INVALID_SPEC`. */
export function withRoom(record: TaskRecord): TaskRecord {
  const limit = isTerminalStatus(record.status) ? ROOM_BYTES.ended : ROOM_BYTES.active;
  const bytes = jsonBytes(record);
  if (bytes <= limit) return record;
  throw new BackgroundTaskError(
    'INVALID_SPEC',
    `expected a record of at most ${limit} bytes, this change makes it ${bytes}`,
    { taskId: record.taskId },
  );
}

/**
 * The deadline of work that starts now. A task that was sent to the background before has the one that detaching set: a deadline that was only
 * to detach it has nothing left to do.
 */
export function deadlineOfStart(record: TaskRecord, startedAt: number): Pick<TaskRecord, 'deadlineAt'> {
  const { detached, timeoutMs, detachTimeoutMs, detachOnTimeout } = record;
  const inBackground = detachTimeoutMs ?? (detachOnTimeout ? 0 : timeoutMs);
  const ms = detached ? inBackground : timeoutMs;
  return ms ? { deadlineAt: startedAt + ms } : {};
}

/** In the background from `now` on. `detachTimeoutMs` sets a new deadline; absent, the deadline stays, unless it is what detached the task. */
export function toBackground(record: TaskRecord, byTimeout: boolean, now: number): TaskRecord {
  const { detachTimeoutMs } = record;
  // It counts from the start, which is still to come.
  if (record.status === 'queued') return { ...record, detached: true };
  if (detachTimeoutMs) return { ...record, detached: true, deadlineAt: now + detachTimeoutMs };
  const stays = detachTimeoutMs === undefined && !byTimeout;
  return { ...(stays ? record : without(record, 'deadlineAt')), detached: true };
}

/**
 * Under a new owner. The caller who waited for it in the foreground died: the task is in the background, by the same rules as by its deadline
 * where that was to detach it.
 */
export function ownedBy(owner: OwnerIdentity, record: TaskRecord, now: number): TaskRecord {
  const owned = { ...record, owner };
  return record.detached ? owned : toBackground(owned, record.detachOnTimeout === true, now);
}

/** A task holds a slot while it is at work in the background, unless its record says that it never takes one. */
export function holdsSlot({ detached, takesNoSlot, status }: TaskRecord): boolean {
  return detached && !takesNoSlot && status !== 'queued' && !isTerminalStatus(status);
}

/** Now, but never before the task's start: the wall clock may have been set back. */
export function notBefore(record: TaskRecord, time: number): number {
  return Math.max(time, record.startedAt ?? record.createdAt);
}

/** What goes on record of an answer. */
export function answerTo({ waitingFor }: TaskRecord, value: JsonValue, now: number) {
  return { prompt: waitingFor?.prompt ?? '', value, answeredAt: now };
}
