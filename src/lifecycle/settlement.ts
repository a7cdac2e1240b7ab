/*
 * The only way into a terminal status. An outcome is fixed when it is found; then it is written together with the deliveries it owes,
 * and only when that write is durable does anybody hear of it. Until then memory shows the task as it is on disk, its slot stays taken,
 * and every reconcile tries again.
 */

import { jsonBytes, NotJsonError, toJson } from '../task/json.js';
import type { KindRuntime } from '../task/kind.js';
import { MAX_RECORD_BYTES, type TaskRecord } from '../task/record.js';
import { checkSchema } from '../task/schema.js';
import { judge } from '../task/status.js';
import { describeError } from '../task/task-error.js';
import type { JsonObject, JsonValue, TaskError, TaskStop } from '../task/types.js';
import type { Core } from './core.js';
import { isOver, toTaskError } from './core.js';
import { type Entry, type Outcome, withdrawn } from './entry.js';
import { without } from './ledger.js';

/** Keeps room for what a record gains beside the result when it is settled. */
const RECORD_MARGIN_BYTES = 32 * 1024;

/** The error of work that failed without one. */
const UNSAID: TaskError = { name: 'Error', message: 'the work failed, and gave no error' };

export class Settlement {
  readonly #core: Core;
  readonly #onSettled: (entry: Entry) => void;

  /** `onSettled` is called once for each task, after its outcome is durable. */
  constructor(core: Core, onSettled: (entry: Entry) => void) {
    this.#core = core;
    this.#onSettled = onSettled;
  }

  /** Writes how the task ended. `false`: it could not be written; it was reported, and the next look tries again. */
  async settle(entry: Entry, outcome: Outcome): Promise<boolean> {
    if (!entry.active) return true;
    entry.outcome ??= outcome;
    try {
      await this.#write(entry, entry.outcome);
    } catch (error) {
      // Given up because the manager ended: the next owner judges anew.
      if (!isOver(error)) this.#core.reportOnce(toTaskError(error, 'STORAGE_FAILED', entry.taskId), entry.taskId);
      this.#core.waits.notify(entry.taskId);
      return false;
    }
    return true;
  }

  async #write(entry: Entry, outcome: Outcome): Promise<void> {
    const inline = this.#fits(entry, outcome.result);
    // The result's own file first: a record that vouches for it must find it there.
    if (outcome.result !== undefined && !inline) await this.#core.store.putResult(entry.taskId, outcome.result);
    await this.#core.ledger.change(
      entry,
      (record) => (entry.active ? settled(record, outcome, inline) : undefined),
      (record) => {
        entry.outcome = undefined;
        this.#core.table.ended(entry);
        this.#core.recovered(entry.taskId);
        this.#onSettled(entry);
        this.#core.emit('task:settled', { task: record });
      },
    );
  }

  #fits(entry: Entry, result: JsonValue | undefined): boolean {
    if (result === undefined) return false;
    const bytes = jsonBytes(result);
    return (
      bytes <= this.#core.settings.maxResultBytes &&
      bytes + jsonBytes(entry.record) + RECORD_MARGIN_BYTES <= MAX_RECORD_BYTES
    );
  }
}

/** The record as it is once the task has ended. */
export function settled(record: TaskRecord, outcome: Outcome, inline: boolean): TaskRecord {
  const status = judge(outcome.ending, record.stop);
  const stopReason =
    outcome.stopReason ?? (status === 'completed' || status === 'failed' ? undefined : reasonOf(record.stop, record));
  return {
    ...without(record, 'waitingFor'),
    status,
    detached: record.detached || outcome.outlivedCaller === true,
    // A later attempt that could not begin does not undo the first.
    startedAt: outcome.neverBegan && record.attempt === 1 ? null : record.startedAt,
    endedAt: outcome.endedAt,
    details: outcome.details ? { ...record.details, ...outcome.details } : record.details,
    hooks: owesNothing(record, outcome) ? withdrawn(record.hooks) : record.hooks,
    ...(stopReason !== undefined && { stopReason }),
    // A failed task always has one: guards rely on it.
    ...(status === 'failed' && { error: outcome.error ?? UNSAID }),
    ...(inline && outcome.result !== undefined && { result: outcome.result }),
  };
}

function owesNothing(record: TaskRecord, outcome: Outcome): boolean {
  return (!record.detached && !outcome.outlivedCaller) || outcome.neverBegan === 'caller was told';
}

function reasonOf(stop: TaskStop | undefined, record: TaskRecord): string | undefined {
  if (stop?.reason !== undefined) return stop.reason;
  switch (stop?.cause) {
    case 'deadline':
      return deadlineReason(record);
    case 'output_limit':
      return `the output grew beyond ${record.maxOutputBytes} bytes`;
    case 'shutdown':
      return 'the manager was closed';
    default:
      return undefined;
  }
}

function deadlineReason({ startedAt, timeoutMs, deadlineAt, queueTimeoutMs }: TaskRecord): string {
  if (startedAt === null) return `it was queued for longer than ${queueTimeoutMs} ms`;
  // Detaching may have set another one.
  return timeoutMs && deadlineAt === startedAt + timeoutMs
    ? `the deadline of ${timeoutMs} ms passed`
    : 'the deadline passed';
}

/** What in-process work or a probe returned, checked: a result that cannot be kept makes the task `failed`, and says where. */
export function completion(kind: KindRuntime, result: unknown): Pick<Outcome, 'ending' | 'result' | 'error'> {
  if (result === undefined) return { ending: 'completed' };
  try {
    const json = toJson(result, 'result');
    const verdict = kind.result ? checkSchema(kind.result, json) : { ok: true as const };
    if (verdict.ok) return { ending: 'completed', result: json };
    return failure({
      name: 'InvalidResultError',
      message: `the result does not fit the kind "${kind.name}": ${verdict.problem}`,
    });
  } catch (error) {
    if (!(error instanceof NotJsonError)) return failure(describeError(error));
    return failure({ name: 'InvalidResultError', message: error.message });
  }
}

export function failure(error: TaskError): Pick<Outcome, 'ending' | 'error'> {
  return { ending: 'failed', error };
}

/** A detail patch of the host's as JSON. */
export function detailPatch(patch: object): JsonObject {
  return toJson(patch, 'details') as JsonObject;
}
