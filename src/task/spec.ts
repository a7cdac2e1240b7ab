import type { AnyTaskKind, ExistingWork, Run, TaskKind } from './kind.js';
import type { JsonObject, JsonValue } from './types.js';

/**
 * A place below the limits, taken by `reserveSlot`. Give it to `registerTask` as `slot`, or back with `release()` or
 * `using`.
 */
export interface Slot extends Disposable {
  /** The group whose limit it counts for, too. */
  readonly group: string | undefined;
  /** Gives the place back. Harmless when done twice, and once a task has taken the slot over. */
  release(): void;
}

/** The fields that every spec has. */
export interface SpecBase {
  /** For people: what this task is. Not blank. */
  description: string;
  /** The task's id. Absent: `<idPrefix>-<8 of 0-9a-z>`. Taken: `TASK_EXISTS`. */
  taskId?: string | undefined;
  /**
   * Milliseconds from the start until the task is stopped with cause `deadline`. 0 or absent: no deadline. Time asleep
   * counts.
   */
  timeoutMs?: number | undefined;
  /**
   * Milliseconds from the registration until a task that is still queued is `timed_out`. 0 or absent: it waits as long
   * as it takes.
   */
  queueTimeoutMs?: number | undefined;
  /**
   * Milliseconds from the task's end until its record and output are removed, foreground tasks included; never while a
   * hook is owed or failed. 0: as soon as it has ended and owes nothing. Absent: `retention` decides. On record: it
   * holds after a restart, too.
   */
  ttlMs?: number | undefined;
  /** For limits by group and for filters. 1 to 256 characters. */
  group?: string | undefined;
  /**
   * Registering the same key again, also after a restart, gives the task that is there already. 1 to 1,024 characters.
   */
  idempotencyKey?: string | undefined;
  /**
   * The host's own JSON object, never interpreted. `object`, because an interface is not assignable to an index
   * signature.
   */
  metadata?: object | undefined;
  /** The hooks that this task owes its completion to. Absent: all that the manager has; `[]`: none. */
  hooks?: readonly string[] | undefined;
  /**
   * A slot from `reserveSlot`, of the same group. The registration takes it over, and gives it back when it is refused.
   */
  slot?: Slot | undefined;
  /** What to do when no slot is free. Default: the manager's `whenFull`. */
  whenFull?: 'reject' | 'queue' | undefined;
  /**
   * `false`: a foreground caller waits for it; it takes no slot and owes no hook until it is detached. Default `true`.
   */
  detached?: boolean | undefined;
  /**
   * Stops a foreground task when aborted; the message of its reason is the stop's reason. Ignored once detached; with a
   * detached task `INVALID_SPEC`.
   */
  signal?: AbortSignal | undefined;
  /**
   * The deadline from the moment of detaching, in milliseconds. 0: none. Absent: the deadline stays as it is. With a
   * detached task `INVALID_SPEC`.
   */
  detachTimeoutMs?: number | undefined;
  /**
   * `true`: the deadline of a foreground task detaches it instead of ending it; `INVALID_SPEC` with a detached task,
   * and without `timeoutMs`. Default `false`.
   */
  detachOnTimeout?: boolean | undefined;
}

/** A shell command or an argument vector, run under a supervisor that outlives the host. */
export interface ProcessSpec extends SpecBase {
  kind: 'process';
  /**
   * A string is run by `/bin/sh -c`; an argument vector is run as it stands. Where its program is not there (exit code
   * 127) or cannot be executed (126), the task's `error.name` is `CommandNotFoundError` or `CommandNotExecutableError`;
   * any other failure is a `ProcessExitError`.
   */
  command: string | readonly string[];
  /** Default: the host's working directory. Missing or not a folder: `LAUNCH_FAILED`. */
  cwd?: string | URL | undefined;
  /** Added to the host's environment; `undefined` removes a variable. Never recorded. Accepts `process.env`. */
  env?: Readonly<Record<string, string | undefined>> | undefined;
  /** `false`: `env` is the whole environment. Default `true`. */
  inheritEnv?: boolean | undefined;
  /**
   * Beyond it the task is stopped with cause `output_limit`. Bytes, at least 1. Default: the manager's
   * `maxOutputBytes`.
   */
  maxOutputBytes?: number | undefined;
}

/** The work of an in-process task: a `run`, or work that is there already. Exactly one of the two. */
export type InProcessWork<Details, Result> =
  | {
      /** The work: the task ends as its promise does. */
      run: Run<Details, Result>;
      work?: undefined;
    }
  | {
      run?: undefined;
      /**
       * Work that runs already. It is never queued: where no slot is free, `CAPACITY_EXCEEDED`, also with the manager's `whenFull: 'queue'`;
       * `whenFull: 'queue'` and `queueTimeoutMs` beside it are `INVALID_SPEC`.
       */
      work: ExistingWork<Result>;
    };

/** Work inside the host, of the built-in kind `function`. */
export type FunctionSpec<Result> = SpecBase & { kind: 'function' } & InProcessWork<JsonObject, Result>;

/** The spec of a host-defined kind: `details` and `run` or `work`, or `details` and `input` where the work outlives the host. */
export type SpecOfKind<K> =
  K extends TaskKind<infer N, infer D, infer R, infer I, infer S>
    ? SpecBase & { kind: N; details: D } & (S extends true
          ? undefined extends I
            ? { input?: I }
            : { input: I }
          : InProcessWork<D, JsonValue extends R ? R | void : R>)
    : never;
/** The spec that belongs to a kind's name. */
export type SpecNamed<K extends AnyTaskKind, N> = Extract<SpecOfKind<K>, { kind: N }>;
