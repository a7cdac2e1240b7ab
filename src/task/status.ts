/*
 * The state machine:
 *
 *   queued ─▶ running ⇄ waiting          queued ─▶ failed (launch) · killed · timed_out · lost
 *   running, waiting ─▶ completed · failed · timed_out · killed · lost        nothing leaves a terminal state
 */
import type { AnyTask, StopCause, TaskStatus, TerminalStatus } from './types.js';

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

/** Whether this task has ended. */
export function isTerminal(task: AnyTask): boolean {
  return terminal.has(task.status);
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
