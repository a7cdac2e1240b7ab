/* What memory knows of one task: its record as it is on disk, and what the next write of it carries along. */
import { deepFreeze } from '../../task/json.js';
import type { TaskRecord } from '../../task/record.js';
import type { JsonObject, Progress, TaskStop } from '../../task/types.js';
import { withdrawn } from '../decide/ended.js';

/** Known, and not on disk yet. */
export interface Unwritten {
  progress?: Progress;
  details?: JsonObject;
  stop?: TaskStop;
  /** The stop withdraws the owed deliveries. */
  skipHooks?: boolean;
}

const keys = ['progress', 'details', 'stop', 'skipHooks'] as const;
const nothing: Unwritten = Object.freeze({});

export class Memory {
  #record: TaskRecord;
  #unwritten: Unwritten = nothing;
  #view: TaskRecord | undefined;

  constructor(record: TaskRecord) {
    this.#record = record;
  }

  /** As it is on disk, frozen. */
  get record(): TaskRecord {
    return this.#record;
  }

  get unwritten(): Unwritten {
    return this.#unwritten;
  }

  get hasUnwritten(): boolean {
    return this.#unwritten !== nothing;
  }

  /** What is handed out: the record, with the progress and details that are still on their way to the disk. */
  get view(): TaskRecord {
    const { progress, details } = this.#unwritten;
    if (!progress && !details) return this.#record;
    this.#view ??= Object.freeze({ ...this.#record, ...(progress && { progress }), ...(details && { details }) });
    return this.#view;
  }

  /** What decisions are made by: a stop that could not be written counts. */
  get working(): TaskRecord {
    const { stop, skipHooks } = this.#unwritten;
    if (!stop && !skipHooks) return this.view;
    return { ...this.view, ...(stop && { stop }), ...(skipHooks && { hooks: withdrawn(this.#record.hooks) }) };
  }

  note(news: Unwritten): void {
    this.#unwritten = deepFreeze({ ...this.#unwritten, ...news });
    this.#view = undefined;
  }

  /** It is not wanted any more. */
  forget(key: keyof Unwritten): void {
    this.#keep(keys.filter((one) => one !== key));
  }

  /** `record` is on disk, with all that was unwritten when its write began. What came meanwhile stays unwritten. */
  wrote(record: TaskRecord, carried: Unwritten): void {
    this.#record = record;
    this.#keep(keys.filter((key) => this.#unwritten[key] !== carried[key]));
  }

  #keep(kept: readonly (keyof Unwritten)[]): void {
    const entries = kept.filter((key) => this.#unwritten[key] !== undefined).map((key) => [key, this.#unwritten[key]]);
    this.#unwritten = entries.length === 0 ? nothing : Object.freeze(Object.fromEntries(entries));
    this.#view = undefined;
  }
}
