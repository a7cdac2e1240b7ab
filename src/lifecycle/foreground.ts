import type { TaskRecord } from '../task/record.js';
import type { Slots } from './capacity.js';
import type { Core } from './core.js';
import { expectManaged } from './core.js';
import type { Deadlines } from './deadlines.js';
import type { Entry } from './entry.js';
import { without } from './ledger.js';

/** Work that a caller waits for, until it is sent to the background: then it counts as a running task and owes its hooks. */
export class Foreground {
  readonly #core: Core;
  readonly #slots: Slots;
  readonly #deadlines: Deadlines;
  readonly #look: (entry: Entry) => Promise<unknown>;
  readonly #listeners = new WeakMap<Entry, () => void>();

  constructor(core: Core, slots: Slots, deadlines: Deadlines, look: (entry: Entry) => Promise<unknown>) {
    this.#core = core;
    this.#look = look;
    this.#slots = slots;
    this.#deadlines = deadlines;
  }

  /** Stops the task when its caller's signal aborts, until it is detached. */
  bind(entry: Entry, signal: AbortSignal | undefined, stop: (entry: Entry, reason: string | undefined) => void): void {
    if (!signal || entry.record.detached || !entry.active) return;
    const onAbort = () => stop(entry, reasonOf(signal));
    this.#listeners.set(entry, () => signal.removeEventListener('abort', onAbort));
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  }

  /** The task ended or was detached: its caller's signal means nothing any more. */
  unbind(entry: Entry): void {
    this.#listeners.get(entry)?.();
    this.#listeners.delete(entry);
  }

  detach(entry: Entry, byTimeout: boolean): Promise<TaskRecord> {
    return entry.exclusive(async () => {
      if (!entry.active || entry.record.detached) return entry.view;
      expectManaged(entry);
      // What has ended is not detached. A probe that fails says nothing.
      await this.#look(entry).catch((error: unknown) => this.#core.reportOnce(error, entry.taskId));
      if (!entry.active || entry.outcome || entry.record.detached) return entry.view;
      const task = await this.#core.ledger.change(
        entry,
        (record) => (entry.active ? detached(record, byTimeout, this.#core.clock.now()) : undefined),
        (record) => {
          entry.released = byTimeout ? 'detached_by_timeout' : 'detached';
          entry.slot ??= this.#slots.take(record.group);
          this.unbind(entry);
          this.#core.emit('task:detached', { task: record, byTimeout });
        },
      );
      this.#deadlines.arm(entry);
      this.#core.waits.notify(entry.taskId);
      return task;
    });
  }
}

/** `detachTimeoutMs` re-arms the deadline from now; absent, it stays, unless it was the deadline that detached the task. */
export function detached(record: TaskRecord, byTimeout: boolean, now: number): TaskRecord {
  const { detachTimeoutMs } = record;
  if (detachTimeoutMs) return { ...record, detached: true, deadlineAt: now + detachTimeoutMs };
  const stays = detachTimeoutMs === undefined && !byTimeout;
  return { ...(stays ? record : without(record, 'deadlineAt')), detached: true };
}

function reasonOf({ reason }: AbortSignal): string | undefined {
  if (typeof reason === 'string') return reason;
  return typeof reason?.message === 'string' ? reason.message : undefined;
}
