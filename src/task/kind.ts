/* Kinds as the host sees them: the types of a definition, of what work is given, and of the tasks of a manager. */
import type {
  AnyTask,
  Awaitable,
  FunctionTask,
  JsonValue,
  OtherTask,
  ProcessTask,
  Progress,
  StandardSchema,
  TaskError,
  TaskOf,
  UnknownTask,
} from './types.js';

/** What in-process work is given: see each member. */
export interface RunContext<Details> {
  /** The task that this work is. */
  readonly taskId: string;
  /** 1, and one more for each time that `recover` took the task up again. */
  readonly attempt: number;
  /** The details as they are on record now. */
  readonly details: Readonly<Details>;
  /** Aborted by a stop. `signal.reason` is an `AbortError` (`TimeoutError` for a deadline) whose `cause` is the stop on record. */
  readonly signal: AbortSignal;
  /**
   * Aborted when the grace of a stop is over, with the same reason as `signal`: the last moment to end by force what the work began elsewhere. The
   * task ends in this moment, whatever the work does then.
   */
  readonly killSignal: AbortSignal;
  /** Adds to the task's output, in the order of the calls. Resolves once written to the file: awaiting it bounds the memory. */
  appendOutput(chunk: string | Uint8Array): Promise<void>;
  /** `task:progress` at once; durable at most once a second, and always with the outcome. */
  reportProgress(progress: {
    message?: string | undefined;
    current?: number | undefined;
    total?: number | undefined;
  }): void;
  /** Durable when it resolves. What the work only learns once it runs: an agent id, a container id. */
  updateDetails(patch: Partial<Details>): Promise<void>;
  /**
   * Asks whoever calls `provideInput`; the task is `waiting` meanwhile, and keeps its slot and its deadline. The answer is checked
   * against `schema` and durable before this resolves. A second request while one is open waits its turn. Rejects with
   * `signal.reason` on a stop.
   */
  requestInput(prompt: string, options?: { data?: JsonValue | undefined }): Promise<JsonValue>;
  requestInput<T>(prompt: string, options: { data?: JsonValue | undefined; schema: StandardSchema<T> }): Promise<T>;
}
/** In-process work: ends as its promise does. */
export type Run<Details, Result> = (context: RunContext<Details>) => Awaitable<Result>;

/**
 * Work that is there already, given to a task in place of a `run`: a child of a remote executor, a sub-agent that runs. A registration that is
 * refused, or that gives the task already there, leaves it alone: nothing is read, and `stop` is not called; a `done` that rejects is handled.
 */
export interface ExistingWork<Result> {
  /**
   * Its output: a stream or another async iterable, or several, which are read side by side. Nothing is read before the record is on disk, and no
   * faster than it is written. The task ends once `done` has settled and all was read. One that fails before `done` settles fails the task with
   * its own error, and `stop` is called with `'terminate'`; one that fails later is reported by `error`. Absent: no output.
   */
  output?: AsyncIterable<string | Uint8Array> | readonly AsyncIterable<string | Uint8Array>[] | undefined;
  /** The task ends as it does; its result is the task's. */
  done: PromiseLike<Result>;
  /**
   * Asks it to end: `'terminate'` first, and `'kill'` once the grace is over; the task ends when `done` settles. Each is called once; `'kill'`
   * again where it threw. Absent: it is given up on when the grace is over.
   */
  stop?: ((how: 'terminate' | 'kill') => Awaitable<void>) | undefined;
}

/** What `start` of a kind that outlives the host is given. */
export interface StartContext<Details> {
  /** The task to launch. */
  readonly taskId: string;
  /** 1, and one more for each time that `recover` took the task up again. */
  readonly attempt: number;
  /** The details of the spec. */
  readonly details: Readonly<Details>;
  /** Whatever the work appends to this file is its output. Exists, mode 0600. */
  readonly outputPath: string;
  /** Aborted when the manager closes during the launch, or when the task is stopped, or its deadline passes, and the launch takes 100 ms more. */
  readonly signal: AbortSignal;
}

/** How work that outlives the host goes, as its kind found it. */
export type Probe<Details, Result> =
  | {
      readonly state: 'running';
      readonly details?: Partial<Details>;
      readonly progress?: Omit<Progress, 'updatedAt'>;
    }
  | { readonly state: 'waiting'; readonly prompt: string; readonly details?: Partial<Details> }
  | {
      readonly state: 'completed';
      readonly result?: Result;
      readonly details?: Partial<Details>;
      readonly endedAt?: number;
    }
  | {
      readonly state: 'failed';
      readonly error: TaskError;
      readonly details?: Partial<Details>;
      readonly endedAt?: number;
    }
  /** Not there any more and nothing says how it ended. A probe that throws settles nothing. */
  | { readonly state: 'gone'; readonly endedAt?: number };

/**
 * Gives the environment of a process that never began: its owner ended while it was queued or being launched, and the values of its `env` are on
 * no record (`task.details.envNames` has the names). Nothing: the task is `lost`. Limited to 30 s.
 */
export type RecoverProcess = (
  task: ProcessTask,
) => Awaitable<{ env: Readonly<Record<string, string | undefined>> } | undefined>;

/** A kind of task, made by {@link defineTaskKind} and given to `open({ kinds })`. */
export interface TaskKind<Name extends string, Details, Result, Input = undefined, Survives extends boolean = boolean> {
  readonly name: Name;
  /** Whether `task` is of this kind and its details and result satisfy the schemas. */
  is(task: AnyTask): task is TaskOf<Name, Details, Result>;
  /** @internal carries the types; never set */
  readonly '~types'?: {
    readonly details: Details;
    readonly result: Result;
    readonly input: Input;
    readonly survives: Survives;
  };
}

/** Any kind, for constraints. */
export type AnyTaskKind = TaskKind<string, any, any, any, boolean>;

/** What both sorts of kinds have in common. */
export interface KindBase<Name extends string, Details, Result> {
  /** Lower-case letters and digits in groups joined by `-` or `_`, at most 40 characters. `process` and `function` are taken. */
  name: Name;
  /** Checked at registration, at each update and by `is`. */
  details: StandardSchema<Details>;
  /** Checked when the work returns (a result that fails it makes the task `failed`) and by `is`. Absent: any JSON. */
  result?: StandardSchema<Result> | undefined;
  /** Ids are `<idPrefix>-<8>`. Default: the name. */
  idPrefix?: string | undefined;
}

/** What a manager with these kinds hands out. `switch (task.kind)` narrows; `default` is {@link UnknownTask}. Every `Task<K>` is a `Task`. */
export type Task<K extends AnyTaskKind = never> =
  | ProcessTask
  | FunctionTask
  | TaskOfKind<K>
  | ([K] extends [never] ? UnknownTask : OtherTask);
/** What a call answers that was given a `T`: a task of the same type, or, for an id, any task of the manager. */
export type SameTask<K extends AnyTaskKind, T> = 0 extends 1 & T
  ? Task<K>
  : T extends string
    ? Task<K>
    : T extends TaskOf<infer Kind, infer Details, infer Result>
      ? TaskOf<Kind, Details, Result>
      : never;
/** The task type of a kind. */
export type TaskOfKind<K> = K extends TaskKind<infer N, infer D, infer R, any, boolean> ? TaskOf<N, D, R> : never;
/** The names of the kinds of a manager. */
export type KindName<K extends AnyTaskKind> = 'process' | 'function' | K['name'];
/** The task type of a kind's name. */
export type TaskNamed<K extends AnyTaskKind, N> = Extract<Task<K>, { readonly kind: N }>;
