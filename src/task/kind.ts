/*
 * Kinds: what the manager needs to know to launch, look at and stop a sort of work. The public half carries types; the private half,
 * KindRuntime, is reached by a registered symbol, so that a kind defined with the CommonJS copy works in the ESM one.
 */
import { BackgroundTaskError } from '../errors.js';
import { isTaskId, MAX_ID_LENGTH, namePattern } from './id.js';
import { isMisspelling, unknownKey } from './nearest.js';
import { checkSchema, isStandardSchema } from './schema.js';
import { came, show } from './show.js';
import type {
  AnyTask,
  Awaitable,
  FunctionTask,
  JsonObject,
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
 * What the probe of a built-in kind may add to `gone`: nothing of this task ever ran, and nothing can any more. Such a task goes back to the
 * queue.
 * @internal
 */
export interface NeverBegan {
  readonly neverBegan: true;
  readonly details: JsonObject;
}

/**
 * What the probe of a built-in kind adds to `running` where the work can neither be seen nor signalled from here: where it lives, in words for
 * people.
 * @internal
 */
export interface OutOfReach {
  readonly outOfReach: string;
}

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

/**
 * The private half of a kind, without its types. `start` present: the work outlives the host, and `probe` says how it goes.
 * @internal
 */
export interface KindRuntime {
  readonly name: string;
  readonly idPrefix: string;
  readonly details: StandardSchema;
  readonly result: StandardSchema | undefined;
  readonly start?: (context: StartContext<any> & { readonly task: AnyTask }, input: any) => Awaitable<object | void>;
  readonly probe?: (task: any) => Awaitable<Probe<JsonObject, unknown>>;
  readonly stop?: (task: any, how: 'terminate' | 'kill') => Awaitable<void>;
  readonly provideInput?: (task: any, value: JsonValue) => Awaitable<void>;
  readonly recover?: (task: any) => Awaitable<unknown>;
  /**
   * For built-in kinds whose records hold all that a launch needs but for what this names, in words for people. Absent: a launch needs what the
   * spec brought as `run` or `input`.
   */
  readonly missing?: (task: any) => string | undefined;
  /** Asked for what is missing, instead of `recover`: about tasks that never began, and no others. */
  readonly resupply?: ((task: any) => Awaitable<unknown>) | undefined;
  /** How a spec of this kind is read, where it is not `details` with `run` or `input`. */
  readonly spec?: SpecReader;
  /** Called once the outcome of a task is durable, for built-in kinds that keep files of their own. */
  readonly settled?: (task: any) => Awaitable<void>;
  /** For built-in kinds whose work goes on without the host, and that keep something for each task: makes it. Then there is no `start`. */
  readonly attach?: (taskId: string, port: WorkPort) => AttachedWork;
}

/**
 * What a built-in kind may say to the task that it works for.
 * @internal
 */
export interface WorkPort {
  /** Something happened: look at the task. */
  hint(): void;
  /** The output is beyond `maxOutputBytes`, and the work stands still: stop it. */
  outputLimit(): void;
  /** The `error` event. */
  report(error: Error): void;
}

/**
 * What a built-in kind keeps for one task, from the first call that concerns the task until `dispose`.
 * @internal
 */
export interface AttachedWork extends Pick<KindRuntime, 'start' | 'probe' | 'stop' | 'provideInput' | 'settled'> {
  /** The manager closes: nothing begins by itself any more. Resolves once what had begun is over and was told through the port. */
  quiesce?(): Promise<void>;
  /** The task has ended, or the manager has: nothing is left of it in this process. The work itself goes on. `hasStop`: a stop is on record. */
  dispose?(hasStop: boolean): Promise<void>;
}

/**
 * The fields that a kind's specs have beside the common ones, and what they mean.
 * @internal
 */
export interface SpecReader {
  /** A zod shape. */
  readonly fields: Readonly<Record<string, unknown>>;
  read(spec: any): {
    readonly details: unknown;
    readonly input: unknown;
    readonly maxOutputBytes?: number | undefined;
  };
}

const callbacks = ['start', 'probe', 'stop', 'provideInput', 'recover', 'missing', 'resupply', 'settled'] as const;

/** What an id has beside its prefix fits, with room to spare. */
const MAX_NAME_LENGTH = MAX_ID_LENGTH - 24;

const runtimeKey = Symbol.for('holdfast.kind');

/**
 * Defines a kind whose work outlives the host: `start` launches it, `probe` says how it goes (asked by every reconcile), `stop` ends it.
 * Throws `INVALID_OPTIONS` for a definition that cannot work.
 */
export function defineTaskKind<const Name extends string, Details, Input, Result = JsonValue>(
  definition: KindBase<Name, Details, Result> & {
    /** `input` is the spec's, held in memory and never recorded: environment, secrets, prompts. Annotate it: its type is the spec's. */
    start(context: StartContext<NoInfer<Details>>, input: Input): Awaitable<Partial<NoInfer<Details>> | void>;
    /** How the work goes. Throwing settles nothing: the failure is reported and the next reconcile asks again. Limited to 30 s. */
    probe(task: TaskOf<Name, NoInfer<Details>, NoInfer<Result>>): Awaitable<Probe<NoInfer<Details>, NoInfer<Result>>>;
    /** `terminate` first; `kill` once the grace is over, again until the probe says that it ended. */
    stop?(task: TaskOf<Name, NoInfer<Details>, NoInfer<Result>>, how: 'terminate' | 'kill'): Awaitable<void>;
    /** The owner died and so did the work: input for a next attempt, or nothing, and the task is lost. */
    recover?(task: TaskOf<Name, NoInfer<Details>, NoInfer<Result>>): Awaitable<{ input: NoInfer<Input> } | undefined>;
    /** What `provideInput` does while a probe says `waiting`. */
    provideInput?(task: TaskOf<Name, NoInfer<Details>, NoInfer<Result>>, value: JsonValue): Awaitable<void>;
  },
): TaskKind<Name, Details, Result, Input, true>;
/** Defines a kind whose work lives in the host: each spec brings its `run`. Throws `INVALID_OPTIONS` for a definition that cannot work. */
export function defineTaskKind<const Name extends string, Details, Result = JsonValue>(
  definition: KindBase<Name, Details, Result> & {
    /** The owner died and the work with it: a `run` for a next attempt, or nothing, and the task is lost. */
    recover?(
      task: TaskOf<Name, NoInfer<Details>, NoInfer<Result>>,
    ): Awaitable<Run<NoInfer<Details>, NoInfer<Result>> | undefined>;
    start?: never;
    probe?: never;
  },
): TaskKind<Name, Details, Result, undefined, false>;
export function defineTaskKind(definition: any): any {
  return kindOf(checkDefinition(definition));
}

/**
 * Defines a built-in kind that keeps something for each task, and has no `start` and `probe` of its own. `attach` is no key of a definition: the object that a host defines a kind with
 * may have a method of this name.
 * @internal
 */
export function defineAttachedKind(
  definition: KindBase<string, any, any> & Partial<KindRuntime>,
  attach: NonNullable<KindRuntime['attach']>,
): AnyTaskKind {
  return kindOf(Object.freeze({ ...checkDefinition(definition), attach }));
}

function kindOf(runtime: KindRuntime): AnyTaskKind {
  const kind = {
    name: runtime.name,
    is: (task: AnyTask): task is TaskOf<string, any, any> =>
      String(task.kind) === runtime.name && detailsFit(runtime, task) && resultFits(runtime, task),
  };
  Object.defineProperty(kind, runtimeKey, { value: runtime });
  return Object.freeze(kind);
}

function checkDefinition(definition: KindBase<string, any, any> & Partial<KindRuntime>): KindRuntime {
  if (typeof definition !== 'object' || definition === null)
    throw invalid([`expected a definition such as { name, details }, got ${came(definition)}`]);
  const { name, details, result, idPrefix = name } = definition;
  const problems = [
    ...nameProblems('name', name),
    ...(idPrefix === name ? [] : nameProblems('idPrefix', idPrefix)),
    ...schemaProblems('details', details),
    ...(result === undefined ? [] : schemaProblems('result', result)),
    ...callbackProblems(definition),
    ...misspeltKeys(definition),
  ];
  if (problems.length > 0) throw invalid(problems);
  // Methods keep their receiver: a definition may be an object with `this`.
  const bound = callbacks.flatMap((key) => (definition[key] ? [[key, definition[key].bind(definition)]] : []));
  return Object.freeze({
    name,
    idPrefix,
    details,
    result,
    spec: definition.spec,
    ...Object.fromEntries(bound),
  }) as KindRuntime;
}

function invalid(problems: readonly string[]): BackgroundTaskError {
  return new BackgroundTaskError('INVALID_OPTIONS', `defineTaskKind: ${problems.join('; ')}`);
}

function nameProblems(key: string, name: unknown): string[] {
  if (isTaskId(name) && name.length <= MAX_NAME_LENGTH) return [];
  const expected = `expected 1 to ${MAX_NAME_LENGTH} characters matching ${namePattern.source}`;
  if (name === undefined) return [`${key}: is missing; ${expected}`];
  return [`${key}: ${expected}, got ${typeof name === 'string' ? show(name) : came(name)}`];
}

function schemaProblems(key: string, schema: unknown): string[] {
  if (isStandardSchema(schema)) return [];
  const expected = 'expected a Standard Schema (zod, valibot, arktype)';
  return [schema === undefined ? `${key}: is missing; ${expected}` : `${key}: ${expected}, got ${came(schema)}`];
}

function callbackProblems(definition: Partial<KindRuntime>): string[] {
  const problems = callbacks
    .filter((key) => definition[key] !== undefined && typeof definition[key] !== 'function')
    .map((key) => `${key}: expected a function, got ${came(definition[key])}`);
  const { start, probe, stop, provideInput } = definition;
  if (start === undefined && probe !== undefined) problems.push('start: is missing; expected a function beside probe');
  if (start !== undefined && probe === undefined) problems.push('probe: is missing; expected a function beside start');
  if (start !== undefined || probe !== undefined) return problems;
  if (stop !== undefined) problems.push('stop: would have no effect; expected start and probe beside it');
  if (provideInput !== undefined)
    problems.push('provideInput: would have no effect; expected start and probe beside it');
  if ((definition as { run?: unknown }).run !== undefined)
    problems.push('run: would have no effect here; expected it in the spec of each task');
  return problems;
}

/** A definition may be an object with a state of its own: only what is nearly a known key is taken for a mistake. */
function misspeltKeys(definition: object): string[] {
  const known: readonly string[] = ['name', 'idPrefix', 'details', 'result', 'spec', ...callbacks];
  return Object.keys(definition)
    .filter((key) => !known.includes(key) && isMisspelling(key, known))
    .map((key) => `${key}: ${unknownKey(key, known)}`);
}

/** Whether the details on record satisfy the kind's schema: where not, the task is listed and kept but not probed. */
export function detailsFit(kind: KindRuntime, task: AnyTask): boolean {
  return fits(kind.details, task.details);
}

function resultFits(kind: KindRuntime, task: AnyTask): boolean {
  return task.result === undefined || kind.result === undefined || fits(kind.result, task.result);
}

/** A schema that throws does not accept the value: a record that an older host wrote must keep nobody from opening. */
function fits(schema: StandardSchema, value: unknown): boolean {
  try {
    return checkSchema(schema, value).ok;
  } catch {
    return false;
  }
}

/** The private half of a kind; `undefined` for a value that `defineTaskKind` did not make. @internal */
export function runtimeOf(kind: unknown): KindRuntime | undefined {
  return (kind as { [runtimeKey]?: KindRuntime } | null | undefined)?.[runtimeKey];
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
