import type { Timer } from '../clock.js';
import { asError, withJsonError } from '../errors.js';
import type { ReconcileReport } from '../events.js';
import type { Core } from './core.js';
import type { Entry } from './entry.js';
import type { LookResult } from './look.js';

/** Looks that run at once in a pass: probes may wait for something outside. */
const CONCURRENT_LOOKS = 16;

interface Parts {
  /** The active tasks that this host may touch. */
  readonly candidates: () => Iterable<Entry>;
  readonly look: (entry: Entry) => Promise<LookResult>;
  /** After the looks of each pass. */
  readonly afterPass: () => void | Promise<void>;
}

/** Passes over the active tasks: on a timer while there are any, and on request. One bad task never stops a pass. */
export class Reconciler {
  readonly #core: Core;
  readonly #parts: Parts;
  #timer: Timer | undefined;
  #running: Promise<ReconcileReport> | undefined;
  #next: Promise<ReconcileReport> | undefined;
  #closed = false;
  last: { readonly at: number; readonly report: ReconcileReport } | null = null;

  constructor(core: Core, parts: Parts) {
    this.#core = core;
    this.#parts = parts;
  }

  /** A call during a pass waits for one more, which all such callers share: the pass under way may be past what they mean. */
  reconcile(): Promise<ReconcileReport> {
    if (this.#next) return this.#next;
    if (!this.#running) return this.#begin();
    this.#next = this.#running
      .catch(() => undefined) // its own callers hear of it
      .then(() => {
        this.#next = undefined;
        return this.#begin();
      });
    return this.#next;
  }

  /** Arms the timer while something is active, and clears it when nothing is. */
  schedule(): void {
    const { reconcileIntervalMs } = this.#core.settings;
    const wanted = !this.#closed && reconcileIntervalMs > 0 && !isEmpty(this.#parts.candidates());
    if (!wanted) {
      this.#timer?.clear();
      this.#timer = undefined;
      return;
    }
    this.#timer ??= this.#core.clock.after(reconcileIntervalMs, () => {
      this.#timer = undefined;
      this.reconcile().catch((error: unknown) => this.#core.report(error));
    });
  }

  close(): void {
    this.#closed = true;
    this.schedule();
  }

  /** Resolves when no pass is under way. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running.catch(() => undefined); // whoever asked for the pass hears of it
  }

  #begin(): Promise<ReconcileReport> {
    const pass = this.#pass().finally(() => {
      this.#running = undefined;
      this.schedule();
    });
    this.#running = pass;
    return pass;
  }

  async #pass(): Promise<ReconcileReport> {
    await this.#core.store.checkOwnership();
    this.#core.ledger.assertOpen();
    const entries = [...this.#parts.candidates()];
    const found: { entry: Entry; result: LookResult | undefined; error?: Error }[] = [];
    const open = entries.values();
    const worker = async () => {
      for (const entry of open) found.push(await this.#look(entry));
    };
    await Promise.all(Array.from({ length: CONCURRENT_LOOKS }, worker));
    await this.#parts.afterPass();
    const ids = (...results: LookResult[]) =>
      found.filter((one) => one.result && results.includes(one.result)).map((one) => one.entry.taskId);
    const report: ReconcileReport = Object.freeze({
      checked: entries.length,
      settled: ids('settled', 'lost'),
      adopted: ids('adopted'),
      lost: ids('lost'),
      failures: found.flatMap(({ entry, error }) => (error ? [withJsonError({ taskId: entry.taskId, error })] : [])),
    });
    this.last = { at: this.#core.clock.now(), report };
    this.#core.emit('manager:reconciled', { report });
    return report;
  }

  async #look(entry: Entry): Promise<{ entry: Entry; result: LookResult | undefined; error?: Error }> {
    try {
      return { entry, result: await this.#parts.look(entry) };
    } catch (error) {
      return { entry, result: undefined, error: asError(error) };
    }
  }
}

function isEmpty(items: Iterable<unknown>): boolean {
  for (const _ of items) return false;
  return true;
}
