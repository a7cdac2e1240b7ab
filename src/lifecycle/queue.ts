/*
 * Who waits for a slot. A place in the queue is taken in the same moment in which no slot was free, before the record is written, so that
 * nothing newer overtakes it; a slot that becomes free goes to the oldest place at once, and is held there until the record is on disk.
 */

import type { Hold, Slots } from './capacity.js';
import { type Core, toTaskError } from './core.js';
import type { Entry } from './entry.js';
import type { Launch, Launcher } from './launch.js';

/** A place in the queue. */
export interface Place {
  readonly group: string | undefined;
  /** Places are served in this order, which is that of registration. */
  readonly seq: number;
  /** The task, once it is on record. */
  launch: Launch | undefined;
  slot: Hold | undefined;
}

/** Tasks that wait for a slot, oldest first. One whose group is full lets the next pass. */
export class Queue {
  readonly #core: Core;
  readonly #slots: Slots;
  readonly #launcher: Launcher;
  readonly #places = new Set<Place>();
  /** Their records could not be written: they are tried again by the next reconcile, not by the slot that they gave back. */
  readonly #deferred = new Set<Place>();
  /** Launches under way. */
  readonly #launches = new Set<Promise<void>>();
  #lastSeq = -1;
  #open = true;
  /** Until the first pass is over nothing starts: what it finds may be older than what is here. */
  #held = true;

  constructor(core: Core, slots: Slots, launcher: Launcher) {
    this.#core = core;
    this.#slots = slots;
    this.#launcher = launcher;
  }

  /** Takes the place behind all that were registered before. */
  enter(group: string | undefined, seq: number): Place {
    const place: Place = { group, seq, launch: undefined, slot: undefined };
    this.#places.add(place);
    // Only after a restart does anybody come who was there before others.
    if (seq < this.#lastSeq) this.#insert([]);
    this.#lastSeq = Math.max(seq, this.#lastSeq);
    return place;
  }

  #insert(places: Iterable<Place>): void {
    const sorted = [...this.#places, ...places].sort((a, b) => a.seq - b.seq);
    this.#places.clear();
    for (const place of sorted) this.#places.add(place);
  }

  /** The task of this place is on record, and may start. */
  fill(place: Place, launch: Launch): void {
    place.launch = launch;
    if (place.slot) this.#start(place, launch, place.slot);
    else this.drain();
  }

  /** Gives up a place, and the slot that was held for it. */
  leave(place: Place): void {
    this.#places.delete(place);
    this.#deferred.delete(place);
    place.slot?.release();
    place.slot = undefined;
  }

  remove(entry: Entry): void {
    for (const place of [...this.#places, ...this.#deferred]) if (place.launch?.entry === entry) this.leave(place);
  }

  /** The first pass is over: everybody who was there before has a place. */
  begin(): void {
    this.#held = false;
    this.drain();
  }

  /** Nothing starts any more. */
  close(): void {
    this.#open = false;
  }

  /** Resolves once no launch is under way. */
  async idle(): Promise<void> {
    while (this.#launches.size > 0) await Promise.all(this.#launches);
  }

  /** For a reconcile: tries everything again. */
  retry(): void {
    this.#insert(this.#deferred);
    this.#deferred.clear();
    this.drain();
  }

  /** Gives every free slot to the oldest place that may have it. Called whenever a slot was freed; never throws. */
  drain(): void {
    if (!this.#open || this.#held) return;
    for (const place of [...this.#places]) {
      if (place.slot || !this.#places.has(place)) continue;
      const slot = this.#tryTake(place);
      if (!slot) continue;
      place.slot = slot;
      if (place.launch) this.#start(place, place.launch, slot);
    }
  }

  /** The host's own limit for a group may throw: that is told, and the place waits. */
  #tryTake(place: Place): Hold | undefined {
    try {
      return this.#slots.tryTake(place.group);
    } catch (error) {
      this.#core.report(toTaskError(error, 'INVALID_OPTIONS', place.launch?.entry.taskId), place.launch?.entry.taskId);
      return undefined;
    }
  }

  #start(place: Place, launch: Launch, slot: Hold): void {
    const { entry } = launch;
    this.#places.delete(place);
    place.slot = undefined;
    entry.slot = slot;
    const launching = entry
      .exclusive(() => this.#begin(place, launch))
      .catch((error: unknown) => this.#core.report(error, entry.taskId))
      .finally(() => this.#launches.delete(launching));
    this.#launches.add(launching);
  }

  async #begin(place: Place, launch: Launch): Promise<void> {
    const { entry } = launch;
    // A task that was judged while queued (stopped, timed out) must not start, even if that is not on disk yet.
    if (entry.outcome || !entry.active || !this.#open) return this.#putBack(place, entry);
    try {
      await this.#core.ledger.change(entry, (record) => this.#launcher.begun(record));
    } catch (error) {
      // The launch does not happen: the task stays queued, and the next reconcile tries again.
      this.#core.reportOnce(error, entry.taskId);
      return this.#putBack(place, entry);
    }
    // Closed while its record was written: its work never began.
    if (!this.#open) return this.#launcher.giveUp(entry);
    await this.#launcher.launch(launch);
  }

  #putBack(place: Place, entry: Entry): void {
    if (entry.active && !entry.outcome) this.#deferred.add(place);
    const { slot } = entry;
    entry.slot = undefined;
    slot?.release();
  }
}
