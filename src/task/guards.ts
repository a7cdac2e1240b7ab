import type { BuiltInKind } from './built-in.js';
import { processDetails } from './process-details.js';
import type { None } from './same.js';
import { checkSchema } from './schema.js';
import { isTerminalStatus } from './status.js';
import type { AnyTask, Ended, Failed, FunctionTask, ProcessTask, Waiting } from './types.js';

/** A built-in kind without a task type and a guard is an error here. */
type _EachHasAGuard = None<Exclude<BuiltInKind, (ProcessTask | FunctionTask)['kind']>>;

/** Whether this is a task of the built-in kind `process`, with the details of one. */
export function isProcessTask(task: AnyTask): task is ProcessTask {
  return String(task.kind) === 'process' && checkSchema(processDetails, task.details).ok;
}

/** Whether this is a task of the built-in kind `function`. */
export function isFunctionTask(task: AnyTask): task is FunctionTask {
  return String(task.kind) === 'function';
}

/**
 * Whether this task has ended; then `endedAt` is its end. Records of other systems that never said when they ended are
 * the one exception: there it is `null` all the same.
 */
export function isTerminal<T extends AnyTask>(task: T): task is T & Ended {
  return isTerminalStatus(task.status);
}

/** Whether this task waits for an answer; then `waitingFor` is its question. */
export function isWaiting<T extends AnyTask>(task: T): task is T & Waiting {
  return task.status === 'waiting' && task.waitingFor !== undefined;
}

/**
 * Whether this task has failed and its record says how: then `error` is there. Every task that fails under holdfast
 * records one; a record of another system may have `status: 'failed'` and nothing more, and then this is `false`.
 */
export function isFailed<T extends AnyTask>(task: T): task is T & Failed {
  return task.status === 'failed' && task.error !== undefined;
}
