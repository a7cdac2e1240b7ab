/*
 * Who waits for a slot. A place in the queue is taken in the same moment in which no slot was free, before the record is written, so that
 * nothing newer overtakes it; a slot that becomes free goes to the oldest place at once, and is held there until the record is on disk.
 */
import { toTaskError } from './failures.js';
import type { Lifetime } from './lifetime.js';
import type { News } from './news.js';
import type { HeldSlot, Slots } from './slots.js';

/** A task that waits. */
export interface Queued {
  readonly taskId: string;
  /** Begins it with this slot, or none where it needs none. Resolves once its work runs, or will not; `deferred`: its record could not be written, and it waits on. */
  begin(slot: HeldSlot | undefined, input: unknown): Promise<'deferred' | 'over'>;
}

/** A place in the queue. */
export interface Place {
  readonly group: string | undefined;
  /** Places are served in this order, which is that of registration. */
  readonly seq: number;
  /** `false`: it begins as soon as this manager launches anything. */
  readonly needsSlot: boolean;
  /** The task, once it is on record, and what its launch brings that no record holds. */
  waiting: { readonly task: Queued; readonly input: unknown } | undefined;
  slot: HeldSlot | undefined;
}

/** Tasks that wait for a slot, oldest first. One whose group is full lets the next pass. */
export class Queue {
  readonly #slots: Slots;
  readonly #lifetime: Lifetime;
  readonly #news: News;
  readonly #places = new Set<Place>();
  /** Those that need no slot. */
  readonly #slotless = new Set<Place>();
  /** Their records could not be written: they are tried again by the next reconcile, not by the slot that they gave back. */
  readonly #deferred = new Set<Place>();
  readonly #launches = new Set<Promise<void>>();
  #lastSeq = -1;
  /** Until the first pass is over nothing starts: what it finds may be older than what is here. */
  #isHeld = true;

  constructor(slots: Slots, lifetime: Lifetime, news: News) {
    this.#slots = slots;
    this.#lifetime = lifetime;
    this.#news = news;
    slots.whenFree(() => this.drain());
  }

  /** Takes the place behind all that were registered before. */
  enter(group: string | undefined, seq: number, needsSlot = true): Place {
    const place: Place = { group, seq, needsSlot, waiting: undefined, slot: undefined };
    if (!needsSlot) {
      this.#slotless.add(place);
      return place;
    }
    this.#places.add(place);
    // Only after a restart does a task come that was there before others.
    if (seq < this.#lastSeq) this.#insert([]);
    this.#lastSeq = Math.max(seq, this.#lastSeq);
    return place;
  }

  #insert(places: Iterable<Place>): void {
    const sorted = [...this.#places, ...places].sort((a, b) => a.seq - b.seq);
    this.#places.clear();
    for (const place of sorted) this.#places.add(place);
  }

  /** The task of this place is on record, and may begin. */
  fill(place: Place, task: Queued, input: unknown): void {
    place.waiting = { task, input };
    if (place.slot) this.#begin(place);
    else this.drain();
  }

  /** Gives up a place, and the slot that was held for it. */
  leave(place: Place): void {
    this.#places.delete(place);
    this.#slotless.delete(place);
    this.#deferred.delete(place);
    place.slot?.release();
    place.slot = undefined;
  }

  remove(task: Queued): void {
    for (const place of [...this.#places, ...this.#slotless, ...this.#deferred])
      if (place.waiting?.task === task) this.leave(place);
  }

  /** The first pass is over: all that were there before have their places. */
  open(): void {
    this.#isHeld = false;
    this.drain();
  }

  /** Resolves once no launch is under way. */
  async idle(): Promise<void> {
    while (this.#launches.size > 0) await Promise.all(this.#launches);
  }

  /** For a reconcile: tries everything again. */
  retry(): void {
    const deferred = [...this.#deferred];
    this.#deferred.clear();
    this.#insert(deferred.filter(({ needsSlot }) => needsSlot));
    for (const place of deferred) if (!place.needsSlot) this.#slotless.add(place);
    this.drain();
  }

  /** Whether nobody waits for a slot. */
  get isEmpty(): boolean {
    return this.#places.size === 0;
  }

  /**
   * Gives every free slot to the oldest place that may have it. Called whenever a slot was freed; never throws. Where all slots are taken it
   * visits no place that needs one.
   */
  drain(): void {
    if (this.#lifetime.isClosing || this.#isHeld) return;
    for (const place of this.#slotless) if (place.waiting) this.#begin(place);
    // Asked anew for each slot that is given out, and not for each place that gets none.
    let limit: number | undefined;
    for (const place of this.#places) {
      if (place.slot) continue;
      limit ??= this.#asked(place, () => this.#slots.askLimit()) ?? 0;
      const known = limit;
      if (this.#slots.used >= known) return;
      place.slot = this.#asked(place, () => this.#slots.tryTake(place.group, known));
      if (!place.slot) continue;
      limit = undefined;
      if (place.waiting) this.#begin(place);
    }
  }

  /** The host's own limits may throw: that is told, and the place waits. */
  #asked<T>(place: Place, ask: () => T): T | undefined {
    try {
      return ask();
    } catch (error) {
      const taskId = place.waiting?.task.taskId;
      this.#news.report(toTaskError(error, 'INVALID_OPTIONS', taskId), taskId);
      return undefined;
    }
  }

  #begin(place: Place): void {
    const { task, input } = place.waiting!;
    const { slot } = place;
    this.#places.delete(place);
    this.#slotless.delete(place);
    place.slot = undefined;
    const launch = task
      .begin(slot, input)
      .then((result) => {
        if (result === 'deferred') this.#deferred.add(place);
      })
      .catch((error: unknown) => this.#news.report(error, task.taskId))
      .finally(() => this.#launches.delete(launch));
    this.#launches.add(launch);
  }
}
