/*
 * The only way into a terminal status. An outcome is fixed when it is found; then it is written together with the deliveries it owes, and only
 * when that write is durable is it told. Until then memory shows the task as it is on disk, its slot stays taken, and every look tries again.
 */
import { jsonBytes } from '../../task/json.js';
import { MAX_RECORD_BYTES } from '../../task/record.js';
import type { JsonValue } from '../../task/types.js';
import type { Outcome } from '../decide/finding.js';
import { isOver, toTaskError } from '../failures.js';
import type { Subject } from './subject.js';

/** Keeps room for what a record gains beside the result when it is settled. */
const RECORD_MARGIN_BYTES = 32 * 1024;

/** A task whose outcome can be fixed. */
export interface Settled extends Subject {
  outcome: Outcome | undefined;
}

/** Writes how the task ended. `false`: it could not be written; it was reported, and the next look tries again. */
export async function settle(task: Settled, outcome: Outcome): Promise<boolean> {
  if (!task.isActive) return true;
  task.outcome ??= outcome;
  try {
    await write(task, task.outcome);
  } catch (error) {
    // Given up because the manager ended: the next owner judges anew.
    if (!isOver(error)) task.reportOnce(toTaskError(error, 'STORAGE_FAILED', task.taskId));
    return false;
  }
  return true;
}

async function write(task: Settled, outcome: Outcome): Promise<void> {
  const { result } = outcome;
  const inline = fits(task, result);
  // The result's own file first: a record that vouches for it must find it there.
  if (result !== undefined && !inline) await task.shared.store.putResult(task.taskId, result);
  await task.post({ is: 'ended', outcome, inline });
}

function fits({ shared, record }: Settled, result: JsonValue | undefined): boolean {
  if (result === undefined) return false;
  const bytes = jsonBytes(result);
  return bytes <= shared.settings.maxResultBytes && bytes + jsonBytes(record) + RECORD_MARGIN_BYTES <= MAX_RECORD_BYTES;
}
