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
  readonly #limit: () => number;
  readonly #groupLimit: (group: string) => number;
  #onFree: () => void = () => undefined;
  readonly #byGroup = new Map<string, number>();
  #used = 0;
  #isAsking = false;
  /** What the host last said. */
  #answer = 0;

  /** Both are the host's: they may throw, and say something else each time. */
  constructor(limit: () => number, groupLimit: (group: string) => number) {
    this.#limit = limit;
    this.#groupLimit = groupLimit;
  }

  /** The limit as the host says it now. Throws what the host's function throws, and `INVALID_OPTIONS`. */
  askLimit(): number {
    this.#isAsking = true;
    try {
      this.#answer = this.#limit();
      return this.#answer;
    } finally {
      this.#isAsking = false;
    }
  }

  /** For people: 0 while the host's function fails, for nothing can begin then. A function that asks for the limit itself is told its last answer. */
  get limit(): number {
    if (this.#isAsking) return this.#answer;
    try {
      return this.askLimit();
    } catch {
      return 0; // told to whoever needs a slot
    }
  }

  /** `listener` is called whenever a slot was given back. One at a time: the queue. */
  whenFree(listener: () => void): void {
    this.#onFree = listener;
  }

  get used(): number {
    return this.#used;
  }

  /** A slot, if one is free. `limit`: for whoever has asked for it just now. */
  tryTake(group: string | undefined, limit = this.askLimit()): HeldSlot | undefined {
    return this.#obstacle(group, limit) ? undefined : this.take(group);
  }

  /** Whether {@link tryTake} would give one. Throws what it throws. */
  hasFree(group: string | undefined): boolean {
    return this.#obstacle(group, this.askLimit()) === undefined;
  }

  /** A slot. Throws `CAPACITY_EXCEEDED` where none is free. */
  takeFree(group: string | undefined): HeldSlot {
    const obstacle = this.#obstacle(group, this.askLimit());
    if (!obstacle) return this.take(group);
    const { used, limit, of } = obstacle;
    throw new BackgroundTaskError(
      'CAPACITY_EXCEEDED',
      `no slot is free: ${used} of at most ${limit} tasks${of} are running`,
    );
  }

  /** Which limit is reached; each is asked for once. */
  #obstacle(group: string | undefined, limit: number): { used: number; limit: number; of: string } | undefined {
    if (this.#used >= limit) return { used: this.#used, limit, of: '' };
    if (group === undefined) return undefined;
    const used = this.#byGroup.get(group) ?? 0;
    const groupLimit = this.#groupLimit(group);
    return used >= groupLimit ? { used, limit: groupLimit, of: ` of the group "${group}"` } : undefined;
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
    const reservation: Reservation = { owner: this, hold: this.takeFree(group) };
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

  #count(group: string | undefined, by: 1 | -1): void {
    this.#used += by;
    if (group === undefined) return;
    const count = (this.#byGroup.get(group) ?? 0) + by;
    if (count === 0) this.#byGroup.delete(group);
    else this.#byGroup.set(group, count);
  }
}
