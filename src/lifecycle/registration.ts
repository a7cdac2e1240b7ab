/*
 * registerTask: the slot first, synchronously; then the record; then the work. What is refused on the way leaves no record, no slot,
 * and its id free.
 */
import { BackgroundTaskError } from '../errors.js';
import { newTaskId } from '../task/id.js';
import type { KindRuntime } from '../task/kind.js';
import { SCHEMA_VERSION, type TaskRecord } from '../task/record.js';
import type { OwedDelivery } from '../task/types.js';
import type { Hold, Slots } from './capacity.js';
import type { Core } from './core.js';
import type { Deadlines } from './deadlines.js';
import { Entry } from './entry.js';
import type { Foreground } from './foreground.js';
import { assertSame, digestsOf } from './idempotency.js';
import type { Launcher } from './launch.js';
import type { Place, Queue } from './queue.js';
import { type ParsedSpec, parseSpec } from './spec-parser.js';

interface Parts {
  readonly kinds: ReadonlyMap<string, KindRuntime>;
  readonly slots: Slots;
  readonly queue: Queue;
  readonly launcher: Launcher;
  readonly deadlines: Deadlines;
  readonly foreground: Foreground;
  /** What a new task owes. Throws `UNKNOWN_HOOK`. */
  readonly owe: (names: readonly string[] | undefined) => Record<string, OwedDelivery>;
  readonly stopForCaller: (entry: Entry, reason: string | undefined) => void;
  /** The task is on record. */
  readonly onRegistered: (entry: Entry) => void;
  /** Ids of files that could not be read and were left in place: never overwritten. */
  readonly unavailableIds: ReadonlySet<string>;
}

/** What a new task has: a slot, a place in the queue, or, in the foreground, nothing. */
interface Standing {
  readonly slot?: Hold | undefined;
  readonly place?: Place | undefined;
}

/** A checked spec, and what its task will owe. */
type OwingSpec = ParsedSpec & { readonly owed: Record<string, OwedDelivery> };

export class Registration {
  readonly #core: Core;
  readonly #parts: Parts;
  /** Registrations under way, by id and by idempotency key. */
  readonly #ids = new Set<string>();
  readonly #unwritten = new Set<TaskRecord>();
  readonly #keys = new Map<string, Promise<unknown>>();

  constructor(core: Core, parts: Parts) {
    this.#core = core;
    this.#parts = parts;
  }

  /** Takes a slot that the spec brings over, or gives it back: once a task has it, releasing it changes nothing. */
  async register(spec: unknown): Promise<TaskRecord> {
    try {
      return await this.#register(this.#parse(spec));
    } finally {
      this.#parts.slots.giveBack((spec as { slot?: unknown } | null | undefined)?.slot);
    }
  }

  #parse(spec: unknown): OwingSpec {
    const parsed = parseSpec(spec, this.#parts.kinds);
    if (!parsed.detached) parsed.signal?.throwIfAborted();
    return { ...parsed, owed: this.#parts.owe(parsed.hooks) };
  }

  async #register(spec: OwingSpec): Promise<TaskRecord> {
    const key = spec.idempotencyKey;
    if (key === undefined) return this.#registerNew(spec);
    for (let twin = this.#keys.get(key); twin; twin = this.#keys.get(key)) {
      await twin.catch(() => undefined); // refused for its own caller; then this one tries
    }
    const existing = this.#core.table.byKey(key);
    if (existing) {
      assertSame(key, existing.record, { kind: spec.kind.name, details: spec.details });
      return existing.view;
    }
    const done = this.#registerNew(spec);
    this.#keys.set(key, done);
    return done.finally(() => this.#keys.delete(key));
  }

  async #registerNew(spec: OwingSpec): Promise<TaskRecord> {
    const taskId = this.#reserveId(spec);
    let standing: Standing | undefined;
    try {
      const seq = this.#core.table.nextSeq();
      standing = this.#takeSlot(spec, seq);
      const entry = await this.#record(spec, taskId, seq, standing);
      this.#parts.onRegistered(entry);
      return standing.place ? this.#enqueue(entry, spec, standing.place) : await this.#launch(entry, spec);
    } catch (error) {
      if (!this.#core.table.get(taskId)) {
        standing?.slot?.release();
        if (standing?.place) this.#parts.queue.leave(standing.place);
      }
      throw error;
    } finally {
      this.#ids.delete(taskId);
    }
  }

  #reserveId({ taskId, kind }: ParsedSpec): string {
    const taken = (id: string) =>
      this.#ids.has(id) || this.#core.table.get(id) !== undefined || this.#parts.unavailableIds.has(id);
    if (taskId !== undefined && taken(taskId)) {
      const why = this.#parts.unavailableIds.has(taskId) ? 'belongs to a record that cannot be read' : 'is taken';
      throw new BackgroundTaskError('TASK_EXISTS', `the task id "${taskId}" ${why}`, { taskId });
    }
    let id = taskId ?? newTaskId(kind.idPrefix);
    while (taken(id)) id = newTaskId(kind.idPrefix);
    this.#ids.add(id);
    return id;
  }

  /** A slot, or a place in the queue; foreground work takes neither. Throws `CAPACITY_EXCEEDED`. */
  #takeSlot({ detached, slot, group, whenFull }: ParsedSpec, seq: number): Standing {
    const { slots, queue } = this.#parts;
    if (slot) {
      const hold = slots.claim(slot, group);
      if (detached) return { slot: hold };
      hold.release();
    }
    if (!detached) return {};
    const hold = slots.tryTake(group);
    if (hold) return { slot: hold };
    if ((whenFull ?? this.#core.settings.whenFull) === 'reject') throw slots.full(group);
    return { place: queue.enter(group, seq) };
  }

  async #record(spec: OwingSpec, taskId: string, seq: number, { slot, place }: Standing): Promise<Entry> {
    const fresh = this.#freshRecord(spec, taskId);
    const entry = new Entry(fresh, seq, spec.kind);
    this.#unwritten.add(fresh);
    try {
      await this.#core.store.clear(taskId);
      await this.#core.ledger.change(entry, (record) => (place ? { ...record } : this.#parts.launcher.begun(record)));
      entry.slot = slot;
      this.#core.table.add(entry);
      return entry;
    } finally {
      this.#unwritten.delete(fresh);
      this.#core.waits.notify(taskId);
    }
  }

  /** Registrations whose tasks are not on record yet. */
  underWay(): Iterable<TaskRecord> {
    return this.#unwritten;
  }

  #freshRecord(spec: OwingSpec, taskId: string): TaskRecord {
    const ceiling = spec.kind.spec?.fields.maxOutputBytes
      ? (spec.maxOutputBytes ?? this.#core.settings.maxOutputBytes)
      : Number.POSITIVE_INFINITY;
    const now = this.#core.clock.now();
    return {
      schemaVersion: SCHEMA_VERSION,
      taskId,
      kind: spec.kind.name,
      description: spec.description,
      status: 'queued',
      detached: spec.detached,
      createdAt: now,
      startedAt: null,
      endedAt: null,
      ...(spec.timeoutMs && { timeoutMs: spec.timeoutMs }),
      ...(spec.queueTimeoutMs && { queueTimeoutMs: spec.queueTimeoutMs }),
      ...(spec.ttlMs !== undefined && { ttlMs: spec.ttlMs }),
      ...(spec.group !== undefined && { group: spec.group }),
      ...(spec.idempotencyKey !== undefined && {
        idempotencyKey: spec.idempotencyKey,
        registeredDetails: digestsOf(spec.details),
      }),
      ...(spec.kind.start && !spec.kind.missing && spec.input !== undefined && { hasInput: true }),
      attempt: 1,
      revision: 0,
      updatedAt: now,
      ...(Number.isFinite(ceiling) && { maxOutputBytes: ceiling }),
      ...(!spec.detached && spec.detachOnTimeout && { detachOnTimeout: true }),
      ...(!spec.detached && spec.detachTimeoutMs !== undefined && { detachTimeoutMs: spec.detachTimeoutMs }),
      owner: this.#core.store.owner,
      details: spec.details,
      metadata: spec.metadata,
      hooks: spec.owed,
    };
  }

  #enqueue(entry: Entry, spec: ParsedSpec, place: Place): TaskRecord {
    this.#parts.deadlines.arm(entry);
    this.#core.emit('task:queued', { task: entry.view });
    const queued = entry.view;
    this.#parts.queue.fill(place, { entry, kind: spec.kind, input: spec.input, callerWaits: false });
    return queued;
  }

  async #launch(entry: Entry, spec: ParsedSpec): Promise<TaskRecord> {
    await entry.exclusive(() =>
      this.#parts.launcher.launch({ entry, kind: spec.kind, input: spec.input, callerWaits: true }),
    );
    this.#parts.foreground.bind(entry, spec.signal, this.#parts.stopForCaller);
    return entry.view;
  }
}
