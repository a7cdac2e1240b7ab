/* Processes as a kind of task, like any other. */
import { type AnyTaskKind, defineAttachedKind, type RecoverProcess, type StartContext } from '../task/kind.js';
import { processDetails } from '../task/process-details.js';
import type { ProcessDetails, ProcessTask } from '../task/types.js';
import { ProcessHost, type ProcessHostOptions } from './process-host.js';
import { missingEnvironment, type ProcessInput, processSpecReader, recoveredInput } from './process-spec.js';
import { ProcessWork } from './process-work.js';
import type { ProcessProbe } from './supervisor/outcome.js';
import { WorkByTask } from './work-by-task.js';

export interface ProcessKindOptions extends Omit<ProcessHostOptions, 'onError' | 'onHintAll' | 'isReadOnly'> {
  /** See {@link ProcessHostOptions}. May be absent where all calls come without attaching. */
  onHintAll?(): void;
  /**
   * For calls that do not attach: the output is beyond `maxOutputBytes`, and the task stands still: stop it. Called
   * once for each task.
   */
  onOutputLimit(taskId: string): void;
  onError(error: Error, taskId?: string): void;
  /**
   * Gives the environment of a process that never began, and whose record names variables. Absent: there is no way to
   * get it.
   */
  readonly recoverProcess?: RecoverProcess | undefined;
}

export interface ProcessSupport {
  readonly kind: AnyTaskKind;
  /**
   * The manager has ended: nothing is launched, watched or made again from now on. What was attached is disposed of by
   * its tasks.
   */
  close(): void;
  /** For calls that do not attach: `quiesce` of all work. */
  quiesce(): Promise<void>;
  /** For calls that do not attach: `close`, and `dispose` of all work. */
  dispose(hasStop: (taskId: string) => boolean): Promise<void>;
}

export function createProcessKind(options: ProcessKindOptions): ProcessSupport {
  const { onHint, onHintAll, onOutputLimit, onError, recoverProcess } = options;
  const host = new ProcessHost({
    ...options,
    onHintAll: () => (onHintAll ? onHintAll() : works.taskIds().forEach(onHint)),
  });
  const works: WorkByTask = new WorkByTask((taskId) => {
    const report = (error: Error) => onError(error, taskId);
    return new ProcessWork(taskId, host, {
      hint: () => onHint(taskId),
      outputLimit: () => onOutputLimit(taskId),
      report,
    });
  });
  const definition = {
    name: 'process' as const,
    details: processDetails,
    spec: processSpecReader,
    start: (context: StartContext<ProcessDetails>, input: ProcessInput | undefined) => works.start(context, input),
    probe: (task: ProcessTask) => works.probe(task),
    stop: (task: ProcessTask, how: 'terminate' | 'kill') => works.stop(task, how),
    settled: (task: ProcessTask) => works.settled(task),
    missing: (task: ProcessTask) => missingEnvironment(task.details),
    resupply: recoverProcess && resupplier(recoverProcess),
  };
  return {
    kind: defineAttachedKind(definition, (taskId, port) => new ProcessWork(taskId, host, port)),
    close: () => host.close(),
    quiesce: () => works.quiesce(),
    dispose: (hasStop) => {
      host.close();
      return works.dispose(hasStop);
    },
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
