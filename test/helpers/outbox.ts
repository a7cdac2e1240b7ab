// Records in memory with the semantics of real ones: each change is serialised by task, checked as a record, and only then visible.
import { setImmediate } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import type { Clock } from '../../src/clock.js';
import { BackgroundTaskError } from '../../src/errors.js';
import { type HookEvents, Outbox, type OutboxPort } from '../../src/hooks/outbox.js';
import type { Deliveries } from '../../src/hooks/port.js';
import type { HookDefinition } from '../../src/hooks/types.js';
import type { OutputWindow } from '../../src/output/types.js';
import { isSupported, parseCurrentRecord, type TaskRecord } from '../../src/task/record.js';
import { hookStates, isTerminalStatus } from '../../src/task/status.js';
import type { OwedDelivery, TaskStatus } from '../../src/task/types.js';
import { FakeClock } from './clock.js';

/** What is durable: it outlives a host. */
export type Disk = Map<string, TaskRecord>;

export interface TaskParts {
  taskId?: string;
  status?: TaskStatus;
  endedAt?: number | null;
  hooks?: Record<string, OwedDelivery>;
}

let serial = 0;

export function taskRecord({
  taskId = `task-${++serial}`,
  status = 'completed',
  endedAt = 1_790_000_000_000,
  hooks = {},
}: TaskParts = {}): TaskRecord {
  return parseCurrentRecord({
    schemaVersion: 1,
    taskId,
    kind: 'function',
    description: `the task ${taskId}`,
    status,
    detached: true,
    createdAt: 1_790_000_000_000,
    startedAt: 1_790_000_000_000,
    endedAt: status === 'running' || status === 'queued' || status === 'waiting' ? null : endedAt,
    attempt: 1,
    owner: null,
    details: {},
    metadata: {},
    hooks,
  });
}

export const pending = (more: Partial<OwedDelivery> = {}): OwedDelivery => ({ state: 'pending', attempts: 0, ...more });

type HookEvent = { [E in keyof HookEvents]: { event: E } & HookEvents[E] }[keyof HookEvents];

/** A system error as a full or broken disk gives it. */
export function diskError(code = 'ENOSPC', taskId?: string): BackgroundTaskError {
  const cause = Object.assign(new Error(`${code}: the disk refused`), { code });
  return new BackgroundTaskError('STORAGE_FAILED', 'the record could not be written', { cause, taskId });
}

export class MemoryPort implements OutboxPort {
  readonly clock: Clock;
  readonly disk: Disk;
  readonly events: HookEvent[] = [];
  readonly reports: BackgroundTaskError[] = [];
  /** Every record that was written. */
  readonly writes: TaskRecord[] = [];
  /** Set to make a write fail. */
  refuse: (taskId: string, record: TaskRecord) => Error | undefined = () => undefined;
  /** Set to hold writes up. */
  slow: () => Promise<unknown> | undefined = () => undefined;
  /** Called as an event is emitted. */
  onEvent: (event: HookEvent) => void = () => undefined;
  output = '';
  /** The host was killed: nothing reaches the disk any more. */
  dead = false;
  readonly #deliveries = new Map<string, Deliveries>();
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(clock: Clock, disk: Disk = new Map()) {
    this.clock = clock;
    this.disk = disk;
  }

  get(taskId: string): TaskRecord | undefined {
    return this.disk.get(taskId);
  }

  deliveries(taskId: string): Deliveries {
    const deliveries = this.#deliveries.get(taskId) ?? new Map();
    this.#deliveries.set(taskId, deliveries);
    return deliveries;
  }

  owing(): TaskRecord[] {
    return [...this.disk.values()].filter(
      ({ status, hooks }) => isTerminalStatus(status) && Object.values(hooks).some(({ state }) => state === 'pending'),
    );
  }

  change(taskId: string, next: (record: TaskRecord) => TaskRecord | undefined): Promise<TaskRecord> {
    const turn = this.#turns.get(taskId) ?? Promise.resolve();
    const result = turn.then(() => this.#change(taskId, next));
    this.#turns.set(
      taskId,
      result.catch(() => undefined),
    );
    return result;
  }

  async #change(taskId: string, next: (record: TaskRecord) => TaskRecord | undefined): Promise<TaskRecord> {
    const current = this.disk.get(taskId);
    if (!current) throw new BackgroundTaskError('TASK_NOT_FOUND', `no ${taskId}`, { taskId });
    if (!isSupported(current)) throw new BackgroundTaskError('RECORD_UNSUPPORTED', 'newer', { taskId });
    const changed = next(current);
    if (!changed) return current;
    const error = this.refuse(taskId, changed);
    if (error) throw error;
    await this.slow();
    if (this.dead) return new Promise(() => undefined);
    const record = parseCurrentRecord(JSON.parse(JSON.stringify(changed)));
    if (Object.values(record.hooks).some(({ state }) => !hookStates.includes(state))) throw new Error('no such state');
    this.disk.set(taskId, record);
    this.writes.push(record);
    return record;
  }

  emit<E extends keyof HookEvents>(event: E, payload: HookEvents[E]): void {
    const one = { event, ...payload } as HookEvent;
    this.events.push(one);
    this.onEvent(one);
  }

  report(error: BackgroundTaskError): void {
    this.reports.push(error);
  }

  async readOutput(): Promise<OutputWindow> {
    const size = Buffer.byteLength(this.output);
    return { text: this.output, offset: 0, nextOffset: size, size, truncated: false, path: '/output.log' };
  }

  /** What is on record for this delivery. */
  owed(taskId: string, hook = 'hook'): OwedDelivery | undefined {
    return this.disk.get(taskId)?.hooks[hook];
  }

  /** The events, as `event taskId hook attempt`. */
  get told(): string[] {
    return this.events.map(({ event, task, hook, attempt }) => `${event} ${task.taskId} ${hook} ${attempt}`);
  }

  add(parts: TaskParts = {}): TaskRecord {
    const record = taskRecord({ hooks: { hook: pending() }, ...parts });
    this.disk.set(record.taskId, record);
    return record;
  }
}

/** An outbox over a port, closed after the test. */
export function openOutbox(
  hooks: Record<string, HookDefinition<any>>,
  { clock = new FakeClock(), disk }: { clock?: FakeClock; disk?: Disk } = {},
) {
  const port = new MemoryPort(clock, disk);
  const outbox = new Outbox(port, hooks);
  onTestFinished(() => outbox.close(0));
  return { clock, port, outbox };
}

/** Lets everything that needs no time happen. */
export async function settle(turns = 3): Promise<void> {
  for (let turn = 0; turn < turns; turn++) await setImmediate();
}
