import type { Clock } from '../clock.js';
import { BackgroundTaskError } from '../errors.js';
import type { TaskStore } from '../store/contract.js';
import { deepFreeze, jsonBytes } from '../task/json.js';
import { isSupported, MAX_RECORD_BYTES, nextRevision, type TaskRecord } from '../task/record.js';
import { isTerminalStatus } from '../task/status.js';
import type { Entry } from './entry.js';

/** Called after every write. */
interface LedgerHooks {
  /** Before the change is announced, so that a listener who asks is told what it hears. */
  readonly written: (entry: Entry) => void;
  readonly announced: (entry: Entry) => void;
}

/**
 * Every change of a record goes through here: one at a time for each task, durable before memory shows it, and announced after that.
 * A write that fails leaves memory as it was.
 */
export class Ledger {
  readonly #store: TaskStore;
  readonly #clock: Clock;
  readonly #turns = new Map<Entry, Promise<unknown>>();
  readonly #hooks: LedgerHooks;
  #closed: BackgroundTaskError | undefined;

  constructor(store: TaskStore, clock: Clock, hooks: LedgerHooks) {
    this.#store = store;
    this.#clock = clock;
    this.#hooks = hooks;
  }

  /**
   * `next` gets the record as it is on disk, with what memory knows beyond it, and returns the new one, or `undefined` to leave it.
   * `announce` is called once the new record is durable, before the next change begins.
   */
  change(
    entry: Entry,
    next: (record: TaskRecord) => TaskRecord | undefined,
    announce?: (record: TaskRecord) => void,
  ): Promise<TaskRecord> {
    return this.#inTurn(entry, () => this.#change(entry, next, announce));
  }

  /** Removes the record and all that belongs to it, if it still may go; what was to be written after that is refused. */
  remove(entry: Entry, mayGo: (record: TaskRecord) => boolean): Promise<boolean> {
    return this.#inTurn(entry, async () => {
      if (this.#closed) throw this.#closed;
      if (!mayGo(entry.record)) return false;
      await this.#store.remove(entry.taskId);
      entry.removed = true;
      return true;
    });
  }

  #inTurn<T>(entry: Entry, work: () => Promise<T>): Promise<T> {
    const turn = this.#turns.get(entry) ?? Promise.resolve();
    const result = turn.then(work);
    // The caller of this change hears of its failure; the next change starts from what is on disk.
    const settled = result
      .catch(() => undefined)
      .finally(() => {
        if (this.#turns.get(entry) === settled) this.#turns.delete(entry);
      });
    this.#turns.set(entry, settled);
    return result;
  }

  /** Throws why nothing is written any more, where that is so. */
  assertOpen(): void {
    if (this.#closed) throw this.#closed;
  }

  /** Resolves when no write is under way; later ones fail with `error`. */
  async close(error: BackgroundTaskError): Promise<void> {
    this.#closed ??= error;
    await Promise.all([...this.#turns.values()]);
  }

  async #change(
    entry: Entry,
    next: (record: TaskRecord) => TaskRecord | undefined,
    announce: ((record: TaskRecord) => void) | undefined,
  ): Promise<TaskRecord> {
    if (this.#closed) throw this.#closed;
    if (entry.removed) throw new BackgroundTaskError('TASK_NOT_FOUND', 'the task was pruned', { taskId: entry.taskId });
    if (!isSupported(entry.record)) {
      const version = entry.record.schemaVersion;
      throw new BackgroundTaskError(
        'RECORD_UNSUPPORTED',
        `the record was written by a newer version (schemaVersion ${version})`,
        {
          taskId: entry.taskId,
        },
      );
    }
    const carried = { ...entry.unwritten };
    const asked = next(entry.working);
    if (!asked) return entry.view;
    const changed = deepFreeze(nextRevision({ ...asked, revision: entry.record.revision }, this.#clock.now()));
    await this.#store.put(changed);
    entry.wrote(changed, carried);
    this.#hooks.written(entry);
    // What is on disk, not the view: that may have learnt more while it was written.
    announce?.(changed);
    this.#hooks.announced(entry);
    return entry.view;
  }
}

/** `record` without these keys: absent, not `undefined`, is how a record says "none". */
export function without<K extends keyof TaskRecord>(record: TaskRecord, ...keys: K[]): TaskRecord {
  const copy: Record<string, unknown> = { ...record };
  for (const key of keys) delete copy[key];
  return copy as unknown as TaskRecord;
}

/** What an active record may take, so that its outcome always fits beside what is there; an ended one gains only deliveries. */
const ROOM_BYTES = { active: MAX_RECORD_BYTES - 288 * 1024, ended: MAX_RECORD_BYTES - 64 * 1024 };

/** Refuses what would make a record outgrow its limit. Throws `INVALID_SPEC`. */
export function withRoom(record: TaskRecord): TaskRecord {
  const limit = isTerminalStatus(record.status) ? ROOM_BYTES.ended : ROOM_BYTES.active;
  const bytes = jsonBytes(record);
  if (bytes <= limit) return record;
  throw new BackgroundTaskError(
    'INVALID_SPEC',
    `expected a record of at most ${limit} bytes, this change makes it ${bytes}`,
    { taskId: record.taskId },
  );
}
