/*
 * The event hub. A listener that throws neither keeps other listeners from being called nor throws into the code that
 * emits. Events are delivered in the order in which they were emitted.
 */
import { setImmediate } from 'node:timers/promises';
import mitt from 'mitt';
import { asError, BackgroundTaskError, withJsonError } from './errors.js';
import { type BackgroundTaskEvents, type EventName, eventNames, isEventName } from './task/events.js';
import { didYouMean } from './task/nearest.js';
import { came, show } from './task/show.js';
import type { Awaitable } from './task/types.js';

export type { BackgroundTaskEvents, ReconcileReport } from './task/events.js';

/** A listener to all events gets the event's name first. */
type ListenerTo<E extends EventName | '*'> = E extends EventName
  ? (payload: BackgroundTaskEvents[E]) => Awaitable<void>
  : (event: EventName, payload: BackgroundTaskEvents[EventName]) => Awaitable<void>;

/** Events delivered in one turn of the event loop when many were held back. */
const RELEASE_SLICE = 256;

interface Emission {
  readonly event: EventName;
  readonly payload: object;
}

/** An emission on its way through mitt. */
interface Round extends Emission {
  /** Listeners with a higher number were added later and are not called. */
  readonly lastListener: number;
  /** What listeners threw: reported once all have been called. */
  readonly thrown: unknown[];
}

interface Listening {
  readonly listener: (...args: never[]) => unknown;
  readonly handler: (round: Round) => void;
}

/** Registers listeners and calls them. Internal: the manager has its own `on`, `once` and `off`. */
export class EventHub {
  readonly #emitter = mitt<Record<EventName, Round>>();
  readonly #listening = new Map<EventName | '*', Set<Listening>>();
  /** Counts listeners, so that a round knows which of them came later. */
  #lastListener = 0;
  readonly #queue: Emission[] = [];
  #held = false;
  #delivering = false;

  /**
   * Adds a listener and returns what removes it, which may be called again. A listener added twice is called twice;
   * `off` then removes the older one. One added during an event is not called for that event; one removed during it is
   * not called any more.
   */
  on<E extends EventName | '*'>(event: E, listener: ListenerTo<E>): () => void {
    return this.#listen(event, listener, false);
  }

  /** The same for one event only. */
  once<E extends EventName | '*'>(event: E, listener: ListenerTo<E>): () => void {
    return this.#listen(event, listener, true);
  }

  /** Removes what `on` or `once` added; harmless where nothing was. */
  off<E extends EventName | '*'>(event: E, listener: ListenerTo<E>): void {
    check(event, listener);
    const [oldest] = [...(this.#listening.get(event) ?? [])].filter((listening) => listening.listener === listener);
    if (oldest) this.#remove(event, oldest);
  }

  /** Calls the listeners: at once, unless events are held or another event is being delivered. Never throws. */
  emit<E extends EventName>(event: E, payload: BackgroundTaskEvents[E]): void {
    this.#queue.push({ event, payload: toBeWritten(payload) });
    if (!this.#held) this.#deliverQueue();
  }

  /** From now on events are held back. */
  hold(): void {
    this.#held = true;
  }

  /**
   * Delivers the events that were held back, in order, and holds no more. Many are delivered over several turns of the
   * event loop; resolves after the last.
   */
  async release(): Promise<void> {
    while (this.#queue.length > RELEASE_SLICE) {
      for (const emission of this.#queue.splice(0, RELEASE_SLICE)) this.#deliver(emission);
      await setImmediate();
    }
    this.#held = false;
    this.#deliverQueue();
  }

  #listen(event: EventName | '*', listener: Listening['listener'], once: boolean): () => void {
    check(event, listener);
    const number = ++this.#lastListener;
    const remove = () => this.#remove(event, listening);
    const isListening = () => this.#listening.get(event)?.has(listening) === true;
    const handler = (round: Round) => {
      if (number > round.lastListener || !isListening()) return;
      if (once) remove();
      this.#call(event, listener, round);
    };
    const listening: Listening = { listener, handler: event === '*' ? ofAll(handler) : handler };
    const others = this.#listening.get(event) ?? new Set();
    this.#listening.set(event, others.add(listening));
    this.#emitter.on(event as EventName, listening.handler);
    return remove;
  }

  #remove(event: EventName | '*', listening: Listening): void {
    if (this.#listening.get(event)?.delete(listening)) this.#emitter.off(event as EventName, listening.handler);
  }

  /** Events that listeners emit meanwhile are delivered after this one. */
  #deliverQueue(): void {
    if (this.#delivering) return;
    this.#delivering = true;
    for (const emission of this.#queue) this.#deliver(emission);
    this.#queue.length = 0;
    this.#delivering = false;
  }

  #deliver(emission: Emission): void {
    const { event } = emission;
    if (event === 'error' && !this.#hasListeners('error') && !this.#hasListeners('*')) {
      warn((emission.payload as BackgroundTaskEvents['error']).error);
      return;
    }
    const round: Round = { ...emission, lastListener: this.#lastListener, thrown: [] };
    this.#emitter.emit(event, round);
    for (const thrown of round.thrown) this.#report(round, thrown);
  }

  /** mitt would stop at the first listener that throws. */
  #call(heardAs: EventName | '*', listener: (...args: never[]) => unknown, round: Round): void {
    const args = heardAs === '*' ? [round.event, round.payload] : [round.payload];
    try {
      const result = listener(...(args as never[]));
      if (isThenable(result)) Promise.resolve(result).catch((reason: unknown) => this.#report(round, reason));
    } catch (error) {
      round.thrown.push(error);
    }
  }

  /** A failing listener to `error` becomes a warning: as an event it would fail again. */
  #report({ event, payload }: Emission, thrown: unknown): void {
    const taskId = taskIdOf(payload);
    const message = `a listener to "${event}" failed: ${asError(thrown).message}`;
    const error = new BackgroundTaskError('LISTENER_FAILED', message, { cause: thrown, taskId });
    if (event === 'error') warn(error);
    else this.emit('error', taskId === undefined ? { error } : { error, taskId });
  }

  #hasListeners(event: EventName | '*'): boolean {
    return (this.#listening.get(event)?.size ?? 0) > 0;
  }
}

/** mitt calls listeners to all with the event's name first. */
function ofAll(handler: (round: Round) => void): (round: Round) => void {
  return ((_event: EventName, round: Round) => handler(round)) as never;
}

function check(event: unknown, listener: unknown): void {
  if (event !== '*' && !isEventName(event)) {
    throw new BackgroundTaskError(
      'INVALID_SPEC',
      `event: expected one of ${eventNames.join(', ')} or *, got ${show(event)}${didYouMean(event, eventNames)}`,
    );
  }
  if (typeof listener !== 'function') {
    throw new BackgroundTaskError('INVALID_SPEC', `listener: expected a function, got ${came(listener)}`);
  }
}

/** `JSON.stringify` would write an error of the host as `{}`; ours have a `toJSON`. */
function toBeWritten<T extends object>(payload: T): T {
  const { error } = payload as { error?: unknown };
  return error === undefined || error instanceof BackgroundTaskError ? payload : withJsonError(payload);
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function';
}

function taskIdOf(payload: object): string | undefined {
  const { task, taskId } = payload as { task?: { taskId: string }; taskId?: string };
  return taskId ?? task?.taskId;
}

function warn(error: Error): void {
  process.emitWarning(error);
}
