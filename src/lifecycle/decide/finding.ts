/* What can be found out about a task, or asked of it: everything that a record may change for. */
import type { TaskRecord } from '../../task/record.js';
import type { Ending } from '../../task/status.js';
import type { JsonObject, JsonValue, OwnerIdentity, TaskError, TaskStop, WaitingFor } from '../../task/types.js';

/** How a task was found to have ended. Fixed when it is found: a write that fails does not change it. */
export interface Outcome {
  readonly ending: Ending;
  /** As it was found; on record it is never before the start, since the wall clock may have been set back. */
  readonly endedAt: number;
  readonly error?: TaskError;
  readonly result?: JsonValue;
  readonly details?: JsonObject;
  readonly stopReason?: string;
  /** What to say where that makes the task `lost`: a stop may go on record before this does. */
  readonly whyLost?: string;
  /** Nothing started. Where the caller was told, no hook is owed. */
  readonly neverBegan?: 'caller was told' | 'nobody was told';
  /** It outlived the host that waited for it in the foreground: nobody heard of its end, so its hooks are owed. */
  readonly outlivedCaller?: boolean;
}

/** How work that goes on was found to stand: it asks this, or it works. */
export interface Standing {
  /** What it asks, where it waits for an answer. */
  readonly prompt?: string | undefined;
  /** The details that differ from those on record. */
  readonly details?: JsonObject | undefined;
  /** The record that the work was looked at with: an answer may have resumed the task since. */
  readonly lookedAt: TaskRecord;
}

interface Now {
  /** Milliseconds since the epoch. */
  readonly now: number;
}

interface Findings {
  /** Registered while no slot was free. */
  queued: object;
  /** It has its slot, and its work begins after this is on record. */
  begun: Now & { readonly owner: OwnerIdentity };
  /** Its work was launched. */
  launched: object;
  /** It never began, and waits for a slot again: under this owner, where it was another one's. */
  requeued: Now & { readonly owner: OwnerIdentity; readonly details?: JsonObject | undefined };
  /** Its owner died, and its work lives. */
  adopted: Now & { readonly owner: OwnerIdentity; readonly details?: JsonObject | undefined };
  /** Its owner died and its work with it, and its kind begins the work again. */
  recovered: Now & { readonly owner: OwnerIdentity };
  /** A probe found that its work goes on. */
  standing: Now & Standing;
  /** In-process work asks a question. */
  asked: { readonly waitingFor: WaitingFor };
  /** An answer is about to be given to the work. */
  answering: Now & { readonly value: JsonValue };
  /** The work has the answer. `ifResumed`: what to do where a probe has found so before. */
  answered: Now & { readonly value: JsonValue; readonly ifResumed: 'refuse' | 'keep' };
  /** The work changed its details. `merge` gives them whole, and may throw. */
  detailed: { readonly merge: (details: JsonObject) => JsonObject };
  /** There is progress that is not on record yet. */
  progressed: object;
  /** The host changed its own words. */
  described: { readonly description?: string | undefined; readonly metadata: JsonObject };
  /** Sent to the background, on request or by its deadline. */
  detached: Now & { readonly byTimeout: boolean };
  /** A stop was asked for, or its owed deliveries are withdrawn with one. */
  stopped: {
    readonly stop: TaskStop;
    readonly skipHooks: boolean;
    /** Whether what came before has made it pointless; asked when it is decided on. */
    readonly isWanted?: (() => boolean) | undefined;
  };
  /** A delivery was made, failed or was withdrawn. `next` gives the record with it, or nothing to leave it. */
  delivered: { readonly next: (record: TaskRecord) => TaskRecord | undefined };
  /** Its work has ended. `inline`: the result goes into the record. */
  ended: { readonly outcome: Outcome; readonly inline: boolean };
}

export type FindingName = keyof Findings;
/** A finding by its name, or any. */
export type Finding<N extends FindingName = FindingName> = { [K in N]: { readonly is: K } & Findings[K] }[N];
