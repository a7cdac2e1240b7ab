import type { Clock } from '../clock.js';
import type { BackgroundTaskError } from '../errors.js';
import type { OutputWindow, ReadOutputOptions } from '../output/types.js';
import type { TaskRecord } from '../task/record.js';

/** The events of deliveries, as the outbox has them: with records, which the public types narrow by kind. */
export interface HookEvents {
  'hook:delivered': { task: TaskRecord; hook: string; attempt: number };
  'hook:retrying': { task: TaskRecord; hook: string; attempt: number; error: Error; nextAttemptAt: number };
  'hook:failed': { task: TaskRecord; hook: string; attempt: number; error: Error };
}

/** What the outbox needs from whoever keeps the records. */
export interface OutboxPort {
  readonly clock: Clock;
  /** The task as it stands in memory. */
  get(taskId: string): TaskRecord | undefined;
  /**
   * One durable change of a record, after all earlier ones of the same task: `next` gets the current record and returns the new one, or
   * `undefined` to leave it. Resolves with the record as it is then. Rejects with `STORAGE_FAILED`, `TASK_NOT_FOUND`, `OWNERSHIP_LOST`,
   * `RECORD_UNSUPPORTED` or `MANAGER_CLOSED`.
   */
  change(taskId: string, next: (record: TaskRecord) => TaskRecord | undefined): Promise<TaskRecord>;
  /** Tells the host; listeners are isolated. */
  emit<E extends keyof HookEvents>(event: E, payload: HookEvents[E]): void;
  /** The `error` event. */
  report(error: BackgroundTaskError): void;
  readOutput(taskId: string, options?: ReadOutputOptions): Promise<OutputWindow>;
}
