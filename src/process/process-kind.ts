/* Processes as a kind of task, like any other. */
import { type AnyTaskKind, defineTaskKind, type RecoverProcess, type StartContext } from '../task/kind.js';
import { processDetails } from '../task/process-details.js';
import type { ProcessDetails, ProcessTask } from '../task/types.js';
import type { ProcessProbe } from './outcome.js';
import { missingEnvironment, type ProcessInput, processSpecReader, recoveredInput } from './process-spec.js';
import { Processes, type ProcessKindOptions } from './processes.js';

export interface ProcessSupport {
  readonly kind: AnyTaskKind;
  /** Nobody is frozen for the output any more from now on. Resolves once freezes under way are over, and were reported. */
  quiesce(): Promise<void>;
  /**
   * Closes watches and timers, and resolves once who was frozen for the output goes on, but for tasks whose stop is on record. The processes
   * run on.
   */
  dispose(hasStop: (taskId: string) => boolean): Promise<void>;
}

export function createProcessKind(options: ProcessKindOptions): ProcessSupport {
  const processes = new Processes(options);
  const definition = {
    name: 'process' as const,
    details: processDetails,
    spec: processSpecReader,
    start: (context: StartContext<ProcessDetails>, input: ProcessInput | undefined) => processes.start(context, input),
    probe: (task: ProcessTask) => processes.probe(task),
    stop: (task: ProcessTask, how: 'terminate' | 'kill') => processes.stop(task, how),
    settled: (task: ProcessTask) => processes.settled(task),
    missing: (task: ProcessTask) => missingEnvironment(task.details),
    resupply: options.recoverProcess && resupplier(options.recoverProcess),
  };
  return {
    kind: defineTaskKind(definition),
    quiesce: () => processes.quiesce(),
    dispose: (hasStop) => processes.dispose(hasStop),
  };
}

/** How a process was seen to have ended; `undefined`: it was not. */
export type ProcessLook = (
  task: ProcessTask,
) => Promise<Extract<ProcessProbe, { state: 'completed' | 'failed' | 'gone' }> | undefined>;

/**
 * The look of a probe, for whoever does not own the directory. Nothing is written: where no supervisor has taken the right to run, one may still
 * come, or the next owner launches it, so that nothing can be said of the task.
 */
export function createProcessLook({
  files,
  ...rest
}: Pick<ProcessKindOptions, 'files' | 'owner' | 'clock'>): ProcessLook {
  const silent = { onHint: () => undefined, onOutputLimit: () => undefined, onError: () => undefined };
  const processes = new Processes({ files, ...rest, ...silent, readOnly: true });
  return async (task) => {
    const found = await processes.probe(task);
    if (found.state === 'running' || found.state === 'waiting') return undefined;
    if (found.state !== 'gone') return found;
    const claim = await files.runFiles(task.taskId).readClaim();
    return claim === undefined || claim === 'void' ? undefined : found;
  };
}

function resupplier(recoverProcess: RecoverProcess) {
  return async (task: ProcessTask) => {
    const answer = await recoverProcess(task);
    return answer ? { input: recoveredInput(answer, task.details) } : undefined;
  };
}
