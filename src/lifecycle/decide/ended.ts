/* The record of a task that has ended: the status by the verdict table, why it ended, and what it owes. */
import type { TaskRecord } from '../../task/record.js';
import { type Ending, judge } from '../../task/status.js';
import type { OwedDelivery, TaskError, TaskStatus, TaskStop } from '../../task/types.js';
import { notBefore, without } from './fields.js';
import type { Outcome } from './finding.js';

/** The error of work that failed without one. */
const UNSAID: TaskError = { name: 'Error', message: 'the work failed, and gave no error' };

export function ended(record: TaskRecord, outcome: Outcome, inline: boolean): TaskRecord {
  const status = judge(endingOf(record, outcome), record.stop);
  const stopReason = outcome.stopReason ?? reasonOfEnd(status, outcome, record);
  return {
    ...without(record, 'waitingFor'),
    status,
    detached: record.detached || outcome.outlivedCaller === true,
    // A later attempt that could not begin does not undo the first.
    startedAt: outcome.neverBegan && record.attempt === 1 ? null : record.startedAt,
    endedAt: notBefore(record, outcome.endedAt),
    details: outcome.details ? { ...record.details, ...outcome.details } : record.details,
    hooks: owesNothing(record, outcome) ? withdrawn(record.hooks) : record.hooks,
    ...(stopReason !== undefined && { stopReason }),
    // A failed task always has one: guards rely on it.
    ...(status === 'failed' && { error: outcome.error ?? UNSAID }),
    ...(inline && outcome.result !== undefined && { result: outcome.result }),
  };
}

/** What never began cannot have completed. */
function endingOf({ status }: TaskRecord, { ending, neverBegan }: Outcome): Ending {
  const isUnbegun = status === 'queued' || neverBegan !== undefined;
  return isUnbegun && ending === 'completed' ? 'gone' : ending;
}

/** Every delivery that is still owed becomes `skipped`. */
export function withdrawn(hooks: TaskRecord['hooks']): TaskRecord['hooks'] {
  const entries = Object.entries(hooks).map(([name, owed]): [string, OwedDelivery] => [
    name,
    owed.state === 'pending' ? { ...owed, state: 'skipped' } : owed,
  ]);
  return Object.fromEntries(entries);
}

function owesNothing(record: TaskRecord, outcome: Outcome): boolean {
  return (!record.detached && !outcome.outlivedCaller) || outcome.neverBegan === 'caller was told';
}

function reasonOfEnd(status: TaskStatus, { whyLost }: Outcome, record: TaskRecord): string | undefined {
  if (status === 'completed' || status === 'failed') return undefined;
  return status === 'lost' ? whyLost : reasonOf(record.stop, record);
}

function reasonOf(stop: TaskStop | undefined, record: TaskRecord): string | undefined {
  if (stop?.reason !== undefined) return stop.reason;
  switch (stop?.cause) {
    case 'deadline':
      return deadlineReason(record);
    case 'output_limit':
      return `the output grew beyond ${record.maxOutputBytes} bytes`;
    case 'shutdown':
      return 'the manager was closed';
    default:
      return undefined;
  }
}

function deadlineReason({ startedAt, timeoutMs, deadlineAt, queueTimeoutMs }: TaskRecord): string {
  if (startedAt === null) return `it was queued for longer than ${queueTimeoutMs} ms`;
  // Detaching may have set another one.
  return timeoutMs && deadlineAt === startedAt + timeoutMs
    ? `the deadline of ${timeoutMs} ms passed`
    : 'the deadline passed';
}
