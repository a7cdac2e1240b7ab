/*
 * The outbox. What a task owes to hooks is part of its record, written together with its outcome; the outbox delivers
 * it.
 *
 * - Only the record says what is owed. After a restart each record is given to `offer`, and deliveries go on where they
 *   were.
 * - One delivery has at most one job, so a hook is never called twice at once for the same task.
 * - Nothing here keeps the process alive: timers are those of the clock, and an attempt under way is a promise of the
 *   host.
 */
import { delay } from '../clock.js';
import { BackgroundTaskError } from '../errors.js';
import { didYouMean } from '../task/nearest.js';
import { isSupported, type TaskRecord } from '../task/record.js';
import { show } from '../task/show.js';
import { isTerminalStatus } from '../task/status.js';
import type { HookState, OwedDelivery } from '../task/types.js';
import { Slices } from '../util/slices.js';
import { Book } from './book.js';
import { checkHookName, type HookSettings, parseHook } from './definition.js';
import { DeliveryJob, type JobContext } from './delivery-job.js';
import { delivered, deliveryIdOf, fresh, owedTo, skipped, withOwed } from './owed.js';
import { Places } from './places.js';
import type { OutboxPort } from './port.js';
import type { DeliveryEntry, HookDefinition } from './types.js';

export type { HookEvents, OutboxPort } from './port.js';

/** Attempts under way at once; waiting for the next one does not count. */
const MAX_ATTEMPTS_AT_ONCE = 8;

/** Which deliveries to list. */
interface DeliveryFilter {
  readonly state?: HookState | undefined;
  readonly name?: string | undefined;
}

export class Outbox {
  readonly #port: OutboxPort;
  readonly #context: JobContext;
  readonly #hooks = new Map<string, HookSettings | 'pull'>();
  /** All that are under way. Each task knows its own. */
  readonly #jobs = new Set<DeliveryJob>();
  #closing = false;
  #closed: Promise<void> | undefined;

  /** Throws `INVALID_OPTIONS`. */
  constructor(port: OutboxPort, hooks: Readonly<Record<string, HookDefinition<any>>>) {
    this.#port = port;
    this.#context = { port, book: new Book(port), places: new Places(MAX_ATTEMPTS_AT_ONCE) };
    for (const [name, definition] of Object.entries(hooks)) this.#define(name, definition);
  }

  /**
   * Adds a hook and begins to deliver what is owed to it. Throws `INVALID_OPTIONS`, also for a name that is there
   * already.
   */
  addHook(name: string, definition: HookDefinition<any>): void {
    this.#define(name, definition);
    void this.#offerAll(name);
  }

  has(name: string): boolean {
    return this.#hooks.has(name);
  }

  names(): readonly string[] {
    return [...this.#hooks.keys()];
  }

  /** What a new task owes: to these hooks, or to all. Throws `UNKNOWN_HOOK`. */
  owe(names: readonly string[] = this.names()): Record<string, OwedDelivery> {
    for (const name of names) {
      if (this.#hooks.has(name)) continue;
      const known = this.names().map(show).join(', ') || 'none';
      throw new BackgroundTaskError(
        'UNKNOWN_HOOK',
        `hooks: expected hooks that this manager has (${known}), got ${show(name)}${didYouMean(name, this.names())}`,
      );
    }
    return Object.fromEntries(names.map((name) => [name, fresh()]));
  }

  /**
   * Starts the deliveries that an ended task owes to the hooks of this manager. Calls no hook before `start()`, and
   * none synchronously.
   */
  offer(record: TaskRecord): void {
    if (this.#closing || !isTerminalStatus(record.status) || !isSupported(record)) return;
    for (const [name, owed] of Object.entries(record.hooks)) {
      if (owed.state === 'pending') this.#deliver(record, name, owed);
    }
  }

  /** Hooks are called from now on. */
  start(): void {
    this.#context.places.open();
  }

  /**
   * A fresh set of attempts: without a name for every failed hook of the task, with one for that hook, in whatever
   * state it is. What is pending stays as it is.
   */
  async redeliver(taskId: string, name?: string): Promise<TaskRecord> {
    this.#expectEnded(taskId, name, 'delivered again');
    const chosen = (hook: string, { state }: OwedDelivery) =>
      name === undefined ? state === 'failed' : hook === name && state !== 'pending';
    const record = await this.#port.change(taskId, (current) => {
      const again = Object.entries(current.hooks).filter(([hook, owed]) => chosen(hook, owed));
      if (again.length === 0) return undefined;
      return again.reduce((changed, [hook, owed]) => withOwed(changed, hook, fresh(owed)), current);
    });
    this.offer(record);
    return record;
  }

  /** Withdraws what is owed, or a dead letter, also while the task runs. What has been delivered stays delivered. */
  async skip(taskId: string, name: string): Promise<TaskRecord> {
    this.#expectOwing(taskId, name);
    const job = this.#port.deliveries(taskId).get(name);
    return this.#end(taskId, name, (owed) => {
      if (owed.state !== 'pending' && owed.state !== 'failed') return undefined;
      // An outcome that is not on record yet takes precedence.
      return job?.outcome ? job.outcome(owed) : skipped(owed);
    });
  }

  /** Records that a delivery arrived. One that has been delivered already stays as it is. */
  async acknowledge(taskId: string, name: string): Promise<TaskRecord> {
    const { state } = this.#expectEnded(taskId, name, 'acknowledged');
    if (state === 'failed' || state === 'skipped') {
      throw invalid(
        taskId,
        `expected a delivery that is owed, the one to ${show(name)} is ${state}; redeliver it first`,
      );
    }
    return this.#end(taskId, name, (owed) =>
      owed.state === 'pending' ? delivered(owed, this.#port.clock.now()) : undefined,
    );
  }

  /** The deliveries of those tasks that have ended. */
  list(records: Iterable<TaskRecord>, filter: DeliveryFilter = {}): DeliveryEntry<any>[] {
    const entries: DeliveryEntry<any>[] = [];
    for (const task of records) {
      if (!isTerminalStatus(task.status)) continue;
      for (const [hook, owed] of Object.entries(task.hooks)) {
        if (filter.name !== undefined && filter.name !== hook) continue;
        if (filter.state !== undefined && filter.state !== owed.state) continue;
        const { taskId } = task;
        entries.push(
          Object.freeze({ ...owed, taskId, hook, deliveryId: deliveryIdOf(taskId, hook), task: task as never }),
        );
      }
    }
    return entries;
  }

  /**
   * Nothing new begins. Attempts under way may finish within `graceMs`, then they are aborted: they count as not made.
   * Resolves when nothing more will be written.
   */
  close(graceMs: number): Promise<void> {
    this.#closed ??= this.#close(graceMs);
    return this.#closed;
  }

  async #close(graceMs: number): Promise<void> {
    this.#closing = true;
    this.#context.places.close();
    for (const job of [...this.#jobs]) job.rest();
    const ended = Promise.all([...this.#jobs].map((job) => job.ended));
    if (this.#jobs.size > 0 && graceMs > 0) {
      const over = new AbortController();
      // Rejects where all attempts ended in time.
      const grace = delay(this.#port.clock, graceMs, over.signal).catch(() => undefined);
      await Promise.race([ended, grace]);
      over.abort();
    }
    const reason = new DOMException('the manager was closed', 'AbortError');
    for (const job of [...this.#jobs]) job.cancel(reason);
    await ended;
  }

  #define(name: string, definition: HookDefinition<any>): void {
    checkHookName(name);
    if (this.#hooks.has(name)) {
      throw new BackgroundTaskError(
        'INVALID_OPTIONS',
        `expected a new hook name, got ${show(name)}, which is there already`,
      );
    }
    this.#hooks.set(name, parseHook(name, definition));
  }

  /** What tasks owe to a hook that has come. */
  async #offerAll(name: string): Promise<void> {
    const slices = new Slices(this.#port.clock);
    for (const { taskId } of [...this.#port.owing()]) {
      const record = this.#closing ? undefined : this.#port.get(taskId);
      const owed = record && owedTo(record, name);
      if (owed?.state === 'pending') this.#deliver(record!, name, owed);
      await slices.pause();
    }
  }

  #deliver(record: TaskRecord, name: string, owed: OwedDelivery): void {
    const { taskId } = record;
    const hook = this.#hooks.get(name);
    // Nobody pays it here: the debt stays on record for a hook that is added later.
    if (!hook || hook === 'pull') return;
    const deliveries = this.#port.deliveries(taskId);
    const running = deliveries.get(name);
    if (running) {
      running.offeredAgain = true;
      return;
    }
    const job = new DeliveryJob(this.#context, taskId, name, hook, (ended) => this.#ended(ended));
    deliveries.set(name, job);
    this.#jobs.add(job);
    job.begin(record, owed);
  }

  /** A redelivery may have been put on record while the job was about to end. */
  #ended(job: DeliveryJob): void {
    if (!this.#jobs.delete(job)) return;
    this.#port.deliveries(job.taskId).delete(job.name);
    const record = job.offeredAgain ? this.#port.get(job.taskId) : undefined;
    if (record) this.offer(record);
  }

  /** Puts the end of a delivery on record; only then is the attempt under way aborted. */
  async #end(
    taskId: string,
    name: string,
    next: (owed: OwedDelivery) => OwedDelivery | undefined,
  ): Promise<TaskRecord> {
    const record = await this.#context.book.change(taskId, name, next);
    if (owedTo(record, name)?.state === 'pending') return record;
    this.#port.deliveries(taskId).get(name)?.cancel(new DOMException('the delivery was withdrawn', 'AbortError'));
    return record;
  }

  #expectTask(taskId: string): TaskRecord {
    const record = this.#port.get(taskId);
    if (!record) throw new BackgroundTaskError('TASK_NOT_FOUND', `there is no task ${show(taskId)}`, { taskId });
    return record;
  }

  #expectOwing(taskId: string, name: string): OwedDelivery {
    const record = this.#expectTask(taskId);
    const owed = owedTo(record, name);
    if (owed) return owed;
    const known = Object.keys(record.hooks).map(show).join(', ') || 'none';
    throw new BackgroundTaskError(
      'UNKNOWN_HOOK',
      `expected a hook that the task owes something to (${known}), got ${show(name)}${didYouMean(name, Object.keys(record.hooks))}`,
      { taskId },
    );
  }

  #expectEnded(taskId: string, name: string | undefined, done: string): Partial<OwedDelivery> {
    const { status } = this.#expectTask(taskId);
    const owed = name === undefined ? {} : this.#expectOwing(taskId, name);
    if (isTerminalStatus(status)) return owed;
    throw invalid(taskId, `expected a task that has ended, this one is ${status}: nothing of it can be ${done} yet`);
  }
}

function invalid(taskId: string, message: string): BackgroundTaskError {
  return new BackgroundTaskError('INVALID_SPEC', message, { taskId });
}
