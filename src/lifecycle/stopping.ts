/*
 * Stopping a task: look first (what has ended is never called stopped), put the stop on record, ask the work to end, and when the grace
 * is over end it. The task is terminal only when a look finds its work gone.
 */
import { delay } from '../clock.js';
import { BackgroundTaskError } from '../errors.js';
import { cutText } from '../task/json.js';
import type { KindRuntime } from '../task/kind.js';
import { MAX_TEXT_BYTES, type TaskRecord } from '../task/record.js';
import type { StopCause, TaskStop } from '../task/types.js';
import { type Core, expectManaged, isOver, toTaskError } from './core.js';
import type { Deadlines } from './deadlines.js';
import { type Entry, withdrawn } from './entry.js';
import { abortReason } from './in-process.js';
import type { Looker } from './look.js';
import { abandoned, outOfReach } from './out-of-reach.js';
import type { Queue } from './queue.js';
import type { Settlement } from './settlement.js';

/** How to stop, and what to say about it. */
export interface StopOptions {
  /** Why, for people: `stop.reason` and `stopReason` on record. Blank: none. Cut at 8 KiB. */
  reason?: string | undefined;
  /** From the stop on record to SIGKILL, or to giving in-process work up, in milliseconds. Minimum 0. Default: the manager's `stopGraceMs`. */
  graceMs?: number | undefined;
  /** `true`: owed hooks are withdrawn in the same write. Default `false`. */
  skipHooks?: boolean | undefined;
}

export interface StopRequest extends StopOptions {
  readonly cause: StopCause;
  /** Work that is out of reach is given up instead. */
  readonly abandon?: boolean | undefined;
  /** Asked when the task's turn has come: a launch or a detach may have made the stop pointless. Default: it is wanted. */
  readonly isWanted?: () => boolean;
}

/** A `start` that takes longer is told of a stop; until then the stop waits for what it launches. */
const LAUNCH_PATIENCE_MS = 100;

/** Between two looks at work that is being stopped: not every end of a tree makes itself heard. */
const FIRST_LOOK_MS = 10;
const LONGEST_LOOK_MS = 250;

/** A stop that is being carried out. */
interface Campaign {
  /** Monotonic time of the kill. A later stop with a shorter grace brings it forward. */
  killAt: number;
  readonly over: AbortController;
}

export class Stopping {
  readonly #core: Core;
  readonly #looker: Looker;
  readonly #settlement: Settlement;
  readonly #queue: Queue;
  readonly #deadlines: Deadlines;
  readonly #campaigns = new Map<Entry, Campaign>();
  readonly #over = new AbortController();

  constructor(core: Core, looker: Looker, settlement: Settlement, queue: Queue, deadlines: Deadlines) {
    this.#core = core;
    this.#looker = looker;
    this.#settlement = settlement;
    this.#queue = queue;
    this.#deadlines = deadlines;
  }

  /** Resolves once the stop is on record and under way, or the task has ended. */
  async begin(entry: Entry, request: StopRequest): Promise<void> {
    const isOurs = entry.launching !== undefined && (await this.#interrupt(entry, request));
    // Once it is on record it is carried out, whatever came of the launch.
    const { isWanted, ...certain } = request;
    return entry.exclusive(() => this.#begin(entry, isOurs ? certain : request));
  }

  /** A launch that hangs must not keep a stop from being put on record, nor from reaching whoever launches. Whether this stop is the first. */
  async #interrupt(entry: Entry, request: StopRequest): Promise<boolean> {
    const { launching } = entry;
    if (!launching || (!canStop(expectManaged(entry)) && request.cause === 'user')) return false;
    const over = new AbortController();
    await Promise.race([
      launching.over,
      delay(this.#core.clock, LAUNCH_PATIENCE_MS, over.signal).catch(() => undefined), // it was launched
    ]);
    over.abort();
    if (entry.launching !== launching || entry.outcome || request.isWanted?.() === false) return false;
    const isOurs = await this.#record(entry, request);
    const { stop } = entry.working;
    if (stop) launching.abort(abortReason(stop));
    return isOurs;
  }

  async #begin(entry: Entry, request: StopRequest): Promise<void> {
    if (!entry.active || request.isWanted?.() === false) return;
    const kind = expectManaged(entry);
    if (entry.record.status === 'queued') return this.#dequeue(entry, request);
    if (!canStop(kind) && request.cause === 'user') {
      throw new BackgroundTaskError(
        'INVALID_SPEC',
        `tasks of the kind "${kind.name}" cannot be stopped: the kind defines no stop`,
        { taskId: entry.taskId },
      );
    }
    const graceMs = request.graceMs ?? this.#core.settings.stopGraceMs;
    const { skipHooks } = entry.unwritten;
    // Before the look: what that finds ended owes no hook either.
    if (request.skipHooks) entry.note({ skipHooks: true });
    await this.#lookFirst(entry);
    // What has ended is never called stopped, even while its outcome cannot be written.
    if (!entry.active || entry.outcome) return;
    if (entry.outOfReach && request.abandon) return this.#abandon(entry, request);
    if (entry.outOfReach && isAsked(request)) {
      if (!skipHooks) delete entry.unwritten.skipHooks;
      throw outOfReach(entry);
    }
    // A deadline goes on record all the same: how work ended that nobody could stop is judged by it.
    await this.#record(entry, request);
    this.#deadlines.clear(entry);
    if (canStop(kind) && !entry.outOfReach) this.#carryOut(entry, graceMs);
  }

  async #abandon(entry: Entry, { reason }: StopRequest): Promise<void> {
    const why = reason?.trim() ? `out of reach: ${reason}` : 'out of reach';
    await this.#settlement.settle(entry, abandoned(this.#core, entry, why));
  }

  /** Carries on with a stop that is on record already, and that nobody carries out: the owner that wrote it died. */
  resume(entry: Entry): void {
    const { stop } = entry.working;
    if (!stop || !entry.kind || !canStop(entry.kind) || !entry.active || entry.outOfReach) return;
    if (entry.launching || this.#campaigns.has(entry) || this.#over.signal.aborted) return;
    const { stopGraceMs } = this.#core.settings;
    const dueIn = stop.requestedAt + stopGraceMs - this.#core.clock.now();
    this.#carryOut(entry, Math.min(Math.max(dueIn, 0), stopGraceMs));
  }

  /** Stops watching over stops under way; what was signalled stays signalled. */
  close(): void {
    this.#over.abort();
    for (const campaign of this.#campaigns.values()) campaign.over.abort();
  }

  /** The task ended. */
  ended(entry: Entry): void {
    this.#campaigns.get(entry)?.over.abort();
    this.#campaigns.delete(entry);
  }

  /** A probe that fails must not keep anybody from stopping the task. */
  async #lookFirst(entry: Entry): Promise<void> {
    try {
      await this.#looker.lookNow(entry);
    } catch (error) {
      if (isOver(error)) throw error;
      this.#core.reportOnce(toTaskError(error, 'STORAGE_FAILED', entry.taskId), entry.taskId);
    }
    this.#core.ledger.assertOpen();
  }

  /** A queued task has nothing to signal: it ends with its stop in one write, and from this moment it must not start. */
  async #dequeue(entry: Entry, request: StopRequest): Promise<void> {
    this.#queue.remove(entry);
    if (!entry.outcome) entry.note({ stop: entry.working.stop ?? this.#stopOf(request) });
    if (request.skipHooks) entry.note({ skipHooks: true });
    await this.#settlement.settle(entry, { ending: 'gone', endedAt: this.#core.notBefore(entry.record) });
  }

  /**
   * The first cause stays. A disk that refuses does not save the work: the stop is kept in memory and written with the outcome. Answers
   * whether this stop is the first of a task that goes on.
   */
  async #record(entry: Entry, request: StopRequest): Promise<boolean> {
    if (entry.working.stop && !request.skipHooks) return false;
    const ours = this.#stopOf(request);
    let first = false;
    // Which stop is the first is decided in its turn: two may have been asked for while the task was launched.
    const next = (record: TaskRecord) => {
      first = record.stop === undefined;
      if (!first && !request.skipHooks) return undefined;
      const hooks = request.skipHooks ? withdrawn(record.hooks) : record.hooks;
      return { ...record, stop: record.stop ?? ours, hooks };
    };
    try {
      await this.#core.ledger.change(
        entry,
        (record) => (entry.active ? next(record) : undefined),
        (task) => {
          if (first) this.#core.emit('task:stopping', { task });
        },
      );
    } catch (error) {
      if (isOver(error)) throw error;
      entry.note({ stop: entry.working.stop ?? ours, ...(request.skipHooks && { skipHooks: true }) });
      this.#core.reportOnce(error, entry.taskId);
    }
    return first && entry.active;
  }

  #stopOf({ cause, reason }: StopRequest): TaskStop {
    const text = reason?.trim() ? cutText(reason, MAX_TEXT_BYTES) : undefined;
    return { cause, ...(text !== undefined && { reason: text }), requestedAt: this.#core.clock.now() };
  }

  #carryOut(entry: Entry, graceMs: number): void {
    // It is on record: the next owner carries it out.
    if (this.#over.signal.aborted) return;
    const killAt = this.#core.clock.monotonic() + graceMs;
    const running = this.#campaigns.get(entry);
    if (running) {
      running.killAt = Math.min(running.killAt, killAt);
      return;
    }
    const campaign = { killAt, over: new AbortController() };
    this.#campaigns.set(entry, campaign);
    void this.#campaign(entry, campaign);
  }

  async #campaign(entry: Entry, campaign: Campaign): Promise<void> {
    const { clock } = this.#core;
    // Not awaited: a kind whose `stop` hangs must not keep the kill from coming.
    void this.#end(entry, 'terminate');
    let killing = false;
    const kill = async () => {
      if (killing) return;
      killing = true;
      await this.#end(entry, 'kill');
      killing = false;
    };
    for (
      let pause = FIRST_LOOK_MS;
      entry.active && !campaign.over.signal.aborted;
      pause = Math.min(pause * 2, LONGEST_LOOK_MS)
    ) {
      const untilKill = campaign.killAt - clock.monotonic();
      if (untilKill <= 0) void kill();
      void this.#looker.hint(entry);
      const wait = untilKill > 0 ? Math.min(pause, untilKill) : pause;
      await delay(clock, wait, campaign.over.signal).catch(() => undefined); // aborted: the task has ended, or the manager closes
    }
  }

  async #end(entry: Entry, how: 'terminate' | 'kill'): Promise<void> {
    const { working, run, kind } = entry;
    if (!entry.active || entry.outcome || !working.stop) return;
    try {
      if (run) {
        if (how === 'terminate') run.abort(working.stop);
        else run.abandon();
      } else await kind?.stop?.(working, how);
    } catch (error) {
      this.#core.reportOnce(toTaskError(error, 'STORAGE_FAILED', entry.taskId), entry.taskId);
    }
  }
}

/** Whether somebody asked for this stop and waits for it, rather than a limit of the task. */
function isAsked({ cause }: StopRequest): boolean {
  return cause === 'user' || cause === 'shutdown';
}

/** In-process work always; other work where its kind says how. */
export function canStop(kind: KindRuntime): boolean {
  return !kind.start || kind.stop !== undefined;
}
