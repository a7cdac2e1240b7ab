/* The events: their names, their payloads, and what is durable by then. The hub in `../events.ts` delivers them. */
import type { BackgroundTaskError } from '../errors.js';
import type { AnyTaskKind, Task } from './kind.js';
import type { OwnerIdentity } from './types.js';

/** What one pass over the active tasks found. Ids, but for `checked`, which counts. Frozen. */
export interface ReconcileReport {
  /** How many tasks were looked at. */
  readonly checked: number;
  /** Those that were found to have ended, lost ones included. */
  readonly settled: readonly string[];
  /** Those that run on under this manager, which did not launch them. */
  readonly adopted: readonly string[];
  /** Those whose work is provably gone. */
  readonly lost: readonly string[];
  /** Those that could not be judged; the next pass tries again. */
  readonly failures: readonly { readonly taskId: string; readonly error: Error }[];
}

/**
 * The list of events, over the type that tasks have in it: the public types narrow it by kind; inside the manager it is
 * the record.
 */
export type EventsOf<T> = {
  /** Registered while no slot was free. The record is durable; nothing was launched. */
  'task:queued': { task: T };
  /**
   * The work was launched, at once, out of the queue, or for another attempt. The record, with `startedAt`, is durable.
   */
  'task:started': { task: T };
  /** The host changed description or metadata, or the work its details. The change is durable. */
  'task:updated': { task: T };
  /** The work reported progress. Emitted at once, at times before it is durable: that happens at most once a second. */
  'task:progress': { task: T };
  /** The work asked a question: `task.waitingFor`. The question is durable. */
  'task:waiting': { task: T };
  /** The question was answered: `task.lastInput`, durable. */
  'task:resumed': { task: T };
  /**
   * A foreground task went to the background: asked to, or at its deadline. Durable; from now on it holds a slot and
   * owes its hooks.
   */
  'task:detached': { task: T; byTimeout: boolean };
  /**
   * A stop is on record: `task.stop`. Durable before the first signal is sent; where the disk refuses, `error` comes
   * instead.
   */
  'task:stopping': { task: T };
  /** A dead owner's task that still runs is this manager's now. Its new owner is on record. */
  'task:adopted': { task: T };
  /** The task ended. Its outcome and the deliveries it owes are durable, and nothing will change the outcome. */
  'task:settled': { task: T };
  /** The task's record and output were removed. */
  'task:pruned': { taskId: string };
  /** A hook succeeded at this attempt; that is on record, and it is not called again for this task. */
  'hook:delivered': { task: T; hook: string; attempt: number };
  /** An attempt failed and another one follows. The attempt, the error and the time of the next one are on record. */
  'hook:retrying': { task: T; hook: string; attempt: number; error: Error; nextAttemptAt: number };
  /** The last attempt failed, or a permanent failure came. On record as `failed` until `redeliver` or `skipHook`. */
  'hook:failed': { task: T; hook: string; attempt: number; error: Error };
  /** A record could not be read. It was moved aside, untouched; `movedTo` is `null` where it was left in place. */
  'record:rejected': { path: string; movedTo: string | null; reason: string };
  /** A pass over the active tasks is over; what it found is durable, but for the report's `failures`. */
  'manager:reconciled': { report: ReconcileReport };
  /**
   * Another manager took the directory over; `null`: it is not known who, or nobody did and the directory, or this
   * manager's claim in it, is gone (every call then says which). This manager writes nothing any more.
   */
  'manager:fenced': { owner: OwnerIdentity | null };
  /**
   * Something failed that no call could report: a write that is tried again later, a stop that could not be recorded,
   * output that was lost, a listener (`LISTENER_FAILED`, with what it threw as `cause`). Where nobody listens, to this
   * or to all, it is a process warning.
   */
  error: { error: BackgroundTaskError; taskId?: string };
};

/**
 * Every event with its payload. Each `task:` event is emitted exactly once per transition in this process, after the
 * record that it tells of is durable (`task:progress` excepted, see there). A `type`, so that it can be given to any
 * event emitter.
 */
export type BackgroundTaskEvents<K extends AnyTaskKind = never> = EventsOf<Task<K>>;

export type EventName = keyof EventsOf<never>;

/** A type has no names at run time. The compiler refuses a name that only one of the two has. */
const names: Readonly<Record<EventName, true>> = {
  'task:queued': true,
  'task:started': true,
  'task:updated': true,
  'task:progress': true,
  'task:waiting': true,
  'task:resumed': true,
  'task:detached': true,
  'task:stopping': true,
  'task:adopted': true,
  'task:settled': true,
  'task:pruned': true,
  'hook:delivered': true,
  'hook:retrying': true,
  'hook:failed': true,
  'record:rejected': true,
  'manager:reconciled': true,
  'manager:fenced': true,
  error: true,
};
/** The names of all events. */
export const eventNames = Object.keys(names) as readonly EventName[];

export function isEventName(value: unknown): value is EventName {
  return Object.hasOwn(names, value as PropertyKey);
}
