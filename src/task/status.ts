/*
 * The state machine:
 *
 *   queued ─▶ running ⇄ waiting          queued ─▶ failed (launch) · killed · timed_out · lost
 *   running, waiting ─▶ completed · failed · timed_out · killed · lost        nothing leaves a terminal state
 */
import type { AnyTask, Ended, Failed, StopCause, TaskStatus, TerminalStatus, Waiting } from './types.js';

const activeStatuses = ['queued', 'running', 'waiting'] as const;
const terminalStatuses = ['completed', 'failed', 'timed_out', 'killed', 'lost'] as const;
export const taskStatuses = [...activeStatuses, ...terminalStatuses] as const;
export const stopCauses = ['user', 'deadline', 'output_limit', 'shutdown'] as const;
export const hookStates = ['pending', 'delivered', 'failed', 'skipped'] as const;

const terminal: ReadonlySet<TaskStatus> = new Set(terminalStatuses);

/** Whether a task with this status has ended. */
export function isTerminalStatus(status: TaskStatus): status is TerminalStatus {
  return terminal.has(status);
}

/**
 * Whether this task has ended; then `endedAt` is its end. Records of other systems that never said when they ended are the one exception:
 * there it is `null` all the same.
 */
export function isTerminal<T extends AnyTask>(task: T): task is T & Ended {
  return terminal.has(task.status);
}

/** Whether this task waits for an answer; then `waitingFor` is its question. */
export function isWaiting<T extends AnyTask>(task: T): task is T & Waiting {
  return task.status === 'waiting' && task.waitingFor !== undefined;
}

/**
 * Whether this task has failed and its record says how: then `error` is there. Every task that fails under holdfast records one; a record of
 * another system may have `status: 'failed'` and nothing more, and then this is `false`.
 */
export function isFailed<T extends AnyTask>(task: T): task is T & Failed {
  return task.status === 'failed' && task.error !== undefined;
}

/**
 * How work can be found to have ended: as if with exit 0, as if with another exit, or without a trace. `abandoned`: whether it has ended cannot
 * be known, and somebody who may decided that nobody waits any longer.
 */
export type Ending = 'completed' | 'failed' | 'gone' | 'abandoned';

const verdicts: Record<StopCause | 'none', Record<Ending, TerminalStatus>> = {
  none: { completed: 'completed', failed: 'failed', gone: 'lost', abandoned: 'lost' },
  user: { completed: 'completed', failed: 'killed', gone: 'killed', abandoned: 'lost' },
  shutdown: { completed: 'completed', failed: 'killed', gone: 'killed', abandoned: 'lost' },
  deadline: { completed: 'timed_out', failed: 'timed_out', gone: 'timed_out', abandoned: 'lost' },
  output_limit: { completed: 'killed', failed: 'killed', gone: 'killed', abandoned: 'lost' },
};

/** The one judgement: what an ending means, given the stop that was on record before any signal was sent. */
export function judge(ending: Ending, stop: { readonly cause: StopCause } | undefined): TerminalStatus {
  return verdicts[stop?.cause ?? 'none'][ending];
}
