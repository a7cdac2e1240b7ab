import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { BackgroundTaskError } from './errors.js';
import { checkHookName, parseHook } from './hooks/definition.js';
import type { HookDefinition } from './hooks/types.js';
import type { LegacyShape } from './legacy/types.js';
import { builtInKinds } from './task/built-in.js';
import { countOrInfinity, functionOf, milliseconds, wholeNumber } from './task/fields.js';
import { type AnyTaskKind, type KindRuntime, type RecoverProcess, runtimeOf } from './task/kind.js';
import { validate } from './task/problems.js';
import { MAX_RESULT_BYTES } from './task/record.js';
import type { Differences, None } from './task/same.js';
import { isStandardSchema } from './task/schema.js';
import { came, show } from './task/show.js';

/** What `BackgroundTaskManager.open` takes. Every optional input also accepts `undefined`, which means the default. */
export interface OpenOptions<Kinds extends readonly AnyTaskKind[]> {
  /** Where the records live: a path or a `file:` URL. Created where missing, mode 0700. Must not be renamed while tasks run. */
  directory: string | URL;
  /** Detached tasks that may run or wait at once; foreground ones do not count. Minimum 1. Default: no limit. */
  maxRunningTasks?: number | undefined;
  /** The same for each `group`; tasks without one do not count. Minimum 0, a number or a function of the group. Default: no limit. */
  maxRunningTasksPerGroup?: number | ((group: string) => number) | undefined;
  /** When no slot is free: `'reject'` with `CAPACITY_EXCEEDED` (default), or `'queue'`, oldest first. */
  whenFull?: 'reject' | 'queue' | undefined;
  /** Between two reconcile passes, in milliseconds, from the end of one to the start of the next, while a task is active. 0: no timer, the host calls `reconcile()`. Default 10,000. */
  reconcileIntervalMs?: number | undefined;
  /** From SIGTERM (or an aborted signal) to SIGKILL (or being given up on), in milliseconds, from the moment the stop is on record. Minimum 0. Default 5,000. */
  stopGraceMs?: number | undefined;
  /** Per process task, in bytes; beyond it the task is stopped with cause `output_limit`. Minimum 1. Default `Infinity`. */
  maxOutputBytes?: number | undefined;
  /** A larger result is kept in a file of its own, for `readResult`. Bytes of JSON, 0 to 262,144. Default 262,144. */
  maxResultBytes?: number | undefined;
  /** `false`: records survive a killed process, but not a power cut. Default `true`. */
  fsync?: boolean | undefined;
  /** What is removed by itself; tasks with an owed or failed hook never are. Default: every detached task is kept. */
  retention?:
    | {
        /** Ended longer ago than this, in milliseconds. Default: no limit. */
        maxAgeMs?: number | undefined;
        /** The newest so many ended detached tasks stay, owed ones counted; of the older ones, all that owe nothing go. Default: no limit. */
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
   * `false`: what was queued under an owner that ended, and what never began, is `lost`, and nobody is asked. Default `true`: it is queued under
   * this owner, in its old order, and launched once. What was accepted runs.
   */
  resumeQueued?: boolean | undefined;
  /**
   * Asked about a process that never began, and whose `env` or `inheritEnv: false` no record could hold: gives the environment to launch it
   * with, or nothing, and the task is `lost`. Limited to 30 s. Absent: such tasks are `lost`.
   */
  recoverProcess?: RecoverProcess | undefined;
  /** More record shapes to read, tried before the built-in ones. */
  legacyShapes?: readonly LegacyShape[] | undefined;
  /**
   * Takes a directory over whose owner cannot be judged (another machine, another container) once its heartbeat stood still for this
   * long, in milliseconds of this process's monotonic clock; `open` waits for it. The heartbeat beats every 10 s: less than 30,000 robs
   * owners that live. 0 or absent: never, `DIRECTORY_OWNED`.
   */
  foreignOwnerTimeoutMs?: number | undefined;
  /**
   * Settles a process as `lost` that lives where this manager can neither see nor signal it (a container that may be gone, another machine) and
   * left no exit record, in milliseconds of this process's monotonic clock since this manager first found it so. Looked at by each reconcile;
   * 0: at the first look, before `open` resolves. Minimum 0. Absent: never; it stays `running` until its exit record appears. Only for hosts
   * that know that such a process cannot live any more: nobody is signalled.
   */
  abandonAfterMs?: number | undefined;
  /**
   * How long `open` waits, in milliseconds from its call, for an owner that lives (or of which that cannot be told) to give the directory up or
   * to die, before it throws `DIRECTORY_OWNED`. Where several wait, one gets the directory, and the others wait for that one until their own
   * time is up. `open` holds the process meanwhile. 0 or absent: it does not wait.
   */
  waitForOwnerMs?: number | undefined;
  /** Aborting it ends that wait: `open` rejects with its reason, and has touched nothing. Once the directory is owned it means nothing any more. */
  signal?: AbortSignal | undefined;
}

const DIRECTORY = 'expected a path or a file: URL';

const schema = z.strictObject({
  directory: z
    .union([z.string().min(1, DIRECTORY), z.instanceof(URL).refine((url) => url.protocol === 'file:', DIRECTORY)], {
      error: DIRECTORY,
    })
    .refine((value) => !String(value).includes('\0'), 'expected a path without a NUL byte')
    .transform((value) => (value instanceof URL ? fileURLToPath(value) : value)),
  maxRunningTasks: countOrInfinity(1).default(Infinity),
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

/** Checks the options of `open`. Throws `INVALID_OPTIONS` naming every problem, before anything was touched. */
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
