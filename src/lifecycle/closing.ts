/*
 * How a manager ends: by being closed, or by losing its directory. Calls are refused from the first moment; waits are told only when
 * everything that closing ends has ended.
 */
import { delay } from '../clock.js';
import { BackgroundTaskError } from '../errors.js';
import type { Core } from './core.js';
import type { Engine } from './engine.js';
import type { Entry } from './entry.js';
import { canStop, type StopOptions } from './stopping.js';

/** Work that does not end after its grace was over for so long is left to the next owner: its stop is on record. */
const LAST_WAIT_MS = 10_000;

export class Closing {
  readonly #core: Core;
  readonly #engine: Engine;
  /** Registrations under way: what they launch must be judged like everything else. */
  readonly #registrations = new Set<Promise<unknown>>();
  #refusal: BackgroundTaskError | undefined;
  #closed: Promise<void> | undefined;

  constructor(core: Core, engine: Engine) {
    this.#core = core;
    this.#engine = engine;
  }

  /** Throws `MANAGER_CLOSED` or `OWNERSHIP_LOST`. */
  assertOpen(): void {
    if (!this.#refusal) return;
    const { code, message, owner } = this.#refusal;
    throw new BackgroundTaskError(code, message, { owner });
  }

  async track<T>(registration: Promise<T>): Promise<T> {
    this.#registrations.add(registration);
    try {
      return await registration;
    } finally {
      this.#registrations.delete(registration);
    }
  }

  /** Another manager took over. `false`: this one had ended already. */
  fence(error: BackgroundTaskError): boolean {
    if (this.#refusal) return false;
    this.#refusal = error;
    this.#engine.fence(error);
    return true;
  }

  close(options: StopOptions & { tasks?: 'leave' | 'stop' | undefined }): Promise<void> {
    this.#closed ??= this.#close(options);
    return this.#closed;
  }

  async #close({ tasks = 'leave', ...stop }: StopOptions & { tasks?: 'leave' | 'stop' | undefined }): Promise<void> {
    if (this.#refusal) return this.#core.store.release();
    const refusal = new BackgroundTaskError('MANAGER_CLOSED', 'the manager is closed');
    this.#refusal = refusal;
    const graceMs = stop.graceMs ?? this.#core.settings.stopGraceMs;
    const { passes, launches, deliveries } = this.#engine.quiesce(graceMs);
    await this.#atMost(graceMs + LAST_WAIT_MS, [passes, launches, ...this.#registrations]);
    const active = [...this.#core.table.active()];
    const left = tasks === 'leave' ? active.filter(isRecoverable) : [];
    const ending = active.filter(
      (entry) => !left.includes(entry) && canEnd(entry) && (tasks === 'stop' || endsWithHost(entry)),
    );
    await Promise.all([
      this.#atMost(
        graceMs + LAST_WAIT_MS,
        ending.map((entry) => this.#end(entry, { ...stop, graceMs })),
      ),
      this.#atMost(
        graceMs,
        left.map((entry) => this.#leave(entry)),
      ),
    ]);
    await deliveries;
    try {
      const failure = await this.#settleRest();
      await this.#engine.shutDown(refusal);
      if (failure) throw failure;
    } finally {
      await this.#core.store.release();
    }
  }

  /** The host's own code may hang (a `start`, a `stop`, a `run`): what waits for it is given up, and left to the next owner. */
  async #atMost(limitMs: number, work: readonly Promise<unknown>[]): Promise<void> {
    const over = new AbortController();
    const limit = delay(this.#core.clock, limitMs, over.signal).catch(() => undefined); // the work was faster
    await Promise.race([Promise.allSettled(work), limit]);
    over.abort();
  }

  /** In-process work that a crash would not destroy: it is told to end, and unless it returns, the next owner asks its kind about it. */
  async #leave(entry: Entry): Promise<void> {
    try {
      await entry.run?.leave({ cause: 'shutdown', requestedAt: this.#core.clock.now() });
      await this.#engine.looker.look(entry);
    } catch (error) {
      this.#core.report(error, entry.taskId);
    }
  }

  async #end(entry: Entry, stop: StopOptions & { readonly graceMs: number }): Promise<void> {
    try {
      await this.#engine.stopping.begin(entry, { ...stop, cause: 'shutdown' });
    } catch (error) {
      // A record that cannot be touched: the task stays as it is.
      return this.#core.report(error, entry.taskId);
    }
    const over = () => (!entry.active || entry.outcome ? true : undefined);
    await this.#core.waits.until([entry.taskId], over, {}, () => true);
  }

  /** Outcomes that could not be written are tried once more, as they are: never replaced by `shutdown`. */
  async #settleRest(): Promise<BackgroundTaskError | undefined> {
    this.#engine.stopping.close();
    const unwritten: Entry[] = [];
    for (const entry of this.#engine.unsettled()) {
      if (entry.outcome && !(await this.#engine.settlement.settle(entry, entry.outcome))) unwritten.push(entry);
    }
    const [entry, ...others] = unwritten;
    if (!entry) return undefined;
    const more = others.length > 0 ? ` and ${others.length} more` : '';
    return new BackgroundTaskError('STORAGE_FAILED', `the outcome of "${entry.taskId}"${more} could not be written`, {
      taskId: entry.taskId,
    });
  }
}

/** In-process work dies with the host, and nobody waits for foreground work any more. Queued work waits for the next owner. */
function endsWithHost({ kind, record }: Entry): boolean {
  return record.status !== 'queued' && (!kind?.start || !record.detached);
}

/** Whether a crash of the host would leave this in-process work to the next owner. A stop on record decides otherwise. */
function isRecoverable({ kind, record, run, working }: Entry): boolean {
  return run !== undefined && kind?.recover !== undefined && record.detached && !working.stop;
}

/** Without a stop on record work that cannot be stopped, or not from here, is left as it is; what is queued never began, and can be. */
function canEnd({ kind, record, outOfReach }: Entry): boolean {
  return kind !== undefined && !outOfReach && (record.status === 'queued' || canStop(kind));
}
