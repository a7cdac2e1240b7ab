/*
 * What a dead owner left: work that still runs is adopted; work that died with its owner may be taken up again by its kind, if the host
 * asks for that (`recover`). Nothing is launched that nobody asked for in this host.
 */

import type { KindRuntime } from '../task/kind.js';
import type { TaskRecord } from '../task/record.js';
import type { JsonObject } from '../task/types.js';
import type { Slots } from './capacity.js';
import { type Core, toTaskError } from './core.js';
import type { Deadlines } from './deadlines.js';
import { limited } from './driver.js';
import type { Entry } from './entry.js';
import { detached } from './foreground.js';
import type { Launcher } from './launch.js';
import { without } from './ledger.js';
import type { ProgressReports } from './progress.js';
import type { Place, Queue } from './queue.js';

interface Parts {
  readonly slots: Slots;
  readonly deadlines: Deadlines;
  readonly launcher: Launcher;
  readonly queue: Queue;
  readonly progress: ProgressReports;
}

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

  /** Whether the task's kind took it up again. Asked once for each death of an owner: the next attempt is on record before it begins. */
  async recover(entry: Entry): Promise<boolean> {
    const { kind } = entry;
    if (!kind?.recover || entry.working.stop) return false;
    // Its place in the queue first: whoever answers sooner does not overtake.
    const place = entry.record.status === 'queued' ? this.#parts.queue.enter(entry.record.group, entry.seq) : undefined;
    try {
      entry.recovery ??= await this.#ask(entry, kind, kind.recover);
      if (!entry.recovery) return false;
      await this.#takeUp(entry, kind, entry.recovery.input, place);
      entry.recovery = undefined;
      return true;
    } finally {
      if (place && !place.launch) this.#parts.queue.leave(place);
    }
  }

  async #ask(
    entry: Entry,
    kind: KindRuntime,
    recover: NonNullable<KindRuntime['recover']>,
  ): Promise<Entry['recovery']> {
    try {
      const answer = await limited(this.#core.clock, 'recover', recover(entry.view));
      if (answer === undefined || answer === null) return undefined;
      return { input: kind.start ? (answer as { input?: unknown }).input : answer };
    } catch (error) {
      this.#core.report(toTaskError(error, 'LAUNCH_FAILED', entry.taskId), entry.taskId);
      return undefined;
    }
  }

  async #takeUp(entry: Entry, kind: KindRuntime, input: unknown, place: Place | undefined): Promise<void> {
    const launch = { entry, kind, input, callerWaits: false };
    const owner = this.#core.store.owner;
    if (place) {
      await this.#core.ledger.change(entry, (record) => ({ ...record, owner }));
      entry.orphaned = false;
      this.#parts.deadlines.arm(entry);
      this.#parts.queue.fill(place, launch);
      return;
    }
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

/** The deadline stays: it is the task's, not the attempt's. */
function nextAttempt(record: TaskRecord): TaskRecord {
  return { ...without(record, 'waitingFor', 'progress'), status: 'running', attempt: record.attempt + 1 };
}
