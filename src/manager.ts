import { type Clock, systemClock } from './clock.js';
import { BackgroundTaskError } from './errors.js';
import type { ReconcileReport } from './events.js';
import { callOptions } from './lifecycle/call-options.js';
import { Calls } from './lifecycle/calls.js';
import type { Closing } from './lifecycle/closing.js';
import { type Opened, openManager } from './lifecycle/opening.js';
import { Parts } from './lifecycle/parts.js';
import type { PruneOptions } from './lifecycle/retention.js';
import type { CloseOptions } from './lifecycle/status.js';
import type { StopOptions } from './lifecycle/task/stopping.js';
import type { Task as TaskActor } from './lifecycle/task/task.js';
import type { Holder, WaitOptions } from './lifecycle/waits.js';
import { handled } from './lifecycle/work/existing-work.js';
import { type OpenOptions, parseOptions } from './options.js';
import type { OutputWindow, ReadOutputOptions } from './output/types.js';
import { Queries } from './queries.js';
import { checkOptions, type TaskSelector } from './task/filter.js';
import { taskIdOf } from './task/id.js';
import type { AnyTaskKind, KindName, SameTask, Task, TaskNamed } from './task/kind.js';
import type { FunctionSpec, ProcessSpec, Slot, SpecNamed } from './task/spec.js';
import type { FunctionTask, JsonValue, TaskRef } from './task/types.js';

/** `BackgroundTaskManager.open` with a clock of one's own, for tests. Not part of the package. */
export let openWith: <const Kinds extends readonly AnyTaskKind[] = readonly []>(
  options: OpenOptions<Kinds>,
  clock: Clock,
) => Promise<BackgroundTaskManager<Kinds[number]>>;

/**
 * Runs, records and outlives background work. One manager owns a directory at a time; open another one when this one is closed or its
 * process has died, and it goes on where this one was.
 *
 * Every method throws or rejects with `MANAGER_CLOSED` after `close`, and with `OWNERSHIP_LOST` once another manager took the directory
 * over. A pending `waitFor…`, `followOutput`, `stop…` or `close` holds the process; nothing else of the manager's does.
 */
export class BackgroundTaskManager<K extends AnyTaskKind = never> extends Queries<K> implements AsyncDisposable {
  readonly #parts: Parts;
  readonly #calls: Calls;
  readonly #holder: Holder;
  readonly #closing: Closing;

  private constructor(opened: Opened) {
    super(opened);
    if (!(opened?.parts instanceof Parts)) {
      const message =
        'expected BackgroundTaskManager.open(options), which makes a manager, got new BackgroundTaskManager';
      throw new BackgroundTaskError('INVALID_OPTIONS', message);
    }
    this.#parts = opened.parts;
    this.#holder = opened.holder;
    this.#calls = new Calls(opened.parts);
    this.#closing = opened.closing;
  }

  /**
   * Creates the directory where it is missing, takes ownership, loads every record, and reconciles once: what happened while no host was
   * alive has been judged when this resolves. No hook runs and no event is emitted before one macrotask has passed after that, so that
   * listeners attached right after `await` hear everything.
   *
   * Throws `INVALID_OPTIONS`, `DIRECTORY_OWNED` (with the owner's identity) or `STORAGE_FAILED`.
   */
  static async open<const Kinds extends readonly AnyTaskKind[] = readonly []>(
    options: OpenOptions<Kinds>,
  ): Promise<BackgroundTaskManager<Kinds[number]>> {
    return openWith(options, systemClock);
  }

  static {
    openWith = async (options, clock) => new BackgroundTaskManager(await openManager(parseOptions(options), clock));
  }

  /**
   * Registers work and launches it: reserves a slot (synchronously, before anything else), writes the record, launches, and resolves with
   * a snapshot. A queued task is launched when a slot is free. The same `idempotencyKey` again gives the task that is there already.
   *
   * Throws `INVALID_SPEC`, `INVALID_TASK_ID`, `UNKNOWN_KIND`, `UNKNOWN_HOOK`, `TASK_EXISTS`, `CAPACITY_EXCEEDED`, `STORAGE_FAILED` (then
   * nothing was launched) or `LAUNCH_FAILED` (then the task is on record as `failed`).
   */
  // One generic signature, not overloads: a typo then reads "Did you mean 'command'?" instead of three failed overloads.
  async registerTask<N extends KindName<K>, R = unknown>(
    spec: { kind: N } & (N extends 'process' ? ProcessSpec : N extends 'function' ? FunctionSpec<R> : SpecNamed<K, N>),
  ): Promise<N extends 'function' ? FunctionTask<R> : TaskNamed<K, N>> {
    handled((spec as { work?: { done?: unknown } } | null | undefined)?.work?.done);
    this.#assertOpen();
    const task = await this.#parts.registration.register(spec);
    return task as never;
  }

  /**
   * Takes a slot for work that the host prepares before it registers the task: pass it as `slot`. Throws `CAPACITY_EXCEEDED` when full,
   * also with `whenFull: 'queue'`, `INVALID_SPEC`, and `INVALID_OPTIONS` for a limit that is none.
   */
  reserveSlot(options?: { group?: string | undefined }): Slot {
    this.#assertOpen();
    const { group } = checkOptions(callOptions.reserveSlot, options, 'reserveSlot');
    return this.#parts.registration.reserve(group);
  }

  /**
   * Changes the host's own words about a task, at any time, also after its end: `description` replaces, `metadata` is merged key by key.
   * Durable when it resolves; `task:updated`. Throws `INVALID_SPEC`, `TASK_NOT_FOUND`, `RECORD_UNSUPPORTED` or `STORAGE_FAILED`.
   */
  async updateTask<T extends TaskRef>(
    task: T,
    patch: { description?: string | undefined; metadata?: object | undefined },
  ): Promise<SameTask<K, T>> {
    const actor = this.#expect(task);
    return this.#task(this.#calls.update(actor, checkOptions(callOptions.updateTask, patch, 'updateTask')));
  }

  /**
   * Resolves with the task once it has ended, or as it stands when the time is up; with `orWaiting: true` also once it waits for an answer, at
   * once where it does already. The wait never touches the task. Throws `TASK_NOT_FOUND`.
   */
  async waitForTask<T extends TaskRef>(
    task: T,
    options?: WaitOptions & { orWaiting?: boolean | undefined },
  ): Promise<SameTask<K, T>> {
    const actor = this.#expect(task);
    const checked = checkOptions(callOptions.waitForTask, options, 'waitForTask');
    return this.#task(this.#calls.waitForTask(actor, checked));
  }

  /**
   * Resolves with the first of these tasks that has ended; where none are named, of those that are active now. `undefined`: the time was
   * up, or there was nothing to wait for. Throws `TASK_NOT_FOUND`.
   */
  async waitForAny<T extends TaskRef = string>(
    tasks?: readonly T[],
    options?: WaitOptions,
  ): Promise<SameTask<K, T> | undefined> {
    this.#assertOpen();
    const named = checkOptions(callOptions.tasks, { tasks }, 'waitForAny').tasks;
    const actors = named?.map((task) => this.#expect(task));
    return this.#calls.waitForAny(actors, checkOptions(callOptions.wait, options, 'waitForAny')) as Promise<
      SameTask<K, T> | undefined
    >;
  }

  /**
   * Resolves with `true` once no task (that the filter means) is active, including ones registered meanwhile; with `false` when the time is
   * up. Foreground tasks count unless `includeForeground` is `false`.
   */
  async waitForIdle(options?: WaitOptions & { filter?: TaskSelector<Task<K>> | undefined }): Promise<boolean> {
    this.#assertOpen();
    return this.#calls.waitForIdle(checkOptions(callOptions.waitForIdle, options, 'waitForIdle'));
  }

  /**
   * Resolves when a foreground task leaves the foreground: how it was detached, or that it ended there. A task that was never in
   * the foreground is `'detached'` while it is active and `'terminal'` after that. Rejects with a `TimeoutError` when the time is up. Throws `TASK_NOT_FOUND`.
   */
  async waitForRelease(task: TaskRef, options?: WaitOptions): Promise<'detached' | 'detached_by_timeout' | 'terminal'> {
    return this.#calls.waitForRelease(this.#expect(task), checkOptions(callOptions.wait, options, 'waitForRelease'));
  }

  /**
   * Sends a foreground task to the background: from then on it counts as a running task (it is never refused) and owes its hooks. A task
   * that is detached or has ended stays as it is. Throws `TASK_NOT_FOUND`, `UNKNOWN_KIND`, `RECORD_UNSUPPORTED` or `STORAGE_FAILED`.
   */
  async detachTask<T extends TaskRef>(task: T): Promise<SameTask<K, T>> {
    return this.#task(this.#expect(task).detach(false));
  }

  /**
   * Puts the stop on record, signals the whole process tree (or aborts the signal of in-process work), and resolves once the task has ended;
   * at once for one that has. SIGTERM first, SIGKILL after the grace. The first cause on record stays; a shorter `graceMs` of a later call counts.
   *
   * `abandon: true` settles a task whose processes can neither be seen nor signalled from here as `lost`, at once and without a stop on record,
   * since nobody was stopped; `stopReason` says so. Of every other task it is an ordinary stop. Default `false`.
   *
   * Throws `TASK_NOT_FOUND`, `INVALID_SPEC` (also for a kind that defines no `stop`), `UNKNOWN_KIND`, `RECORD_UNSUPPORTED` or `OUT_OF_REACH`
   * (nothing was written).
   */
  async stopTask<T extends TaskRef>(
    task: T,
    options?: StopOptions & { abandon?: boolean | undefined },
  ): Promise<SameTask<K, T>> {
    const actor = this.#expect(task);
    const checked = checkOptions(callOptions.stopTask, options, 'stopTask');
    return this.#task(this.#holder.while(this.#calls.stop(actor, { ...checked, cause: 'user' })));
  }

  /**
   * Stops every active task (that the filter means), as `stopTask` does, and resolves with them once all have ended. Foreground tasks
   * are included unless `includeForeground` is `false`. Tasks of kinds that this manager does not have, and those whose processes are out of
   * reach, are passed over.
   */
  async stopAll(options?: StopOptions & { filter?: TaskSelector<Task<K>> | undefined }): Promise<readonly Task<K>[]> {
    this.#assertOpen();
    const { filter, ...stop } = checkOptions(callOptions.stopAll, options, 'stopAll');
    return this.#holder.while(this.#calls.stopAll(filter, { ...stop, cause: 'user' })) as Promise<never>;
  }

  /**
   * Answers a task that is `waiting`. The answer is checked and durable before the work sees it. Throws `TASK_NOT_WAITING`,
   * `INVALID_INPUT` (the task goes on waiting), `TASK_NOT_FOUND` or `STORAGE_FAILED`.
   */
  async provideInput<T extends TaskRef>(task: T, value: JsonValue): Promise<SameTask<K, T>> {
    return this.#task(this.#calls.provideInput(this.#expect(task), value));
  }

  /** A part of the task's output; at most 64 KiB unless told. A character is never split. No output yet: empty, size 0. Throws `TASK_NOT_FOUND` or `INVALID_SPEC`. */
  async readOutput(task: TaskRef, options?: ReadOutputOptions): Promise<OutputWindow> {
    return this.#calls.readOutput(this.#expect(task), options);
  }

  /** What the work returned, from the record, or from its own file where it was too large for one. `undefined`: nothing. Throws `TASK_NOT_FOUND`. */
  async readResult(task: TaskRef): Promise<JsonValue | undefined> {
    return this.#calls.readResult(this.#expect(task));
  }

  /**
   * The task's output from `offset` (in bytes, default 0): what is there, then what comes, until the task has ended and all was read.
   * Aborting `signal` rejects with its reason. Throws `TASK_NOT_FOUND` or `INVALID_SPEC` at the first step.
   */
  async *followOutput(
    task: TaskRef,
    options?: { offset?: number | undefined; signal?: AbortSignal | undefined },
  ): AsyncGenerator<string, void, undefined> {
    const actor = this.#expect(task);
    const { offset, signal } = checkOptions(callOptions.followOutput, options, 'followOutput');
    yield* this.#holder.iterate(this.#calls.followOutput(actor, offset, signal));
  }

  /** One pass over the active tasks, now. A call during a pass waits for one more, shared by all such callers. One bad task never stops the rest. */
  async reconcile(): Promise<ReconcileReport> {
    this.#assertOpen();
    return this.#parts.reconciler.reconcile();
  }

  /** Removes ended tasks and their output, and resolves with their ids; `task:pruned` for each. Throws `INVALID_SPEC`, `INVALID_TASK_ID` or `STORAGE_FAILED`. */
  async pruneTasks(options?: PruneOptions<Task<K>>): Promise<readonly string[]> {
    this.#assertOpen();
    const { taskIds, ...rest } = checkOptions(callOptions.pruneTasks, options, 'pruneTasks');
    return this.#parts.retention.prune({ ...rest, taskIds: taskIds?.map(taskIdOf) });
  }

  /**
   * Gives the directory up. With `'leave'` (default) detached work that outlives the host runs on, and queued tasks stay queued, for the next
   * `open`; work in this process whose kind has `recover` is told to end, and left to the next owner where it does not within the grace; other
   * work in this process, and foreground work, ends as `killed`, cause `shutdown`. With `'stop'` everything is stopped that can be. Waits for
   * hook attempts under way, for at most the grace. Idempotent: later calls share the first one's promise.
   *
   * Throws `STORAGE_FAILED` where an outcome could not be written; the directory is given up all the same, and the next `open` judges anew.
   */
  async close(options?: CloseOptions): Promise<void> {
    const checked = checkOptions(callOptions.close, options, 'close');
    return this.#holder.while(this.#closing.close(checked));
  }

  /** `close()`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #assertOpen(): void {
    this.#parts.lifetime.assertOpen();
  }

  #expect(task: unknown): TaskActor {
    this.#assertOpen();
    return this.#parts.table.expect(taskIdOf(task));
  }

  async #task<T>(promise: Promise<unknown>): Promise<SameTask<K, T>> {
    return (await promise) as SameTask<K, T>;
  }
}
