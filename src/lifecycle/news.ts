import type { BackgroundTaskEvents, EventHub } from '../events.js';
import type { TaskRecord } from '../task/record.js';
import { toTaskError } from './failures.js';

/** The payloads as the lifecycle has them: records, which the public types narrow by kind. */
type Payload<E extends keyof BackgroundTaskEvents> = {
  [K in keyof BackgroundTaskEvents[E]]: K extends 'task' ? TaskRecord : BackgroundTaskEvents[E][K];
};

/** Tells the host. `task:` events come from here only after their record is durable. */
export class News {
  readonly #hub: EventHub;

  constructor(hub: EventHub) {
    this.#hub = hub;
  }

  emit<E extends keyof BackgroundTaskEvents>(event: E, payload: Payload<E>): void {
    this.#hub.emit(event, payload as unknown as BackgroundTaskEvents[E]);
  }

  /** The `error` event. */
  report(error: unknown, taskId?: string): void {
    const told = toTaskError(error, 'STORAGE_FAILED', taskId);
    this.emit('error', taskId === undefined ? { error: told } : { error: told, taskId });
  }
}
