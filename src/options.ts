import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { BackgroundTaskError } from './errors.js';
import { checkHookName, parseHook } from './hooks/definition.js';
import type { HookDefinition } from './hooks/types.js';
import type { LegacyShape } from './legacy/types.js';
import { builtInKinds } from './task/built-in.js';
import { countOrInfinity, functionOf, milliseconds, wholeNumber } from './task/fields.js';
import type { AnyTaskKind, RecoverProcess } from './task/kind.js';
import { type KindRuntime, runtimeOf } from './task/kind-runtime.js';
import { validate } from './task/problems.js';
import { MAX_RESULT_BYTES } from './task/record.js';
import type { Differences, None } from './task/same.js';
import { isStandardSchema } from './task/schema.js';
import { came, show } from './task/show.js';

/** What `BackgroundTaskManager.open` takes. Every optional input also accepts `undefined`, which means the default. */
export interface OpenOptions<Kinds extends readonly AnyTaskKind[]> {
  /**
   * Where the records live: a path or a `file:` URL. Created where missing, mode 0700. Must not be renamed while tasks
   * run.
   */
  directory: string | URL;
  /**
   * Detached tasks that may run or wait at once; foreground ones do not count. Minimum 1. Default: no limit. A function,
   * synchronous: it is asked at each registration that needs a slot, by `reserveSlot`, and for each slot that the queue
   * gives out; it says a whole number of at least 0 (0: nothing starts), or `Infinity`. Anything else is
   * `INVALID_OPTIONS`: that, or what it throws, reaches whoever registers or reserves, and is told through `error` where
   * the queue asked; the queued tasks wait. A limit that has grown lets queued tasks begin at the next registration,
   * freed slot or reconcile; one that has shrunk stops nothing.
   */
  maxRunningTasks?: number | (() => number) | undefined;
  /**
   * Which tasks take a slot, below `maxRunningTasks` and the limits by group alike. `'detached'` (default): all in the
   * background, those included that were sent there from the foreground or adopted, which may push the count beyond a
   * limit. `'registered-detached'`: those that were registered in the background; a task that is registered in the
   * foreground never takes one. It is fixed by this option at the registration, and holds after a restart.
   */
  countsTowardsLimit?: 'detached' | 'registered-detached' | undefined;
  /**
   * The same for each `group`; tasks without one do not count. Minimum 0, a number or a function of the group. Default:
   * no limit.
   */
  maxRunningTasksPerGroup?: number | ((group: string) => number) | undefined;
  /** When no slot is free: `'reject'` with `CAPACITY_EXCEEDED` (default), or `'queue'`, oldest first. */
  whenFull?: 'reject' | 'queue' | undefined;
  /**
   * Milliseconds between two reconcile passes, from the end of one to the start of the next, while a task is active. 0:
   * no timer, the host calls `reconcile()`. Default 10,000.
   */
  reconcileIntervalMs?: number | undefined;
  /**
   * Milliseconds from SIGTERM (or an aborted signal) to SIGKILL (or giving up), counted from the moment the stop is on
   * record. Minimum 0. Default 5,000.
   */
  stopGraceMs?: number | undefined;
  /**
   * Per process task, in bytes; beyond it the task is stopped with cause `output_limit`. Minimum 1. Default `Infinity`.
   */
  maxOutputBytes?: number | undefined;
  /** A larger result is kept in a file of its own, for `readResult`. Bytes of JSON, 0 to 262,144. Default 262,144. */
  maxResultBytes?: number | undefined;
  /** `false`: records survive a killed process, but not a power cut. Default `true`. */
  fsync?: boolean | undefined;
  /**
   * What is removed automatically; tasks with an owed or failed hook never are. Default: every detached task is kept.
   */
  retention?:
    | {
        /** Tasks that ended longer ago than this are removed, in milliseconds. Default: no limit. */
        maxAgeMs?: number | undefined;
        /**
         * How many ended detached tasks to keep, the newest first. Older ones are removed; those with an owed or failed
         * hook stay, and count. Default: no limit.
         */
        maxTasks?: number | undefined;
        /** Ended foreground tasks to keep. Default 100. */
        maxForegroundTasks?: number | undefined;
      }
    | undefined;
  /** The host's own kinds, from `defineTaskKind`. */
  kinds?: Kinds | undefined;
  /** The hooks that completions must reach, by name. */
  hooks?: { readonly [hook: string]: HookDefinition<Kinds[number]> } | undefined;
  /**
   * `false`: tasks that an earlier owner left queued, or whose work never began, become `lost`, and no `recover` is
   * called. Default `true`: they are queued again, in their old order, and launched once.
   */
  resumeQueued?: boolean | undefined;
  /**
   * Gives the environment of a process that never began and whose spec had `env` or `inheritEnv: false`, which no
   * record holds. Where it gives nothing, the task is `lost`. Limited to 30 s. Absent: such tasks are `lost`.
   */
  recoverProcess?: RecoverProcess | undefined;
  /** More record shapes to read, tried before the built-in ones. */
  legacyShapes?: readonly LegacyShape[] | undefined;
  /**
   * Takes over a directory whose owner cannot be checked from here (another machine, another container) once its
   * heartbeat has not moved for so long, in milliseconds of this process's monotonic clock; `open` waits for that. The
   * heartbeat is written every 10 s: with less than 30,000 an owner that is alive may lose its directory. 0 or absent:
   * never, `DIRECTORY_OWNED`.
   */
  foreignOwnerTimeoutMs?: number | undefined;
  /**
   * Settles a process as `lost` that this manager can neither see nor signal (in a container that may be gone, on
   * another machine) and that left no exit record, so many milliseconds of this process's monotonic clock after this
   * manager first found it so. Checked by each reconcile; 0: at the first look, before `open` resolves. Minimum 0.
   * Absent: never; it stays `running` until its exit record appears. Only for hosts that know that such a process is
   * gone: no signal is sent.
   */
  abandonAfterMs?: number | undefined;
  /**
   * How long `open` waits, in milliseconds from its call, for an owner that is alive (or cannot be checked) to release
   * the directory or to die, before it throws `DIRECTORY_OWNED`. Where several managers wait, one gets the directory,
   * and the others wait for that one until their own time is up. `open` keeps the process alive meanwhile. 0 or absent:
   * it does not wait.
   */
  waitForOwnerMs?: number | undefined;
  /**
   * Aborting it ends that wait: `open` rejects with its reason, and has changed nothing. Ignored once the directory is
   * owned.
   */
  signal?: AbortSignal | undefined;
}

const DIRECTORY = 'expected a path or a file: URL';

const AT_LEAST_ONE = 'expected a whole number of at least 1, or Infinity';
const LIMIT = 'expected a whole number of at least 1, Infinity, or a function that gives a limit';
const atLeastNone = countOrInfinity(0);

const schema = z.strictObject({
  directory: z
    .union([z.string().min(1, DIRECTORY), z.instanceof(URL).refine((url) => url.protocol === 'file:', DIRECTORY)], {
      error: DIRECTORY,
    })
    .refine((value) => !String(value).includes('\0'), 'expected a path without a NUL byte')
    .transform((value) => (value instanceof URL ? fileURLToPath(value) : value)),
  maxRunningTasks: z
    .union([countOrInfinity(1), functionOf<() => number>()], {
      error: ({ input }) => (typeof input === 'number' || typeof input === 'string' ? AT_LEAST_ONE : LIMIT),
    })
    .default(Infinity)
    .transform((limit) => (typeof limit === 'number' ? () => limit : checkedTotal(limit))),
  countsTowardsLimit: z.enum(['detached', 'registered-detached']).default('detached'),
  maxRunningTasksPerGroup: z
    .union([countOrInfinity(0), functionOf<(group: string) => number>()], {
      error: 'expected a whole number, Infinity, or a function of the group',
    })
    .default(Infinity)
    .transform((limit) => (typeof limit === 'number' ? () => limit : checkedLimit(limit))),
  whenFull: z.enum(['reject', 'queue']).default('reject'),
  reconcileIntervalMs: milliseconds.default(10_000),
  stopGraceMs: milliseconds.default(5_000),
  maxOutputBytes: countOrInfinity(1).default(Infinity),
  maxResultBytes: wholeNumber(0, MAX_RESULT_BYTES).default(MAX_RESULT_BYTES),
  fsync: z.boolean().default(true),
  retention: z
    .strictObject({
      maxAgeMs: countOrInfinity(0).default(Infinity),
      maxTasks: countOrInfinity(0).default(Infinity),
      maxForegroundTasks: countOrInfinity(0).default(100),
    })
    .prefault({}),
  // What a kind and a hook must be is checked once all else is right.
  kinds: z.array(z.custom<AnyTaskKind>()).readonly().default([]),
  hooks: z.record(z.string(), z.custom<HookDefinition<any>>()).default({}),
  legacyShapes: z
    .array(
      z.custom<LegacyShape>((value) => {
        const shape = value as Partial<LegacyShape> | null;
        return (
          typeof shape?.name === 'string' && isStandardSchema(shape.schema) && typeof shape.toRecord === 'function'
        );
      }, 'expected a shape: { name, schema, toRecord }'),
    )
    .readonly()
    .default([]),
  resumeQueued: z.boolean().default(true),
  recoverProcess: functionOf<RecoverProcess>().optional(),
  foreignOwnerTimeoutMs: milliseconds.optional(),
  abandonAfterMs: milliseconds.optional(),
  waitForOwnerMs: milliseconds.default(0),
  signal: z.instanceof(AbortSignal).optional(),
});

/** An option that only the documented type has, or only the schema, is an error here that names it. */
type _SameOptions = None<Differences<OpenOptions<readonly AnyTaskKind[]>, z.input<typeof schema>>>;

/** Checked options, with every default filled in. */
export interface Settings extends Readonly<Omit<z.output<typeof schema>, 'kinds'>> {
  readonly kinds: readonly KindRuntime[];
}

/** Checks the options of `open`. Throws `INVALID_OPTIONS` naming every problem, before anything was changed. */
export function parseOptions(options: OpenOptions<readonly AnyTaskKind[]>): Settings {
  const { data, problem } = validate(schema, options === undefined ? {} : options, ['hooks']);
  if (problem !== undefined) throw new BackgroundTaskError('INVALID_OPTIONS', problem);
  const kinds = parseKinds(data.kinds);
  for (const [name, definition] of Object.entries(data.hooks)) {
    checkHookName(name);
    parseHook(name, definition);
  }
  return { ...data, kinds };
}

function checkedTotal(limit: () => number): () => number {
  return () => {
    const { data, problem } = validate(atLeastNone, limit());
    if (problem === undefined) return data;
    throw new BackgroundTaskError('INVALID_OPTIONS', `maxRunningTasks(): ${problem}`);
  };
}

function checkedLimit(limit: (group: string) => number): (group: string) => number {
  return (group) => {
    const value = limit(group);
    if (typeof value === 'number' && value >= 0) return value;
    throw new BackgroundTaskError(
      'INVALID_OPTIONS',
      `maxRunningTasksPerGroup(${show(group)}): expected a number of at least 0, got ${typeof value === 'number' ? value : came(value)}`,
    );
  };
}

function parseKinds(kinds: readonly unknown[]): KindRuntime[] {
  const names = new Set<string>(builtInKinds);
  return kinds.map((kind, index) => {
    const runtime = runtimeOf(kind);
    if (!runtime)
      throw new BackgroundTaskError(
        'INVALID_OPTIONS',
        `kinds.${index}: expected a kind from defineTaskKind, got ${came(kind)}`,
      );
    if (names.has(runtime.name))
      throw new BackgroundTaskError(
        'INVALID_OPTIONS',
        `kinds.${index}: expected a name of its own, got ${show(runtime.name)}, which is taken`,
      );
    names.add(runtime.name);
    return runtime;
  });
}
