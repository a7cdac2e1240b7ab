/*
 * registerTask: the slot first, synchronously; then the record; then the work. What is refused on the way leaves no record, no slot,
 * and its id free.
 */
import { BackgroundTaskError } from '../errors.js';
import type { Outbox } from '../hooks/outbox.js';
import { newTaskId } from '../task/id.js';
import { deepFreeze } from '../task/json.js';
import type { KindRuntime } from '../task/kind-runtime.js';
import { SCHEMA_VERSION, type TaskRecord } from '../task/record.js';
import type { Slot } from '../task/spec.js';
import type { OwedDelivery } from '../task/types.js';
import { assertSame, digestsOf } from './idempotency.js';
import type { Place } from './queue.js';
import type { HeldSlot } from './slots.js';
import { type ParsedSpec, parseSpec } from './spec-parser.js';
import type { TaskTable } from './table.js';
import type { Surroundings, TaskObserver } from './task/subject.js';
import { Task } from './task/task.js';
import type { Waits } from './waits.js';
import { hasUnrecordedInput, takeInput } from './work/sorts.js';

interface Needs {
  readonly shared: Surroundings;
  readonly observer: TaskObserver<Task>;
  readonly table: TaskTable<Task>;
  readonly waits: Waits;
  readonly outbox: Outbox;
  readonly kinds: ReadonlyMap<string, KindRuntime>;
  /** Ids of files that could not be read and were left in place: never overwritten. */
  readonly unavailableIds: ReadonlySet<string>;
}

/** What a new task has: a slot, a place in the queue, or, in the foreground, nothing. */
interface Admission {
  readonly slot?: HeldSlot | undefined;
  readonly place?: Place | undefined;
}

/** A checked spec, and what its task will owe. */
type OwingSpec = ParsedSpec & { readonly owed: Record<string, OwedDelivery> };

export class Registration {
  readonly #needs: Needs;
  /** Registrations under way, by id and by idempotency key: there is no task yet. */
  readonly #ids = new Set<string>();
  readonly #unwritten = new Set<TaskRecord>();
  readonly #keys = new Map<string, Promise<unknown>>();
  readonly #underWay = new Set<Promise<unknown>>();

  constructor(needs: Needs) {
    this.#needs = needs;
  }

  /** Takes a slot that the spec brings over, or gives it back: once a task has it, releasing it changes nothing. */
  async register(spec: unknown): Promise<TaskRecord> {
    const registered = this.#registerAny(spec);
    this.#underWay.add(registered);
    try {
      return await registered;
    } finally {
      this.#underWay.delete(registered);
    }
  }

  /** The calls that are not over: what they launch is to be judged like everything else. */
  get underWay(): readonly Promise<unknown>[] {
    return [...this.#underWay];
  }

  /** Those whose tasks are not on record yet. Frozen, as all that a predicate of the host is given. */
  *unwritten(): Generator<TaskRecord> {
    for (const record of this.#unwritten) if (!this.#needs.table.get(record.taskId)) yield deepFreeze(record);
  }

  async #registerAny(spec: unknown): Promise<TaskRecord> {
    try {
      return await this.#register(this.#parse(spec));
    } finally {
      this.#needs.shared.slots.giveBack((spec as { slot?: unknown } | null | undefined)?.slot);
    }
  }

  #parse(spec: unknown): OwingSpec {
    const parsed = parseSpec(spec, this.#needs.kinds);
    if (!parsed.detached) parsed.signal?.throwIfAborted();
    return { ...parsed, owed: this.#needs.outbox.owe(parsed.hooks) };
  }

  async #register(spec: OwingSpec): Promise<TaskRecord> {
    const key = spec.idempotencyKey;
    if (key === undefined) return this.#registerNew(spec);
    for (let twin = this.#keys.get(key); twin; twin = this.#keys.get(key)) {
      await twin.catch(() => undefined); // refused for its own caller; then this one tries
    }
    const existing = this.#needs.table.byKey(key);
    if (existing) {
      assertSame(key, existing.record, { kind: spec.kind.name, details: spec.details });
      return existing.view;
    }
    const done = this.#registerNew(spec);
    this.#keys.set(key, done);
    return done.finally(() => this.#keys.delete(key));
  }

  async #registerNew(spec: OwingSpec): Promise<TaskRecord> {
    const { table, shared } = this.#needs;
    const taskId = this.#reserveId(spec);
    let admission: Admission = {};
    let giveBack: (() => void) | undefined;
    try {
      const seq = table.nextSeq();
      admission = this.#admit(spec, seq);
      giveBack = takeInput(spec.input);
      const task = new Task(shared, this.#needs.observer, this.#freshRecord(spec, taskId), seq, spec.kind);
      const { place, slot } = admission;
      return await this.#enter(task, () => (place ? this.#enqueue(task, spec, place) : this.#begin(task, spec, slot)));
    } catch (error) {
      if (!table.get(taskId)) {
        admission.slot?.release();
        giveBack?.();
        if (admission.place) shared.queue.leave(admission.place);
      }
      throw error;
    } finally {
      this.#ids.delete(taskId);
    }
  }

  #reserveId({ taskId, kind }: ParsedSpec): string {
    const { table, unavailableIds } = this.#needs;
    const taken = (id: string) => this.#ids.has(id) || table.get(id) !== undefined || unavailableIds.has(id);
    if (taskId !== undefined && taken(taskId)) {
      const why = unavailableIds.has(taskId) ? 'belongs to a record that cannot be read' : 'is taken';
      throw new BackgroundTaskError('TASK_EXISTS', `the task id "${taskId}" ${why}`, { taskId });
    }
    let id = taskId ?? newTaskId(kind.idPrefix);
    while (taken(id)) id = newTaskId(kind.idPrefix);
    this.#ids.add(id);
    return id;
  }

  /** A slot, or a place in the queue; foreground work takes neither. Throws `CAPACITY_EXCEEDED`. */
  #admit({ detached, slot, group, whenFull }: ParsedSpec, seq: number): Admission {
    const { slots, queue, settings } = this.#needs.shared;
    if (slot) {
      const held = slots.claim(slot, group);
      if (detached) return { slot: held };
      held.release();
    }
    if (!detached) return {};
    this.#serveQueue(group);
    if ((whenFull ?? settings.whenFull) === 'reject') return { slot: slots.takeFree(group) };
    const held = slots.tryTake(group);
    return held ? { slot: held } : { place: queue.enter(group, seq) };
  }

  /** A slot for the host to hold. Throws `CAPACITY_EXCEEDED`. */
  reserve(group: string | undefined): Slot {
    this.#serveQueue(group);
    return this.#needs.shared.slots.reserve(group);
  }

  /** Where a limit has grown, those that wait already come first. Where there is no slot to be had, the queue is not visited. */
  #serveQueue(group: string | undefined): void {
    const { queue, slots } = this.#needs.shared;
    if (!queue.isEmpty && slots.hasFree(group)) queue.drain();
  }

  /** Until the task is on record, whoever waits for all tasks waits for it. */
  async #enter(task: Task, begin: () => Promise<TaskRecord>): Promise<TaskRecord> {
    const { store } = this.#needs.shared;
    const { record } = task;
    this.#unwritten.add(record);
    try {
      await store.clear(task.taskId);
      return await begin();
    } finally {
      this.#unwritten.delete(record);
      this.#needs.waits.notify();
    }
  }

  async #enqueue(task: Task, spec: ParsedSpec, place: Place): Promise<TaskRecord> {
    const queued = await task.post({ is: 'queued' });
    this.#needs.shared.queue.fill(place, task, spec.input);
    return queued;
  }

  async #begin(task: Task, spec: ParsedSpec, slot: HeldSlot | undefined): Promise<TaskRecord> {
    await task.beginNew(slot, spec.input, spec.signal);
    return task.view;
  }

  #freshRecord(spec: OwingSpec, taskId: string): TaskRecord {
    const { settings, clock, store } = this.#needs.shared;
    const ceiling = spec.kind.spec?.fields.maxOutputBytes
      ? (spec.maxOutputBytes ?? settings.maxOutputBytes)
      : Number.POSITIVE_INFINITY;
    const now = clock.now();
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
      ...(hasUnrecordedInput(spec.kind, spec.input) && { hasInput: true }),
      attempt: 1,
      revision: 0,
      updatedAt: now,
      ...(Number.isFinite(ceiling) && { maxOutputBytes: ceiling }),
      ...(!spec.detached && settings.countsTowardsLimit === 'registered-detached' && { takesNoSlot: true }),
      ...(!spec.detached && spec.detachOnTimeout && { detachOnTimeout: true }),
      ...(!spec.detached && spec.detachTimeoutMs !== undefined && { detachTimeoutMs: spec.detachTimeoutMs }),
      owner: store.owner,
      details: spec.details,
      metadata: spec.metadata,
      hooks: spec.owed,
    };
  }
}
