import type { Timer } from '../clock.js';
import { cutText } from '../task/json.js';
import { MAX_TEXT_BYTES } from '../task/record.js';
import type { Progress } from '../task/types.js';
import type { Core } from './core.js';
import type { Entry } from './entry.js';

/** Progress is written at most this often for each task; any other write of its record carries it too. */
const WRITE_INTERVAL_MS = 1_000;

/** What work may report: each part is optional, and parts that are not finite numbers or texts are left out. */
interface Report {
  readonly message?: string | undefined;
  readonly current?: number | undefined;
  readonly total?: number | undefined;
}

/** The one exception to "durable before the event": `task:progress` comes at once, the record follows. */
export class ProgressReports {
  readonly #core: Core;
  readonly #lastWrite = new WeakMap<Entry, number>();
  readonly #timers = new Map<Entry, Timer>();

  constructor(core: Core) {
    this.#core = core;
  }

  report(entry: Entry, report: Report): void {
    entry.note({ progress: this.#clean(report) });
    this.#core.emit('task:progress', { task: entry.view });
    if (this.#timers.has(entry)) return;
    const since = this.#core.clock.monotonic() - (this.#lastWrite.get(entry) ?? Number.NEGATIVE_INFINITY);
    if (since >= WRITE_INTERVAL_MS) {
      this.#write(entry);
      return;
    }
    this.#timers.set(
      entry,
      this.#core.clock.after(WRITE_INTERVAL_MS - since, () => {
        this.#timers.delete(entry);
        this.#write(entry);
      }),
    );
  }

  /** The task ended, or the manager closes. */
  forget(entry: Entry): void {
    this.#timers.get(entry)?.clear();
    this.#timers.delete(entry);
  }

  forgetAll(): void {
    for (const entry of [...this.#timers.keys()]) this.forget(entry);
  }

  #write(entry: Entry): void {
    this.#lastWrite.set(entry, this.#core.clock.monotonic());
    this.#core.ledger
      .change(entry, (record) => (entry.active && entry.unwritten.progress ? { ...record } : undefined))
      .then(
        () => this.#core.recovered(entry.taskId),
        (error: unknown) => this.#core.reportOnce(error, entry.taskId),
      );
  }

  #clean({ message, current, total }: Report): Progress {
    return {
      ...(typeof message === 'string' && { message: cutText(message, MAX_TEXT_BYTES) }),
      ...(Number.isFinite(current) && { current: current as number }),
      ...(Number.isFinite(total) && { total: total as number }),
      updatedAt: this.#core.clock.now(),
    };
  }
}
