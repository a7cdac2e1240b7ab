import { BackgroundTaskError } from '../errors.js';
import type { Slot } from '../task/spec.js';

/** A slot that is taken. Released once, however often asked. */
export interface HeldSlot {
  release(): void;
}

/** What reserveSlot gave out, and whether a task took it over. */
interface Reservation {
  readonly owner: Slots;
  hold: HeldSlot | undefined;
}
const reservations = new WeakMap<Slot, Reservation>();

/**
 * Counts the slots of detached work, in all and by group. Taking one is synchronous, before any side effect, so that no burst of
 * registrations can pass a limit. Adopted and detached work takes a slot by right: it may push the count beyond the limit, and then
 * nothing new starts until it is below again.
 */
export class Slots {
  readonly limit: number;
  readonly #groupLimit: (group: string) => number;
  #onFree: () => void = () => undefined;
  readonly #byGroup = new Map<string, number>();
  #used = 0;

  constructor(limit: number, groupLimit: (group: string) => number) {
    this.limit = limit;
    this.#groupLimit = groupLimit;
  }

  /** `listener` is called whenever a slot was given back. One at a time: the queue. */
  whenFree(listener: () => void): void {
    this.#onFree = listener;
  }

  get used(): number {
    return this.#used;
  }

  /** A slot, if one is free. */
  tryTake(group: string | undefined): HeldSlot | undefined {
    if (this.#used >= this.limit) return undefined;
    if (group !== undefined && (this.#byGroup.get(group) ?? 0) >= this.#groupLimit(group)) return undefined;
    return this.take(group);
  }

  /** A slot by right: it may go beyond the limit. */
  take(group: string | undefined): HeldSlot {
    this.#count(group, 1);
    let held = true;
    return {
      release: () => {
        if (!held) return;
        held = false;
        this.#count(group, -1);
        this.#onFree();
      },
    };
  }

  /** A slot for the host to hold. Throws `CAPACITY_EXCEEDED`. */
  reserve(group: string | undefined): Slot {
    const hold = this.tryTake(group);
    if (!hold) throw this.full(group);
    const reservation: Reservation = { owner: this, hold };
    const release = () => {
      reservation.hold?.release();
      reservation.hold = undefined;
    };
    const slot: Slot = Object.freeze({ group, release, [Symbol.dispose]: release });
    reservations.set(slot, reservation);
    return slot;
  }

  /** Takes a reserved slot over for a task: from then on `slot.release()` does nothing. Throws `INVALID_SPEC`. */
  claim(slot: Slot, group: string | undefined): HeldSlot {
    const reservation = reservations.get(slot);
    const problem =
      reservation?.owner !== this
        ? 'expected a slot from reserveSlot of this manager'
        : !reservation.hold
          ? 'expected a slot that is still held, got one that was released or used'
          : slot.group !== group
            ? `expected a slot of the group ${group}, got one of ${slot.group}`
            : undefined;
    if (problem || !reservation?.hold) throw new BackgroundTaskError('INVALID_SPEC', `slot: ${problem}`);
    const { hold } = reservation;
    reservation.hold = undefined;
    return hold;
  }

  /** Releases what a refused spec brought, if it is a slot of ours; harmless once a task has taken it over. */
  giveBack(slot: unknown): void {
    if (typeof slot === 'object' && slot !== null && reservations.get(slot as Slot)?.owner === this)
      (slot as Slot).release();
  }

  full(group: string | undefined): BackgroundTaskError {
    const groupUsed = group === undefined ? 0 : (this.#byGroup.get(group) ?? 0);
    const limit =
      this.#used >= this.limit
        ? `${this.#used} of at most ${this.limit} tasks are running`
        : `${groupUsed} of at most ${this.#groupLimit(group ?? '')} tasks of the group "${group}" are running`;
    return new BackgroundTaskError('CAPACITY_EXCEEDED', `no slot is free: ${limit}`);
  }

  #count(group: string | undefined, by: 1 | -1): void {
    this.#used += by;
    if (group === undefined) return;
    const count = (this.#byGroup.get(group) ?? 0) + by;
    if (count === 0) this.#byGroup.delete(group);
    else this.#byGroup.set(group, count);
  }
}
