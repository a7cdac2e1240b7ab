/*
 * From checked options to a manager's parts, with everything judged that happened while no manager was there. The directory may be taken over
 * while it is being opened: then the opening fails with that.
 */
import { setImmediate } from 'node:timers';
import type { Clock } from '../clock.js';
import { BackgroundTaskError } from '../errors.js';
import { EventHub, type ReconcileReport } from '../events.js';
import { createParser } from '../legacy/parser.js';
import type { Settings } from '../options.js';
import { type FileStore, openFileStore } from '../store/file-store.js';
import type { OwnerIdentity } from '../task/types.js';
import { Closing } from './closing.js';
import { toTaskError } from './failures.js';
import { Lifetime } from './lifetime.js';
import { News } from './news.js';
import { Parts } from './parts.js';
import { Holder, Waits } from './waits.js';

/** An open manager. */
export interface Opened {
  readonly parts: Parts;
  readonly hub: EventHub;
  readonly holder: Holder;
  readonly closing: Closing;
  readonly firstPass: ReconcileReport;
}

/** How the directory was lost, and to whom. */
interface Loss {
  readonly owner: OwnerIdentity | null;
  readonly how: string;
}

/** The directory was lost, perhaps before there is a manager to tell. */
class Losses {
  first: Loss | undefined;
  #listener: ((loss: Loss) => void) | undefined;

  add(loss: Loss): void {
    this.first ??= loss;
    this.#listener?.(loss);
  }

  /** Called at once where it was lost already. */
  whenLost(listener: (loss: Loss) => void): void {
    this.#listener = listener;
    if (this.first) listener(this.first);
  }
}

/**
 * Resolves when the first pass is over. No event is emitted and no hook is called before a macrotask has passed after that: whoever awaits it can
 * listen first. Throws `DIRECTORY_OWNED`, `STORAGE_FAILED` or `OWNERSHIP_LOST`.
 */
export async function openManager(settings: Settings, clock: Clock): Promise<Opened> {
  settings.signal?.throwIfAborted();
  const hub = new EventHub();
  hub.hold();
  const holder = new Holder();
  const news = new News(hub);
  const lifetime = new Lifetime((error, taskId) => news.report(toTaskError(error, 'STORAGE_FAILED', taskId), taskId));
  const losses = new Losses();
  const store = await holder.while(openStore(settings, clock, news, losses));
  let closing: Closing | undefined;
  try {
    const waits = new Waits(clock, holder);
    const parts = new Parts({ settings, clock, store, news, waits, lifetime });
    const ends = new Closing(parts);
    closing = ends;
    losses.whenLost((loss) => {
      if (ends.fence(lostDirectory(loss))) news.emit('manager:fenced', { owner: loss.owner });
    });
    const firstPass = await holder.while(begin(parts));
    lifetime.assertOpen();
    setImmediate(() => release(parts, hub).catch((error: unknown) => news.report(error)));
    return { parts, hub, holder, closing, firstPass };
  } catch (error) {
    const failed = new BackgroundTaskError('MANAGER_CLOSED', 'the manager could not be opened', { cause: error });
    if (closing) closing.fence(failed);
    else lifetime.fence(failed);
    await store.release();
    throw losses.first ? lostDirectory(losses.first) : error;
  }
}

function openStore(settings: Settings, clock: Clock, news: News, losses: Losses): Promise<FileStore> {
  const { directory, fsync, foreignOwnerTimeoutMs, waitForOwnerMs, signal } = settings;
  return openFileStore({
    directory,
    fsync,
    foreignOwnerTimeoutMs,
    waitForOwnerMs,
    signal,
    clock,
    parse: createParser(settings.legacyShapes),
    onFenced: (owner, how) => losses.add({ owner, how }),
    onError: (error) => news.report(error),
  });
}

async function begin(parts: Parts): Promise<ReconcileReport> {
  await parts.load();
  const report = await parts.reconciler.reconcile();
  parts.queue.open();
  return report;
}

/** The host listens by now: events of the first pass first, then the hooks. */
async function release({ outbox, retention }: Parts, hub: EventHub): Promise<void> {
  await hub.release();
  outbox.start();
  await retention.enforce();
}

function lostDirectory({ owner, how }: Loss): BackgroundTaskError {
  return new BackgroundTaskError('OWNERSHIP_LOST', `${how}: this manager writes nothing any more`, { owner });
}
