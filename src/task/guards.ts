import { processDetails } from './process-details.js';
import { checkSchema } from './schema.js';
import type { AnyTask, FunctionTask, ProcessTask } from './types.js';

/** Whether this is a task of the built-in kind `process`, with the details of one. */
export function isProcessTask(task: AnyTask): task is ProcessTask {
  return String(task.kind) === 'process' && checkSchema(processDetails, task.details).ok;
}

/** Whether this is a task of the built-in kind `function`. */
export function isFunctionTask(task: AnyTask): task is FunctionTask {
  return String(task.kind) === 'function';
}
