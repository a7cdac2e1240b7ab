/* `defineTaskKind`: a definition is checked whole, and becomes a kind. */
import { BackgroundTaskError } from '../errors.js';
import { isTaskId, MAX_ID_LENGTH, namePattern } from './id.js';
import type { AnyTaskKind, KindBase, Probe, Run, StartContext, TaskKind } from './kind.js';
import { detailsFit, type KindRuntime, resultFits, runtimeKey } from './kind-runtime.js';
import { isMisspelling, unknownKey } from './nearest.js';
import type { None } from './same.js';
import { isStandardSchema } from './schema.js';
import { came, show } from './show.js';
import type { AnyTask, Awaitable, JsonValue, TaskOf } from './types.js';

const callbacks = ['start', 'probe', 'stop', 'provideInput', 'recover', 'missing', 'resupply', 'settled'] as const;
type NoCallback = 'name' | 'idPrefix' | 'details' | 'result' | 'spec' | 'attach';
/** A callback of the private half that would not reach it is an error here that names it. */
type _EachIsBound = None<Exclude<keyof KindRuntime, (typeof callbacks)[number] | NoCallback>>;

/** What an id has beside its prefix fits, with room to spare. */
const MAX_NAME_LENGTH = MAX_ID_LENGTH - 24;

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
 * Defines a built-in kind that keeps something for each task, and has no `start` and `probe` of its own. `attach` is no key of a definition: the
 * object that a host defines a kind with may have a method of this name.
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
