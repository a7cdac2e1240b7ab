/*
 * The closed lists of the record, and the state machine:
 *
 *   queued ─▶ running ⇄ waiting          queued ─▶ failed (launch) · killed · timed_out · lost
 *   running, waiting ─▶ completed · failed · timed_out · killed · lost        nothing leaves a terminal state
 *   running ─▶ queued                    only where the launch was cut short before anything ran
 *
 * Each list is written once, as a constant: the parsers check against it, and the type is derived from it.
 */

const activeStatuses = ['queued', 'running', 'waiting'] as const;
/**
 * A task that has not ended: `queued` waits for a slot, `running` works, `waiting` wants an answer (and keeps its
 * slot).
 */
export type ActiveStatus = (typeof activeStatuses)[number];

const terminalStatuses = ['completed', 'failed', 'timed_out', 'killed', 'lost'] as const;
/**
 * A task that has ended. Nothing leaves a terminal status. `completed`: the work succeeded; `failed`: it failed, or
 * could not be launched; `timed_out`: its deadline ended it; `killed`: a stop ended it; `lost`: it is provably gone,
 * and nothing says how it ended.
 */
export type TerminalStatus = (typeof terminalStatuses)[number];

export const taskStatuses = [...activeStatuses, ...terminalStatuses] as const;
/** Every status that a record can have. */
export type TaskStatus = ActiveStatus | TerminalStatus;

export const stopCauses = ['user', 'deadline', 'output_limit', 'shutdown'] as const;
/**
 * Who or what asked a task to stop; the first cause on record wins. `user`: `stopTask`, `stopAll`, or the spec's
 * `signal`; `deadline`: `timeoutMs` is over; `output_limit`: the output is larger than `maxOutputBytes`; `shutdown`:
 * the manager was closed.
 */
export type StopCause = (typeof stopCauses)[number];

export const hookStates = ['pending', 'delivered', 'failed', 'skipped'] as const;
/**
 * How an owed delivery stands: `pending` is still owed, `delivered` arrived, `failed` is the dead letter, `skipped` was
 * withdrawn.
 */
export type HookState = (typeof hookStates)[number];

const terminal: ReadonlySet<TaskStatus> = new Set(terminalStatuses);

/** Whether a task with this status has ended. */
export function isTerminalStatus(status: TaskStatus): status is TerminalStatus {
  return terminal.has(status);
}

/**
 * How work can be found to have ended: as if with exit 0, as if with another exit, or without a trace. `abandoned`:
 * whether it has ended cannot be known, and the host decided not to wait for it any longer.
 */
export type Ending = 'completed' | 'failed' | 'gone' | 'abandoned';

/** The status of each ending, by the stop that was on record. */
const verdicts: Readonly<Record<StopCause | 'none', Readonly<Record<Ending, TerminalStatus>>>> = {
  none: { completed: 'completed', failed: 'failed', gone: 'lost', abandoned: 'lost' },
  user: { completed: 'completed', failed: 'killed', gone: 'killed', abandoned: 'lost' },
  shutdown: { completed: 'completed', failed: 'killed', gone: 'killed', abandoned: 'lost' },
  deadline: { completed: 'timed_out', failed: 'timed_out', gone: 'timed_out', abandoned: 'lost' },
  output_limit: { completed: 'killed', failed: 'killed', gone: 'killed', abandoned: 'lost' },
};

/** What an ending means, given the stop that was on record before any signal was sent. */
export function judge(ending: Ending, stop: { readonly cause: StopCause } | undefined): TerminalStatus {
  return verdicts[stop?.cause ?? 'none'][ending];
}
