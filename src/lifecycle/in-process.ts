/*
 * In-process work: a promise, its signal, its output and its questions. How the promise ended is kept here until the task is looked at;
 * the end of the promise is only a hint to look.
 */

import { BackgroundTaskError } from '../errors.js';
import type { OutputLog } from '../output/append.js';
import type { KindRuntime, RunContext } from '../task/kind.js';
import type { TaskRecord } from '../task/record.js';
import { checkSchema } from '../task/schema.js';
import { describeError } from '../task/task-error.js';
import type { JsonObject, JsonValue, StandardSchema, TaskStop, WaitingFor } from '../task/types.js';
import type { Core } from './core.js';
import type { Entry, LiveRun, Outcome } from './entry.js';
import { without, withRoom } from './ledger.js';
import type { ProgressReports } from './progress.js';
import { completion, failure } from './settlement.js';
import { checkDetails, jsonObject, jsonValue } from './spec-parser.js';

type RunFunction = (context: RunContext<JsonObject>) => unknown;

/** What the work may ask of its kind. */
interface Question {
  readonly schema: StandardSchema | undefined;
  resolve(value: unknown): void;
}

export class InProcessRun implements LiveRun {
  readonly #core: Core;
  readonly #entry: Entry;
  readonly #kind: KindRuntime;
  readonly #progress: ProgressReports;
  readonly #hint: (entry: Entry) => void;
  readonly #log: OutputLog;
  readonly #controller = new AbortController();
  #end: Outcome | undefined;
  /** Resolves once the work has ended and its output is in the file. */
  #ending: Promise<void> | undefined;
  #closed = false;
  /** Resolves once the promise of the work has ended, and what it returned was looked at. */
  #over: Promise<void> = Promise.resolve();
  /** It is left to the next owner: what it throws is no outcome. */
  #isLeft = false;
  #question: Question | undefined;
  /** The requests for input, one after the other. */
  #questions: Promise<unknown> = Promise.resolve();

  constructor(core: Core, entry: Entry, kind: KindRuntime, progress: ProgressReports, hint: (entry: Entry) => void) {
    this.#core = core;
    this.#entry = entry;
    this.#kind = kind;
    this.#progress = progress;
    this.#hint = hint;
    this.#log = core.store.output(entry.taskId).log({
      onError: (error: BackgroundTaskError) => core.report(error, entry.taskId),
    });
  }

  async end(): Promise<Outcome | undefined> {
    if (!this.#end) await this.#ending;
    return this.#end;
  }

  /** Calls the work. Never throws: what it throws is how it ended. */
  start(run: RunFunction): Promise<void> {
    this.#over = this.#run(run);
    return this.#over;
  }

  async #run(run: RunFunction): Promise<void> {
    const ended = await this.#call(run);
    if (this.#end || !ended) return;
    this.#ending = this.#finish({ ...ended, endedAt: this.#core.notBefore(this.#entry.record) });
    await this.#ending;
    this.#hint(this.#entry);
  }

  /** All output is in the file before the task can end. */
  async #finish(outcome: Outcome): Promise<void> {
    await this.#log.flush().catch(() => undefined); // reported by the log; the outcome must not wait for a disk
    this.#end ??= outcome;
  }

  /** `undefined`: it threw after it was left to the next owner. */
  async #call(run: RunFunction): Promise<Omit<Outcome, 'endedAt'> | undefined> {
    try {
      return completion(this.#kind, await run(this.#context()));
    } catch (error) {
      return this.#isLeft ? undefined : failure(describeError(error));
    }
  }

  abort(stop: TaskStop): void {
    if (!this.#controller.signal.aborted) this.#controller.abort(abortReason(stop));
  }

  leave(stop: TaskStop): Promise<void> {
    this.#isLeft = true;
    this.abort(stop);
    return this.#over;
  }

  abandon(): void {
    this.#end ??= { ending: 'gone', endedAt: this.#core.notBefore(this.#entry.record) };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#question = undefined;
    if (!this.#controller.signal.aborted) this.#controller.abort(new DOMException('the task has ended', 'AbortError'));
    await this.#log.close();
  }

  #context(): RunContext<JsonObject> {
    const entry = this.#entry;
    return {
      taskId: entry.taskId,
      attempt: entry.record.attempt,
      get details() {
        return entry.view.details;
      },
      signal: this.#controller.signal,
      appendOutput: (chunk) => (this.#closed ? this.#refuse() : this.#log.append(chunk)),
      reportProgress: (progress) => {
        if (!this.#closed && this.#entry.active) this.#progress.report(this.#entry, progress);
      },
      updateDetails: (patch) => (this.#closed ? this.#refuse() : this.#updateDetails(patch)),
      requestInput: (prompt: string, options?: { data?: JsonValue | undefined; schema?: StandardSchema | undefined }) =>
        this.#requestInput(prompt, options) as Promise<never>,
    };
  }

  /** For work that goes on after its task has ended. Handled, so that an unawaited call does not bring the host down. */
  #refuse(): Promise<never> {
    return rejected(
      new BackgroundTaskError('TASK_NOT_FOUND', 'the task has ended; what its work does now changes nothing', {
        taskId: this.#entry.taskId,
      }),
    );
  }

  async #updateDetails(patch: object): Promise<void> {
    const json = jsonObject(patch, 'details');
    await this.#core.ledger.change(
      this.#entry,
      (record) => {
        if (!this.#entry.active) return undefined;
        const details = { ...record.details, ...json };
        return withRoom({ ...record, details: { ...details, ...checkDetails(this.#kind, details) } });
      },
      (task) => this.#core.emit('task:updated', { task }),
    );
  }

  #requestInput(
    prompt: string,
    options: { data?: JsonValue | undefined; schema?: StandardSchema | undefined } = {},
  ): Promise<unknown> {
    let data: JsonValue | undefined;
    try {
      data = options.data === undefined ? undefined : jsonValue(options.data, 'data');
    } catch (error) {
      return rejected(error);
    }
    const answer = this.#questions.then(() => this.#ask(String(prompt), data, options.schema));
    this.#questions = answer.catch(() => undefined); // the asker hears of it; the next question is asked all the same
    return answer;
  }

  async #ask(prompt: string, data: JsonValue | undefined, schema: StandardSchema | undefined): Promise<unknown> {
    const { signal } = this.#controller;
    signal.throwIfAborted();
    if (this.#closed) return this.#refuse();
    const answered = new Promise<unknown>((resolve, reject) => {
      const onAbort = () => {
        this.#question = undefined;
        reject(signal.reason);
      };
      const answer = (value: unknown) => {
        signal.removeEventListener('abort', onAbort);
        resolve(value);
      };
      this.#question = { schema, resolve: answer };
      signal.addEventListener('abort', onAbort, { once: true });
    });
    answered.catch(() => undefined); // an abort during the write below is thrown by it instead
    const waitingFor: WaitingFor = { prompt, ...(data !== undefined && { data }), requestedAt: this.#core.clock.now() };
    try {
      await this.#core.ledger.change(
        this.#entry,
        (record) => (record.status === 'running' ? withRoom({ ...record, status: 'waiting', waitingFor }) : undefined),
        (task) => this.#core.emit('task:waiting', { task }),
      );
    } catch (error) {
      this.#question = undefined;
      throw error;
    }
    return answered;
  }

  async answer(value: JsonValue): Promise<TaskRecord> {
    const question = this.#question;
    const { taskId } = this.#entry;
    if (!question) throw new BackgroundTaskError('TASK_NOT_WAITING', 'the task waits for nothing', { taskId });
    const verdict = question.schema ? checkSchema(question.schema, value) : { ok: true as const, value };
    if (!verdict.ok)
      throw new BackgroundTaskError('INVALID_INPUT', `the answer does not fit: ${verdict.problem}`, { taskId });
    this.#question = undefined;
    try {
      const task = await resume(this.#core, this.#entry, value);
      question.resolve(verdict.value);
      return task;
    } catch (error) {
      this.#question = question;
      throw error;
    }
  }
}

/** Handled already: whoever awaits it is told, and nobody has to. */
function rejected(error: unknown): Promise<never> {
  const promise = Promise.reject(error);
  promise.catch(() => undefined); // see above
  return promise;
}

/** Puts an answer on record and the task back to `running`. Where `whenResumed` is `'leave'`, a probe may have done so already. */
export function resume(
  core: Core,
  entry: Entry,
  value: JsonValue,
  whenResumed: 'throw' | 'leave' = 'throw',
): Promise<TaskRecord> {
  return core.ledger.change(
    entry,
    (record) => {
      if (record.status !== 'waiting') {
        if (whenResumed === 'leave') return undefined;
        throw new BackgroundTaskError('TASK_NOT_WAITING', 'the task waits for nothing', { taskId: entry.taskId });
      }
      const lastInput = { prompt: record.waitingFor?.prompt ?? '', value, answeredAt: core.clock.now() };
      return withRoom({ ...without(record, 'waitingFor'), status: 'running', lastInput });
    },
    (task) => core.emit('task:resumed', { task }),
  );
}

/** `AbortError`, or `TimeoutError` for a deadline; its `cause` is the stop on record. */
export function abortReason(stop: TaskStop): DOMException {
  const name = stop.cause === 'deadline' ? 'TimeoutError' : 'AbortError';
  const reason = new DOMException(stop.reason ?? `the task was stopped (${stop.cause})`, name);
  Object.defineProperty(reason, 'cause', { value: stop, configurable: true });
  return reason;
}
