import type { Slots } from './capacity.js';
import type { Core } from './core.js';
import type { Entry } from './entry.js';
import type { Launch, Launcher } from './launch.js';

/** Tasks that wait for a slot, oldest first. One whose group is full lets the next pass. */
export class Queue {
  readonly #core: Core;
  readonly #slots: Slots;
  readonly #launcher: Launcher;
  #waiting: Launch[] = [];
  /** Their records could not be written: they are tried again by the next reconcile, not by the slot that they gave back. */
  #deferred: Launch[] = [];
  #open = true;

  constructor(core: Core, slots: Slots, launcher: Launcher) {
    this.#core = core;
    this.#slots = slots;
    this.#launcher = launcher;
  }

  add(launch: Launch): void {
    this.#waiting.push(launch);
    this.#waiting.sort((a, b) => a.entry.seq - b.entry.seq);
  }

  remove(entry: Entry): void {
    this.#waiting = this.#waiting.filter((launch) => launch.entry !== entry);
    this.#deferred = this.#deferred.filter((launch) => launch.entry !== entry);
  }

  /** For a reconcile: tries everything again. */
  retry(): void {
    for (const launch of this.#deferred.splice(0)) this.add(launch);
    this.drain();
  }

  /** Nothing starts any more. */
  close(): void {
    this.#open = false;
  }

  /** Gives every free slot to the oldest task that may have it. Called whenever a slot was freed. */
  drain(): void {
    if (!this.#open) return;
    for (const launch of [...this.#waiting]) {
      const { entry } = launch;
      // A task that was judged while queued (stopped, timed out) must not start, even if that is not on disk yet.
      if (entry.outcome || !entry.active) {
        this.remove(entry);
        continue;
      }
      const slot = this.#slots.tryTake(entry.record.group);
      if (!slot) continue;
      this.remove(entry);
      entry.slot = slot;
      entry.exclusive(() => this.#begin(launch)).catch((error: unknown) => this.#core.report(error, entry.taskId));
    }
  }

  async #begin(launch: Launch): Promise<void> {
    const { entry } = launch;
    if (entry.outcome || !entry.active || !this.#open) return this.#putBack(launch);
    try {
      await this.#core.ledger.change(entry, (record) => this.#launcher.begun(record));
    } catch (error) {
      // The launch does not happen: the task stays queued, and the next reconcile tries again.
      this.#core.reportOnce(error, entry.taskId);
      return this.#putBack(launch);
    }
    await this.#launcher.launch(launch);
  }

  #putBack(launch: Launch): void {
    const { entry } = launch;
    if (entry.active && !entry.outcome) this.#deferred.push(launch);
    const { slot } = entry;
    entry.slot = undefined;
    slot?.release();
  }
}
