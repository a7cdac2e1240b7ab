import { asError, BackgroundTaskError } from '../errors.js';

/** The system's code of a caught value, such as `ENOENT`; `undefined` where it has none. */
export function systemCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}

/** `STORAGE_FAILED` with the system's error as its cause. An error that already has one of our codes stays what it is. */
export function storageFailed(what: string, cause: unknown, taskId?: string): BackgroundTaskError {
  if (cause instanceof BackgroundTaskError) return cause;
  return new BackgroundTaskError('STORAGE_FAILED', `${what}: ${asError(cause).message}`, { cause, taskId });
}

/** Awaits `work`; answers `undefined` where it failed with one of these codes. */
export async function unlessCode<T>(codes: readonly string[], work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (codes.includes(systemCode(error) ?? '')) return undefined;
    throw error;
  }
}
