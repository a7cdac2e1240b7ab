import type { Clock } from '../clock.js';
import { asError, BackgroundTaskError, type BackgroundTaskErrorCode } from '../errors.js';
import type { BackgroundTaskEvents, EventHub } from '../events.js';
import type { Settings } from '../options.js';
import type { FileStore } from '../store/file-store.js';
import type { TaskRecord } from '../task/record.js';
import type { Entry } from './entry.js';
import type { Ledger } from './ledger.js';
import type { TaskTable } from './table.js';
import type { Waits } from './waits.js';

/** The payloads as the lifecycle has them: records, which the public types narrow by kind. */
type Payload<E extends keyof BackgroundTaskEvents> = {
  [K in keyof BackgroundTaskEvents[E]]: K extends 'task' ? TaskRecord : BackgroundTaskEvents[E][K];
};

/** What every part of the lifecycle works with. */
export class Core {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly store: FileStore;
  readonly table: TaskTable;
  readonly ledger: Ledger;
  readonly waits: Waits;
  readonly #hub: EventHub;
  /** What was last reported of each task, so that a fault that lasts is told once. */
  readonly #reported = new Map<string, string>();

  constructor(parts: Pick<Core, 'settings' | 'clock' | 'store' | 'table' | 'ledger' | 'waits'>, hub: EventHub) {
    this.settings = parts.settings;
    this.clock = parts.clock;
    this.store = parts.store;
    this.table = parts.table;
    this.ledger = parts.ledger;
    this.waits = parts.waits;
    this.#hub = hub;
  }

  /** Tells the host. `task:` events come from here only after their record is durable. */
  emit<E extends keyof BackgroundTaskEvents>(event: E, payload: Payload<E>): void {
    this.#hub.emit(event, payload as unknown as BackgroundTaskEvents[E]);
  }

  /** The `error` event. */
  report(error: unknown, taskId?: string): void {
    const told = toTaskError(error, 'STORAGE_FAILED', taskId);
    this.emit('error', taskId === undefined ? { error: told } : { error: told, taskId });
  }

  /** The `error` event, once for each task until the reason changes or `recovered` was called. */
  reportOnce(error: unknown, taskId: string): void {
    const reason = reasonOf(error);
    if (this.#reported.get(taskId) === reason) return;
    this.#reported.set(taskId, reason);
    this.report(error, taskId);
  }

  recovered(taskId: string): void {
    this.#reported.delete(taskId);
  }

  /** Now, but never before the task's start: the wall clock may have been set back. */
  notBefore(record: TaskRecord, time = this.clock.now()): number {
    return Math.max(time, record.startedAt ?? record.createdAt);
  }
}

/** What makes two failures the same: the system's code where there is one, since its message may name a temporary file. */
function reasonOf(error: unknown): string {
  const { message, cause } = asError(error);
  return (cause as NodeJS.ErrnoException | undefined)?.code ?? message;
}

/** An error of ours stays what it is; anything else becomes the cause of one with this code. */
export function toTaskError(error: unknown, code: BackgroundTaskErrorCode, taskId?: string): BackgroundTaskError {
  if (error instanceof BackgroundTaskError) return error;
  const cause = asError(error);
  return new BackgroundTaskError(code, cause.message, { cause: error, taskId });
}

/** Whether this manager is at its end: it lost the directory, or was closed. Nothing must be written or signalled any more. */
export function isOver(error: unknown): boolean {
  return error instanceof BackgroundTaskError && (error.code === 'OWNERSHIP_LOST' || error.code === 'MANAGER_CLOSED');
}

/** The entry's kind, where this host may act on the task. Throws `RECORD_UNSUPPORTED` or `UNKNOWN_KIND`. */
export function expectManaged(entry: Entry): NonNullable<Entry['kind']> {
  if (entry.kind) return entry.kind;
  const { record, taskId } = entry;
  if (record.schemaVersion > 1) {
    throw new BackgroundTaskError(
      'RECORD_UNSUPPORTED',
      `the record was written by a newer version (schemaVersion ${record.schemaVersion})`,
      { taskId },
    );
  }
  throw new BackgroundTaskError(
    'UNKNOWN_KIND',
    `the task is of the kind "${record.kind}", which this manager does not have, or its details do not fit that kind`,
    { taskId },
  );
}
