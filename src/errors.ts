import type { OwnerIdentity } from './task/types.js';

/**
 * Every code with its meaning. Codes are a promise: new ones may be added in a minor release, none changes its meaning.
 */
export const errorCodes = {
  /**
   * An option of `open`, or a definition of a kind or a hook, is missing, unknown, of a wrong type or out of range;
   * nothing was touched.
   */
  INVALID_OPTIONS: true,
  /** A task spec, patch, filter or call option is wrong. Nothing was touched. */
  INVALID_SPEC: true,
  /**
   * The answer to a waiting task is not JSON or does not satisfy the schema that was asked for. The task goes on
   * waiting.
   */
  INVALID_INPUT: true,
  /** The id does not match `^[a-z0-9]+(?:[-_][a-z0-9]+)*$` or is longer than 64 characters. */
  INVALID_TASK_ID: true,
  /** No slot is free, and the call does not queue. Nothing was launched. */
  CAPACITY_EXCEEDED: true,
  /** The id is taken. */
  TASK_EXISTS: true,
  /** The idempotency key belongs to a task with another kind, command or details; the message says what differs. */
  IDEMPOTENCY_CONFLICT: true,
  /** There is no such task (any more); for in-process work that goes on after its task has ended: the task is over. */
  TASK_NOT_FOUND: true,
  /** `provideInput` was called for a task that waits for nothing. */
  TASK_NOT_WAITING: true,
  /** Another manager owns the directory; `owner` says which. */
  DIRECTORY_OWNED: true,
  /**
   * Another manager took the directory over, or the directory is gone (the message says which); this one stopped
   * writing.
   */
  OWNERSHIP_LOST: true,
  /** The work could not be started; the task is on record as `failed` and its slot is free. */
  LAUNCH_FAILED: true,
  /** Only in an `error` event: a listener of the host's threw or rejected, and `cause` is what it threw. */
  LISTENER_FAILED: true,
  /**
   * The task's processes live where this manager can neither see nor signal them, in another pid namespace or on
   * another machine. Nothing was written; `stopTask(taskId, { abandon: true })` settles the task without them.
   */
  OUT_OF_REACH: true,
  /** The disk refused; `cause` is the system's error. */
  STORAGE_FAILED: true,
  /** The manager was not opened with this kind. */
  UNKNOWN_KIND: true,
  /** The manager, or the task, has no hook of this name. */
  UNKNOWN_HOOK: true,
  /** The record was written by a newer version and is never rewritten by this one. */
  RECORD_UNSUPPORTED: true,
  /** The manager is closed, or was closed during the wait. */
  MANAGER_CLOSED: true,
} as const;

/**
 * Why a call was refused or failed, for programs. Each code is documented where the codes are listed. New ones may be
 * added in a minor release; none changes its meaning.
 */
export type BackgroundTaskErrorCode = { [Code in keyof typeof errorCodes]: Code }[keyof typeof errorCodes];

/** The one error class of this package: every refused call and every `error` event carries one. */
export class BackgroundTaskError extends Error {
  /** Always `BackgroundTaskError`. */
  override readonly name = 'BackgroundTaskError';
  /** What happened, for programs; see {@link BackgroundTaskErrorCode}. */
  readonly code: BackgroundTaskErrorCode;
  /** The task that it happened to; absent where there is none. */
  declare readonly taskId?: string;
  /** With `DIRECTORY_OWNED`: who owns the directory. */
  declare readonly owner?: OwnerIdentity;

  /** @internal */
  constructor(
    code: BackgroundTaskErrorCode,
    message: string,
    extra: { cause?: unknown; taskId?: string | undefined; owner?: OwnerIdentity | null | undefined } = {},
  ) {
    super(message, extra.cause === undefined ? undefined : { cause: extra.cause });
    this.code = code;
    if (extra.taskId !== undefined) this.taskId = extra.taskId;
    if (extra.owner) this.owner = extra.owner;
  }

  /**
   * What `JSON.stringify` writes, for logs: name, code, message, and where there are any, task id, owner and cause. No
   * stack.
   */
  toJSON(): object {
    const { name, code, message, taskId, owner, cause } = this;
    return {
      name,
      code,
      message,
      ...(taskId !== undefined && { taskId }),
      ...(owner !== undefined && { owner }),
      ...(cause !== undefined && { cause: causeToJson(cause) }),
    };
  }
}

/**
 * Thrown by a hook to say that trying again is pointless: the delivery fails at once, without further attempts.
 * Recognised by its `name` too, so that one from another copy of this package counts.
 */
export class PermanentDeliveryError extends Error {
  override readonly name: string = 'PermanentDeliveryError';
}

/** A caught value as an `Error` with a message that can be read: reading some thrown values throws. */
export function asError(value: unknown): Error {
  return attempt(() => value instanceof Error && typeof value.message === 'string')
    ? (value as Error)
    : new Error(`Thrown: ${textOf(value)}`, { cause: value });
}

/** This property of a caught value as a string, if it is a string or a number and can be read. */
export function readText(value: unknown, key: 'name' | 'message' | 'code'): string | undefined {
  const found = attempt(() => (value as Record<string, unknown> | null | undefined)?.[key]);
  return typeof found === 'string' || typeof found === 'number' ? String(found) : undefined;
}

const MAX_CAUSES = 5;

/** An error as plain JSON, with its causes. Fields of its own are left out: they may hold anything. */
function errorToJson(error: unknown): object {
  return attempt(() => error instanceof BackgroundTaskError)
    ? (error as BackgroundTaskError).toJSON()
    : plainError(error, 0);
}

function causeToJson(cause: unknown, depth = 0): unknown {
  if (typeof cause === 'string' || typeof cause === 'boolean' || cause === null) return cause;
  return plainError(cause, depth);
}

function plainError(value: unknown, depth: number): object {
  const code = readText(value, 'code');
  const cause = attempt(() => (value as { cause?: unknown } | null | undefined)?.cause);
  return {
    name: readText(value, 'name') ?? 'Error',
    message: readText(value, 'message') ?? asError(value).message,
    ...(code !== undefined && { code }),
    ...(cause !== undefined && depth < MAX_CAUSES && { cause: causeToJson(cause, depth + 1) }),
  };
}

/**
 * Adds a `toJSON` that is not enumerable to an object with an `error`: `JSON.stringify` would write an `Error` as `{}`.
 */
export function withJsonError<T extends object>(value: T): T {
  const toJSON = () => ({ ...value, error: errorToJson((value as { error?: unknown }).error) });
  return Object.defineProperty(value, 'toJSON', { value: toJSON, enumerable: false });
}

function textOf(value: unknown): string {
  return (
    attempt(() => String(value)) ??
    `${typeof value === 'object' ? 'an object' : `a ${typeof value}`} that cannot be shown`
  );
}

/** `undefined` where reading throws (a getter, a revoked proxy): one failure must not become another. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined; // unreadable, which is all that can be said of it
  }
}
