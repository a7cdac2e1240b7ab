/* Who hears of tasks: listeners, who are here now, and hooks, which completions must reach. */
import type { BackgroundTaskEvents, EventHub } from './events.js';
import type { DeliveryEntry, HookDefinition } from './hooks/types.js';
import { callOptions } from './lifecycle/call-options.js';
import type { Opened } from './lifecycle/opening.js';
import type { Parts } from './lifecycle/parts.js';
import { checkOptions } from './task/filter.js';
import { taskIdOf } from './task/id.js';
import type { AnyTaskKind, SameTask } from './task/kind.js';
import type { Awaitable, HookState, TaskRef } from './task/types.js';

type AnyEvent<E> = { [N in keyof E]: [event: N, payload: E[N]] }[keyof E];

/** The events and the deliveries of a manager. */
export abstract class Notifications<K extends AnyTaskKind = never> {
  readonly #parts: Parts;
  readonly #hub: EventHub;

  /** `opened` is no part of the declarations: its type would bring along everything inside. @internal */
  protected constructor(opened: unknown) {
    const { parts, hub } = (opened ?? {}) as Opened;
    this.#parts = parts;
    this.#hub = hub;
  }

  /**
   * Listens to an event, or to all (`'*'`, with the event's name first). Returns what ends it. A listener that throws or rejects reaches
   * `error`, and nobody else is kept from hearing. Throws `INVALID_SPEC` for an event that does not exist.
   */
  on<E extends keyof BackgroundTaskEvents<K>>(
    event: E,
    listener: (payload: BackgroundTaskEvents<K>[E]) => Awaitable<void>,
  ): () => void;
  on(event: '*', listener: (...args: AnyEvent<BackgroundTaskEvents<K>>) => Awaitable<void>): () => void;
  on(event: string, listener: (...args: any[]) => Awaitable<void>): () => void {
    this.#parts.lifetime.assertOpen();
    return this.#hub.on(event as never, listener as never);
  }

  /** Listens to the next event of this name only. Returns what ends it. */
  once<E extends keyof BackgroundTaskEvents<K>>(
    event: E,
    listener: (payload: BackgroundTaskEvents<K>[E]) => Awaitable<void>,
  ): () => void {
    this.#parts.lifetime.assertOpen();
    return this.#hub.once(event as never, listener as never);
  }

  /** Ends what `on` or `once` began. Harmless for a listener that was never added. */
  off<E extends keyof BackgroundTaskEvents<K>>(
    event: E,
    listener: (payload: BackgroundTaskEvents<K>[E]) => Awaitable<void>,
  ): void {
    this.#parts.lifetime.assertOpen();
    this.#hub.off(event as never, listener as never);
  }

  /** Adds a hook, and delivers what tasks on record owe to it. Throws `INVALID_OPTIONS` for a name that is there already. */
  addHook(name: string, hook: HookDefinition<K>): void {
    this.#parts.lifetime.assertOpen();
    this.#parts.outbox.addHook(name, hook);
  }

  /**
   * Starts a fresh set of attempts: for one hook, or for every failed one of the task. Throws `TASK_NOT_FOUND`, `UNKNOWN_HOOK`,
   * `INVALID_SPEC` (the task has not ended) or `STORAGE_FAILED`.
   */
  async redeliver<T extends TaskRef>(task: T, name?: string): Promise<SameTask<K, T>> {
    return this.#task(this.#parts.outbox.redeliver(this.#owing(task), name));
  }

  /** Withdraws a delivery, also while the task still runs; an attempt under way is aborted. Throws `TASK_NOT_FOUND`, `UNKNOWN_HOOK` or `STORAGE_FAILED`. */
  async skipHook<T extends TaskRef>(task: T, name: string): Promise<SameTask<K, T>> {
    return this.#task(this.#parts.outbox.skip(this.#owing(task), name));
  }

  /** Says that a delivery arrived: how a `'pull'` hook's debts are paid. Throws `TASK_NOT_FOUND`, `UNKNOWN_HOOK`, `INVALID_SPEC` (the task has not ended) or `STORAGE_FAILED`. */
  async acknowledge<T extends TaskRef>(task: T, name: string): Promise<SameTask<K, T>> {
    return this.#task(this.#parts.outbox.acknowledge(this.#owing(task), name));
  }

  /** The deliveries of ended tasks, in any state unless one is named. */
  listDeliveries(filter?: { state?: HookState | undefined; name?: string | undefined }): readonly DeliveryEntry<K>[] {
    this.#parts.lifetime.assertOpen();
    return this.#parts.listDeliveries(
      checkOptions(callOptions.listDeliveries, filter, 'listDeliveries'),
    ) as readonly DeliveryEntry<K>[];
  }

  #owing(task: TaskRef): string {
    this.#parts.lifetime.assertOpen();
    return this.#parts.table.expect(taskIdOf(task)).taskId;
  }

  async #task<T>(promise: Promise<unknown>): Promise<SameTask<K, T>> {
    return (await promise) as SameTask<K, T>;
  }
}
