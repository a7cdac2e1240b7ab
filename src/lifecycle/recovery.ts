/*
 * What a dead owner left: work that still runs is adopted; work that never began goes back to the queue, because what was accepted runs; work
 * that died with its owner may be taken up again by its kind, if the host asks for that (`recover`), and by nobody else.
 */

import type { KindRuntime } from '../task/kind.js';
import type { TaskRecord } from '../task/record.js';
import type { Awaitable, JsonObject } from '../task/types.js';
import type { Slots } from './capacity.js';
import { type Core, toTaskError } from './core.js';
import type { Deadlines } from './deadlines.js';
import { limited } from './driver.js';
import type { Entry } from './entry.js';
import { detached } from './foreground.js';
import { type Launcher, queuedAgain } from './launch.js';
import { without } from './ledger.js';
import type { ProgressReports } from './progress.js';
import type { Queue } from './queue.js';

interface Parts {
  readonly slots: Slots;
  readonly deadlines: Deadlines;
  readonly launcher: Launcher;
  readonly queue: Queue;
  readonly progress: ProgressReports;
}

/** Whether a task was taken up again; where it was not, `why` says what was missing. */
export type TakenUp = { readonly taken: true } | { readonly taken: false; readonly why?: string };

export class Recovery {
  readonly #core: Core;
  readonly #parts: Parts;

  constructor(core: Core, parts: Parts) {
    this.#core = core;
    this.#parts = parts;
  }

  /**
   * The work lives: it is ours from now on. Foreground work becomes detached, because whoever waited for it died. What its probe found goes
   * on record in the same write: where the work lives could not be told from the new owner alone, should that die right after.
   */
  async adopt(entry: Entry, found: JsonObject | undefined): Promise<void> {
    await this.#core.ledger.change(
      entry,
      (record) => this.#ours(found ? { ...record, details: { ...record.details, ...found } } : record),
      (task) => {
        entry.orphaned = false;
        entry.slot ??= this.#parts.slots.take(task.group);
        this.#core.emit('task:adopted', { task });
      },
    );
    this.#parts.deadlines.arm(entry);
  }

  /**
   * A task of a dead owner that never began: it was queued, or its launch was cut short (`found` is what its probe says of the details then).
   * It is queued under this owner. Only what no record holds can be missing: its kind is asked for that.
   */
  async requeue(entry: Entry, found: JsonObject | undefined): Promise<TakenUp> {
    const { kind } = entry;
    if (!kind || entry.working.stop) return { taken: false };
    if (!this.#core.settings.resumeQueued) {
      return { taken: false, why: 'its owner ended before it began, and this one was opened with resumeQueued: false' };
    }
    // Its place in the queue first: whoever answers sooner does not overtake.
    const place = this.#parts.queue.enter(entry.record.group, entry.seq);
    try {
      const missing = missingFor(entry, kind);
      if (missing !== undefined && !(await this.#supplied(entry, kind))) {
        return { taken: false, why: `its owner ended before it began, and ${missing} ${whoWasAsked(kind)}` };
      }
      if (entry.record.status !== 'queued') await this.#putBack(entry, found);
      const input = entry.recovery?.input;
      entry.recovery = undefined;
      entry.orphaned = false;
      entry.slot?.release();
      entry.slot = undefined;
      this.#parts.deadlines.arm(entry);
      this.#parts.queue.fill(place, { entry, kind, input, callerWaits: false });
      return { taken: true };
    } finally {
      if (!place.launch) this.#parts.queue.leave(place);
    }
  }

  async #supplied(entry: Entry, kind: KindRuntime): Promise<boolean> {
    const ask = kind.resupply ?? (kind.missing ? undefined : kind.recover);
    if (ask) entry.recovery ??= await this.#ask(entry, kind, ask);
    return entry.recovery !== undefined;
  }

  async #putBack(entry: Entry, found: JsonObject | undefined): Promise<void> {
    await this.#core.ledger.change(
      entry,
      (record) => queuedAgain(this.#ours({ ...record, details: { ...record.details, ...found } })),
      (task) => this.#core.emit('task:queued', { task }),
    );
  }

  /** Whether the task's kind took work up again that had begun. Asked once for each death of an owner: the next attempt is on record before it begins. */
  async recover(entry: Entry): Promise<boolean> {
    const { kind } = entry;
    if (!kind?.recover || entry.working.stop) return false;
    entry.recovery ??= await this.#ask(entry, kind, kind.recover);
    if (!entry.recovery) return false;
    await this.#takeUp(entry, kind, entry.recovery.input);
    entry.recovery = undefined;
    return true;
  }

  async #ask(
    entry: Entry,
    kind: KindRuntime,
    question: (task: TaskRecord) => Awaitable<unknown>,
  ): Promise<Entry['recovery']> {
    try {
      const answer = await limited(this.#core.clock, 'recover', question(entry.view));
      if (answer === undefined || answer === null) return undefined;
      return { input: kind.start ? (answer as { input?: unknown }).input : answer };
    } catch (error) {
      this.#core.report(toTaskError(error, 'LAUNCH_FAILED', entry.taskId), entry.taskId);
      return undefined;
    }
  }

  async #takeUp(entry: Entry, kind: KindRuntime, input: unknown): Promise<void> {
    const launch = { entry, kind, input, callerWaits: false };
    await this.#core.store.clear(entry.taskId);
    await this.#core.ledger.change(entry, (record) => nextAttempt(this.#ours(record)));
    entry.orphaned = false;
    entry.slot ??= this.#parts.slots.take(entry.record.group);
    try {
      // A launch that hangs goes on, but `open` does not wait for it for ever.
      await limited(this.#core.clock, 'start', this.#parts.launcher.launch(launch));
    } catch (error) {
      this.#core.report(toTaskError(error, 'LAUNCH_FAILED', entry.taskId), entry.taskId);
    }
  }

  /** Whoever waited for it in the foreground died: it is detached, by the same rules as by its deadline, where that was to detach it. */
  #ours(record: TaskRecord): TaskRecord {
    const owned = { ...record, owner: this.#core.store.owner };
    return record.detached ? owned : detached(owned, record.detachOnTimeout === true, this.#core.clock.now());
  }

  /** Progress that a probe found. */
  reportProgress(entry: Entry, progress: object): void {
    this.#parts.progress.report(entry, progress);
  }
}

/** What a launch needs and the record does not hold, for people. */
function missingFor({ record, view }: Entry, kind: KindRuntime): string | undefined {
  if (kind.missing) return kind.missing(view);
  if (!kind.start) return 'its run is on no record';
  return record.hasInput ? 'its input is on no record' : undefined;
}

function whoWasAsked(kind: KindRuntime): string {
  if (kind.missing)
    return kind.resupply ? 'are on no record: recoverProcess gave none' : 'are on no record: open with recoverProcess';
  return kind.recover ? `(recover of the kind "${kind.name}" gave none)` : `(the kind "${kind.name}" has no recover)`;
}

/** The deadline stays: it is the task's, not the attempt's. */
function nextAttempt(record: TaskRecord): TaskRecord {
  return { ...without(record, 'waitingFor', 'progress'), status: 'running', attempt: record.attempt + 1 };
}
