/* Errors of the lifecycle: how anything that was thrown becomes one of ours, and which of them mean that this manager has ended. */
import { asError, BackgroundTaskError, type BackgroundTaskErrorCode } from '../errors.js';

/** An error of ours stays what it is; anything else becomes the cause of one with this code. */
export function toTaskError(error: unknown, code: BackgroundTaskErrorCode, taskId?: string): BackgroundTaskError {
  if (error instanceof BackgroundTaskError) return error;
  const cause = asError(error);
  return new BackgroundTaskError(code, cause.message, { cause: error, taskId });
}

/** Whether this manager is at its end: it lost the directory, or was closed. Nothing must be written or signalled any more. */
export function isOver(error: unknown): boolean {
  return error instanceof BackgroundTaskError && (error.code === 'OWNERSHIP_LOST' || error.code === 'MANAGER_CLOSED');
}

/** What makes two failures the same: the system's code where there is one, since its message may name a temporary file. */
export function reasonOf(error: unknown): string {
  const { message, cause } = asError(error);
  return (cause as NodeJS.ErrnoException | undefined)?.code ?? message;
}
