/*
 * The record of one task, and the only way to change it: a finding is decided on, written, applied and told, one at a time. A write that fails
 * leaves memory as it was.
 */
import { BackgroundTaskError } from '../../errors.js';
import { deepFreeze } from '../../task/json.js';
import { isSupported, nextRevision, type TaskRecord } from '../../task/record.js';
import { type Decision, decide } from '../decide/decide.js';
import type { Finding } from '../decide/finding.js';
import { Mailbox } from './mailbox.js';
import { Memory, type Unwritten } from './memory.js';
import type { Surroundings } from './subject.js';

/** What follows a write. */
export interface LedgerListener {
  /** The record is on disk. Called before the change is told, so that a listener who asks is told what it hears. */
  written(): void;
  /** Applies the effects of a decision. */
  apply(decision: Decision): void;
  /** The change was told. */
  changed(): void;
}

export class Ledger {
  readonly #shared: Pick<Surroundings, 'clock' | 'lifetime' | 'news' | 'store'>;
  readonly #listener: LedgerListener;
  readonly #memory: Memory;
  readonly #mailbox = new Mailbox();
  #isRemoved = false;

  constructor(
    shared: Pick<Surroundings, 'clock' | 'lifetime' | 'news' | 'store'>,
    record: TaskRecord,
    listener: LedgerListener,
  ) {
    this.#shared = shared;
    this.#memory = new Memory(record);
    this.#listener = listener;
  }

  get record(): TaskRecord {
    return this.#memory.record;
  }
  get view(): TaskRecord {
    return this.#memory.view;
  }
  get working(): TaskRecord {
    return this.#memory.working;
  }
  get unwritten(): Unwritten {
    return this.#memory.unwritten;
  }

  /** The next write carries this. */
  note(news: Unwritten): void {
    this.#memory.note(news);
  }

  forget(key: keyof Unwritten): void {
    this.#memory.forget(key);
  }

  /** Resolves with the task as it is then. */
  post(finding: Finding): Promise<TaskRecord> {
    return this.#mailbox.post(() => this.#handle(finding));
  }

  /** Removes the record and all that belongs to it. `false`: it may not go. What is posted later is refused. */
  remove(mayGo: (record: TaskRecord) => boolean): Promise<boolean> {
    return this.#mailbox.post(async () => {
      this.#shared.lifetime.assertWritable();
      if (this.#isRemoved || !mayGo(this.record)) return false;
      await this.#shared.store.remove(this.record.taskId);
      this.#isRemoved = true;
      return true;
    });
  }

  async #handle(finding: Finding): Promise<TaskRecord> {
    this.#assertWritable();
    const carried = this.unwritten;
    const before = this.working;
    const decision = this.#mailbox.deciding(() => decide(before, finding));
    if (!decision) return this.view;
    if (decision.record !== before || this.#memory.hasUnwritten) await this.#write(decision.record, carried);
    // What is on disk, not the view: that may have learnt more while it was written.
    const task = this.record;
    this.#listener.apply(decision);
    for (const { name, ...rest } of decision.events) this.#shared.news.emit(name, { ...rest, task } as never);
    this.#listener.changed();
    return this.view;
  }

  async #write(next: TaskRecord, carried: Unwritten): Promise<void> {
    const record = deepFreeze(nextRevision({ ...next, revision: this.record.revision }, this.#shared.clock.now()));
    await this.#shared.store.put(record);
    this.#memory.wrote(record, carried);
    this.#listener.written();
  }

  #assertWritable(): void {
    this.#shared.lifetime.assertWritable();
    const { taskId } = this.record;
    if (this.#isRemoved) throw new BackgroundTaskError('TASK_NOT_FOUND', 'the task was pruned', { taskId });
    if (!isSupported(this.record)) throw unsupported(this.record);
  }
}

export function unsupported({ schemaVersion, taskId }: TaskRecord): BackgroundTaskError {
  const message = `the record was written by a newer version (schemaVersion ${schemaVersion})`;
  return new BackgroundTaskError('RECORD_UNSUPPORTED', message, { taskId });
}
