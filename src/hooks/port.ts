import type { Clock } from '../clock.js';
import type { BackgroundTaskError } from '../errors.js';
import type { OutputWindow, ReadOutputOptions } from '../output/types.js';
import type { EventsOf } from '../task/events.js';
import type { TaskRecord } from '../task/record.js';
import type { OwedChange } from './owed.js';

/** The events of deliveries, with records, which the public types narrow by kind. */
export type HookEvents = Pick<EventsOf<TaskRecord>, 'hook:delivered' | 'hook:retrying' | 'hook:failed'>;

/** A delivery under way. */
export interface DeliveryUnderWay {
  /** The task was offered again meanwhile. */
  offeredAgain: boolean;
  /** What the attempts came to, while it is not on record yet. */
  readonly outcome: OwedChange | undefined;
  /** Ends it now. */
  cancel(reason: Error): void;
}

/** The deliveries of one task that are under way, by hook. */
export type Deliveries = Map<string, DeliveryUnderWay>;

/** What the outbox needs from the manager. */
export interface OutboxPort {
  readonly clock: Clock;
  /** The task as it stands in memory. */
  get(taskId: string): TaskRecord | undefined;
  /** The deliveries of this task that are under way, by hook. The task keeps them; of one that is gone there are none. */
  deliveries(taskId: string): Deliveries;
  /** The ended tasks that owe something. */
  owing(): Iterable<TaskRecord>;
  /**
   * One durable change of a record, after all earlier ones of the same task: `next` gets the current record and returns
   * the new one, or `undefined` to leave it. Resolves with the record as it is then. Rejects with `STORAGE_FAILED`,
   * `TASK_NOT_FOUND`, `OWNERSHIP_LOST`, `RECORD_UNSUPPORTED` or `MANAGER_CLOSED`.
   */
  change(taskId: string, next: (record: TaskRecord) => TaskRecord | undefined): Promise<TaskRecord>;
  /** Emits an event; listeners are isolated. */
  emit<E extends keyof HookEvents>(event: E, payload: HookEvents[E]): void;
  /** The `error` event. */
  report(error: BackgroundTaskError): void;
  readOutput(taskId: string, options?: ReadOutputOptions): Promise<OutputWindow>;
}
