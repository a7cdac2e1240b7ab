import type { BuiltInKind } from './built-in.js';
import type { HookState, StopCause, TaskStatus, TerminalStatus } from './status.js';

export type { ActiveStatus, HookState, StopCause, TaskStatus, TerminalStatus } from './status.js';

/** Any JSON value. */
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue };
/** A JSON object. */
export type JsonObject = { readonly [key: string]: JsonValue };
/** A value, or a promise of it. */
export type Awaitable<T> = T | PromiseLike<T>;

/**
 * Standard Schema v1, copied in as its authors advise (https://standardschema.dev): zod 3.24+ and 4, valibot and
 * arktype all satisfy it. Schemas given to holdfast must be synchronous and without transforms.
 */
export interface StandardSchema<Output = unknown> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => unknown;
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined;
  };
}

/** An error as it is recorded; the message is cut at 8 KiB. */
export interface TaskError {
  readonly name: string;
  readonly message: string;
  readonly code?: string;
}
/** The progress that a task last reported. */
export interface Progress {
  readonly message?: string;
  readonly current?: number;
  readonly total?: number;
  /** Milliseconds since the epoch. */
  readonly updatedAt: number;
}
/** The question that a waiting task asks. */
export interface WaitingFor {
  readonly prompt: string;
  readonly data?: JsonValue;
  /** Milliseconds since the epoch. */
  readonly requestedAt: number;
}
/** One delivery of a task to a hook: what is owed, or how it ended. */
export interface OwedDelivery {
  readonly state: HookState;
  /** Attempts that were made, over all hosts. */
  readonly attempts: number;
  readonly lastError?: TaskError;
  /** Milliseconds since the epoch; only between two attempts. */
  readonly nextAttemptAt?: number;
  /** Milliseconds since the epoch; only once delivered. */
  readonly deliveredAt?: number;
}
/** Who owns a directory, or launched or adopted a task: enough to tell later whether that owner still lives. */
export interface OwnerIdentity {
  /** Random, one per manager. */
  readonly instanceId: string;
  readonly hostname: string;
  /** Changes with every boot of the machine. */
  readonly bootId: string;
  /** The pid namespace in which `pid` means something. */
  readonly pidNamespace: string;
  readonly pid: number;
  /** The start time of `pid` in clock ticks since boot: tells a recycled pid from the owner's. */
  readonly startTicks: string;
}
/** The stop on record: written before the first signal is sent. */
export interface TaskStop {
  readonly cause: StopCause;
  readonly reason?: string;
  /** Milliseconds since the epoch. */
  readonly requestedAt: number;
}

declare const unknownKind: unique symbol;
/**
 * Marks the kinds that a host defines, so that a task of a manager with kinds is also a task where its kind is not
 * known.
 */
interface HostKind {
  readonly [unknownKind]: true;
}
/** `kind` as a snapshot has it: the name, which the compiler also knows to be one that a host defined. */
export type KindField<Kind> = Kind extends BuiltInKind
  ? Kind
  : Kind extends string
    ? string extends Kind
      ? Kind
      : Kind & HostKind
    : Kind;

/** One frozen snapshot of a task: its record, typed by its kind. All times are milliseconds since the epoch. */
export interface TaskOf<Kind, Details, Result = JsonValue> {
  /** 1 to 64 of `a-z0-9`, in groups joined by `-` or `_`: safe as a file name. */
  readonly taskId: string;
  /** `process`, `function`, or the name of a kind that the host defined. */
  readonly kind: KindField<Kind>;
  /** For people: what this task is. */
  readonly description: string;
  /** Where the task is in its life. Nothing leaves a terminal status. */
  readonly status: TaskStatus;
  /** `false` while a foreground caller still waits for it. */
  readonly detached: boolean;
  /** When it was registered. */
  readonly createdAt: number;
  /** `null` while queued, and for a task whose launch failed. */
  readonly startedAt: number | null;
  /**
   * The true end, also of a task that ended while no host was alive; `null` while active. Of a process by the clock of
   * files, which may be a few milliseconds behind that of `deadlineAt` and `stop.requestedAt`.
   */
  readonly endedAt: number | null;
  /** Absent or 0: no deadline. Counts from `startedAt`. */
  readonly timeoutMs?: number;
  /**
   * The record and its output are removed so long after its end, in milliseconds, unless a hook is owed or failed.
   * Absent: `retention` decides.
   */
  readonly ttlMs?: number;
  /** When `timeoutMs` is over. Absolute, so that it survives a restart. */
  readonly deadlineAt?: number;
  /** For limits by group and for filters. */
  readonly group?: string;
  /** Registering the same key again gives this task. */
  readonly idempotencyKey?: string;
  /** 1, and one more for each time that `recover` took the task up again. */
  readonly attempt: number;
  /**
   * One more with every write of the record: 1 for the first. 0: read from a record that never had one, and not written
   * since.
   */
  readonly revision: number;
  /**
   * When the record was last written, in milliseconds since the epoch by the wall clock. Read from a record without
   * one: the latest time that it holds of `endedAt`, `startedAt` and `createdAt`.
   */
  readonly updatedAt: number;
  /** The manager that launched or adopted it last. `null`: read from a legacy record that never had an owner. */
  readonly owner: OwnerIdentity | null;
  /** The first stop that was asked for. */
  readonly stop?: TaskStop;
  /** Why it ended, for people. */
  readonly stopReason?: string;
  /** What the work last reported. */
  readonly progress?: Progress;
  /** The open question; only while `waiting`. */
  readonly waitingFor?: WaitingFor;
  /** The last question that was answered. */
  readonly lastInput?: { readonly prompt: string; readonly value: JsonValue; readonly answeredAt: number };
  /** Why it failed; only when `failed`. */
  readonly error?: TaskError;
  /** What the work returned; absent while active, and where it was too large for the record (`readResult` has it). */
  readonly result?: Result;
  /** The fields of the kind. */
  readonly details: Readonly<Details>;
  /** The host's own JSON, never interpreted. */
  readonly metadata: JsonObject;
  /** What is owed to each hook, by its name, and how the deliveries ended. */
  readonly hooks: { readonly [hook: string]: OwedDelivery };
}

/** The fields of a process task. `cwd` and `pid` are null where a legacy record never had them. */
export interface ProcessDetails {
  /** A string (run by `/bin/sh -c`) or an argument vector. */
  command: string | readonly string[];
  cwd: string | null;
  /** The supervisor's pid, which is also its session and process group. */
  pid: number | null;
  /** The number the shell gave: 0 to 255, 128+n after signal n; `null` until it ended, or when nobody saw it end. */
  exitCode: number | null;
  /** Named for 128+n. It may have been an exit code: a shell does not tell the two apart. */
  signal: string | null;
  /** The names that the spec's `env` set or removed. Their values are on no record. Absent: none. */
  envNames?: readonly string[];
  /** `false`: the spec's `env` was the whole environment. */
  inheritEnv?: false;
}
/** A task of the built-in kind `process`. */
export type ProcessTask = TaskOf<'process', ProcessDetails, never>;
/** A task of the built-in kind `function`. */
export type FunctionTask<Result = JsonValue> = TaskOf<'function', JsonObject, Result>;

/**
 * The kind of a record that this host did not define. It is not `string` on purpose: beside a `string` member a
 * comparison such as `task.kind === 'process'` would not narrow. `String(task.kind)` gives the name.
 */
// biome-ignore lint/complexity/noBannedTypes: the wrapper type is the point, see above.
export interface UnknownKind extends String, HostKind {}
/** Details of which only JSON is known. */
type UnknownDetails = { readonly [key: string]: unknown };
/**
 * A task of a kind that this host did not define: listed and kept, never probed. A task of any kind that a host defines
 * is one.
 */
export type UnknownTask = TaskOf<UnknownKind, UnknownDetails, unknown>;

declare const otherKind: unique symbol;
/**
 * The kind of a record that a manager with kinds of its own does not have. A kind of the manager's own is none, so that
 * comparing narrows.
 */
export interface OtherKind extends UnknownKind {
  readonly [otherKind]: true;
}
/** The {@link UnknownTask} of a manager with kinds of its own. */
export type OtherTask = TaskOf<OtherKind, UnknownDetails, unknown>;

/** What every guard accepts: a task of any kind. */
export type AnyTask = TaskOf<string | UnknownKind, unknown, unknown>;
/** A task, by its id or as it was handed out. */
export type TaskRef = string | AnyTask;

/** What `isTerminal` narrows a task to. */
export interface Ended {
  readonly status: TerminalStatus;
  readonly endedAt: number;
}
/** What `isWaiting` narrows a task to. */
export interface Waiting {
  readonly status: 'waiting';
  readonly waitingFor: WaitingFor;
}
/** What `isFailed` narrows a task to. */
export interface Failed {
  readonly status: 'failed';
  readonly endedAt: number;
  readonly error: TaskError;
}
