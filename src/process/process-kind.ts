/* Processes as a kind of task, like any other. */

import { defineAttachedKind } from '../task/define-kind.js';
import type { AnyTaskKind, RecoverProcess } from '../task/kind.js';
import { processDetails } from '../task/process-details.js';
import type { ProcessTask } from '../task/types.js';
import { ProcessHost, type ProcessHostOptions } from './process-host.js';
import { missingEnvironment, processSpecReader, recoveredInput } from './process-spec.js';
import { ProcessWork } from './process-work.js';
import type { ProcessProbe } from './supervisor/outcome.js';

export interface ProcessKindOptions extends Omit<ProcessHostOptions, 'isReadOnly'> {
  /**
   * Gives the environment of a process that never began, and whose record names variables. Absent: there is no way to
   * get it.
   */
  readonly recoverProcess?: RecoverProcess | undefined;
}

export interface ProcessSupport {
  readonly kind: AnyTaskKind;
  /**
   * The manager has ended: nothing is launched, watched or made again from now on. The work of each task is disposed of
   * by the task.
   */
  close(): void;
}

export function createProcessKind({ recoverProcess, ...options }: ProcessKindOptions): ProcessSupport {
  const host = new ProcessHost(options);
  const definition = {
    name: 'process' as const,
    details: processDetails,
    spec: processSpecReader,
    missing: (task: ProcessTask) => missingEnvironment(task.details),
    resupply: recoverProcess && resupplier(recoverProcess),
  };
  return {
    kind: defineAttachedKind(definition, (taskId, port) => new ProcessWork(taskId, host, port)),
    close: () => host.close(),
  };
}

/** How a process was seen to have ended; `undefined`: it was not. */
export type ProcessLook = (
  task: ProcessTask,
) => Promise<Extract<ProcessProbe, { state: 'completed' | 'failed' | 'gone' }> | undefined>;

const silent = { hint: () => undefined, outputLimit: () => undefined, report: () => undefined };

/**
 * The look of a probe, for a reader that does not own the directory. Nothing is written: where no supervisor has taken
 * the right to run, one may still come, or the next owner launches it, so that nothing can be said of the task.
 */
export function createProcessLook(options: Pick<ProcessHostOptions, 'files' | 'owner' | 'clock'>): ProcessLook {
  const ignore = () => undefined;
  const host = new ProcessHost({ ...options, onHint: ignore, onHintAll: ignore, onError: ignore, isReadOnly: true });
  return async (task) => {
    const found = await new ProcessWork(task.taskId, host, silent).probe(task);
    if (found.state === 'running' || found.state === 'waiting') return undefined;
    if (found.state !== 'gone') return found;
    const claim = await options.files.runFiles(task.taskId).readClaim();
    return claim === undefined || claim === 'void' ? undefined : found;
  };
}

function resupplier(recoverProcess: RecoverProcess) {
  return async (task: ProcessTask) => {
    const answer = await recoverProcess(task);
    return answer ? { input: recoveredInput(answer, task.details) } : undefined;
  };
}
