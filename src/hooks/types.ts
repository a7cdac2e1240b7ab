import type { OutputWindow, ReadOutputOptions } from '../output/types.js';
import type { AnyTaskKind, Task } from '../task/kind.js';
import type { Awaitable, OwedDelivery } from '../task/types.js';

/** What a hook is given beside the task. */
export interface Delivery {
  /** `<taskId>:<hook>`: the same for every attempt and after every restart. Deduplicate by it. */
  readonly deliveryId: string;
  /** 1 for the first attempt; counted over restarts. */
  readonly attempt: number;
  /** Aborted when the attempt's time is up, the delivery is withdrawn, or the manager closes. */
  readonly signal: AbortSignal;
  /** The task's own output: a hook given to `open` cannot reach the manager yet. */
  readOutput(options?: ReadOutputOptions): Promise<OutputWindow>;
}

/**
 * Called with a task that ended, until it returns without throwing. Throw `PermanentDeliveryError` to give up at once.
 * An error with a number `retryAfterMs` is not tried again sooner than that; more than 15 minutes count as 15 minutes.
 */
export type Hook<K extends AnyTaskKind = never> = (task: Task<K>, delivery: Delivery) => Awaitable<unknown>;

/** A hook with its own limits. Attempts are spaced by exponential backoff with jitter. */
export interface HookOptions<K extends AnyTaskKind = never> {
  /** What is called. */
  deliver: Hook<K>;
  /** Attempts before the delivery is `failed`. Minimum 1, or `Infinity`; default 4. */
  maxAttempts?: number | undefined;
  /**
   * The delay before the second attempt, in milliseconds, times a random factor between 1 and 2; it doubles from there.
   * Minimum 0, default 500.
   */
  minDelayMs?: number | undefined;
  /**
   * No delay is longer, in milliseconds, unless the error asks for it. At least `minDelayMs`; default 30,000, or
   * `minDelayMs` where that is more.
   */
  maxDelayMs?: number | undefined;
  /**
   * Each attempt is limited to this, in milliseconds, from its start; then its signal is aborted and it has failed,
   * whatever it still does. 0: no limit. Default 30,000.
   */
  timeoutMs?: number | undefined;
}

/**
 * A function, `'pull'` (an inbox: what is owed waits in `listDeliveries` until `acknowledge`), or a function with its
 * limits.
 */
export type HookDefinition<K extends AnyTaskKind = never> = Hook<K> | HookOptions<K> | 'pull';

/** One delivery, as `listDeliveries` shows it. */
export interface DeliveryEntry<K extends AnyTaskKind> extends OwedDelivery {
  readonly taskId: string;
  readonly hook: string;
  readonly deliveryId: string;
  readonly task: Task<K>;
}
