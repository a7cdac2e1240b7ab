import { constants } from 'node:os';
import type { ExitRecord } from '../../store/run-files.js';
import type { Probe } from '../../task/kind.js';
import type { NeverBegan } from '../../task/kind-runtime.js';
import type { ProcessDetails, ProcessTask, TaskError } from '../../task/types.js';
import { NOTHING_RAN } from './shim.js';

export type ProcessProbe = Probe<ProcessDetails, never>;

/** How a child ended, as its parent saw it. */
export interface SeenEnd {
  readonly code: number | null;
  readonly signal: string | null;
}

/** Nothing ever had the right to run it, and nothing can get it any more. */
export const neverBegan: ProcessProbe & NeverBegan = { state: 'gone', neverBegan: true, details: { pid: null } };

const SIGNAL_BASE = 128;
/** The first name of each number: some have several. */
const signalNames = new Map(
  Object.entries(constants.signals)
    .reverse()
    .map(([name, number]) => [number, name]),
);

/** The signal that an exit code stands for, where it can: a program may also have chosen that code itself. */
function signalOf(code: number): string | null {
  return signalNames.get(code - SIGNAL_BASE) ?? null;
}

/** The outcome that a supervisor wrote down. */
export function recordedOutcome(task: ProcessTask, exit: ExitRecord, error?: TaskError): ProcessProbe {
  // The clock of the file system may be a little behind the one that gave the start.
  const endedAt = Math.max(exit.at, task.startedAt ?? 0);
  const outcome = outcomeOf(exit.code, { endedAt });
  return error && outcome.state === 'failed' ? { ...outcome, error } : outcome;
}

/** The outcome of a command that ran without a supervisor, as its parent saw it end. */
export function attachedOutcome(end: SeenEnd): ProcessProbe {
  return end.code === null ? unrecordedOutcome(end) : outcomeOf(end.code, {});
}

/** What is known of a supervisor that we saw end without a record. */
export function unrecordedOutcome({ code, signal }: SeenEnd): ProcessProbe {
  return {
    state: 'failed',
    error: exitError(describeUnrecorded(code, signal)),
    details: { exitCode: code, signal: signal ?? (code === null ? null : signalOf(code)) },
  };
}

function outcomeOf(code: number, extra: { readonly endedAt?: number }): ProcessProbe {
  const signal = signalOf(code);
  const details = { exitCode: code, signal };
  if (code === 0) return { state: 'completed', details, ...extra };
  const message = signal ? `ended by ${signal} (exit code ${code})` : `exited with code ${code}`;
  return { state: 'failed', error: exitError(message), details, ...extra };
}

function describeUnrecorded(code: number | null, signal: string | null): string {
  if (signal) return `its supervisor was ended by ${signal} before it could record how the command ended`;
  if (code === NOTHING_RAN) return 'the command was not run: its supervisor could not record that it began';
  return `its supervisor exited with code ${code}, and left no record of how the command ended`;
}

function exitError(message: string): TaskError {
  return { name: 'ProcessExitError', message };
}
