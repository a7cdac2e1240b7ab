/*
 * The private half of a kind: what the manager needs to launch, look at and stop its work. It is reached by a registered symbol, so that a kind
 * defined with the CommonJS copy works in the ESM one.
 */
import type { Probe, StartContext } from './kind.js';
import { checkSchema } from './schema.js';
import type { AnyTask, Awaitable, JsonObject, JsonValue, StandardSchema } from './types.js';

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
    /** Whatever the spec and the manager say of tasks that find no slot free. */
    readonly whenFull?: 'reject';
  };
}

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

export const runtimeKey = Symbol.for('holdfast.kind');

/** The private half of a kind; `undefined` for a value that `defineTaskKind` did not make. @internal */
export function runtimeOf(kind: unknown): KindRuntime | undefined {
  return (kind as { [runtimeKey]?: KindRuntime } | null | undefined)?.[runtimeKey];
}

/** Whether the details on record satisfy the kind's schema: where not, the task is listed and kept but not probed. */
export function detailsFit(kind: KindRuntime, task: AnyTask): boolean {
  return fits(kind.details, task.details);
}

export function resultFits(kind: KindRuntime, task: AnyTask): boolean {
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
