/*
 * Work in this process: a promise, its signal, its output and its questions. How the promise ended is kept here until the task is looked at;
 * the end of the promise is only a hint to look.
 */
import { BackgroundTaskError } from '../../errors.js';
import type { OutputLog } from '../../output/append.js';
import type { RunContext } from '../../task/kind.js';
import type { KindRuntime } from '../../task/kind-runtime.js';
import type { TaskRecord } from '../../task/record.js';
import { describeError } from '../../task/task-error.js';
import type { JsonObject, JsonValue, StandardSchema, TaskStop } from '../../task/types.js';
import type { Outcome } from '../decide/finding.js';
import { checkDetails, jsonObject } from '../json-input.js';
import { completion, failure, limited, whyMissing } from './answers.js';
import { ExistingWork } from './existing-work.js';
import { Questions } from './questions.js';
import type { LaunchInput, Look, Work, WorkHost } from './work.js';

type RunFunction = (context: RunContext<JsonObject>) => unknown;

export class FunctionWork implements Work {
  readonly whenHostEnds: 'can begin again' | 'ends';
  readonly canStop = true;
  readonly #host: WorkHost;
  readonly #kind: KindRuntime;
  readonly #controller = new AbortController();
  readonly #killer = new AbortController();
  #run: RunFunction | undefined;
  /** Work that was there before its task, in place of a `run`. */
  #existing: ExistingWork | undefined;
  #log: OutputLog | undefined;
  #questions: Questions | undefined;
  #end: Outcome | undefined;
  /** Resolves once the work has ended and its output is in the file. */
  #ending: Promise<void> | undefined;
  /** Resolves once the promise of the work has ended, and what it returned was looked at. */
  #over: Promise<void> = Promise.resolve();
  /** A later owner may begin it again: what it throws is no outcome. */
  #isLeft = false;
  #isClosed = false;

  constructor(kind: KindRuntime, host: WorkHost) {
    this.#kind = kind;
    this.#host = host;
    this.whenHostEnds = kind.recover ? 'can begin again' : 'ends';
  }

  async launch(input: unknown): Promise<undefined> {
    if (input instanceof ExistingWork) this.#existing = input;
    this.#run = this.#existing ? () => this.#join(this.#existing!) : (input as RunFunction);
    this.#log = this.#host.output.log({ onError: (error) => this.#host.report(error) });
  }

  started(): void {
    this.#over = this.#go(this.#run!);
  }

  /** Never throws: what the work throws is how it ended. */
  async #go(run: RunFunction): Promise<void> {
    const ended = await this.#call(run);
    if (this.#end || !ended) return;
    const endedAt = this.#existing?.endedAt;
    this.#ending = this.#finish({ ...ended, endedAt: endedAt ?? this.#host.clock.now() });
    await this.#ending;
    this.#host.hint();
  }

  /** `undefined`: it threw after it was left to the next owner. */
  async #call(run: RunFunction): Promise<Omit<Outcome, 'endedAt'> | undefined> {
    try {
      return completion(this.#kind, await run(this.#context()));
    } catch (error) {
      return this.#isLeft ? undefined : failure(describeError(error));
    }
  }

  #join(work: ExistingWork): Promise<unknown> {
    return work.run({
      append: (chunk) => this.#log!.append(chunk),
      now: () => this.#host.clock.now(),
      report: (error) => this.#host.report(error),
    });
  }

  /** All output is in the file before the task can end. */
  async #finish(outcome: Outcome): Promise<void> {
    await this.#log?.flush().catch(() => undefined); // reported by the log; the outcome must not wait for a disk
    this.#end ??= outcome;
  }

  /** Work that this process did not launch died with the process that did. */
  async look(): Promise<Look> {
    if (!this.#run) return { ended: true, outcome: this.#gone() };
    if (!this.#end) await this.#ending;
    return this.#end ? { ended: true, outcome: this.#end } : { ended: false };
  }

  async stop(how: 'terminate' | 'kill', stop: TaskStop): Promise<void> {
    const reason = abortReason(stop);
    if (how === 'terminate') {
      this.#abort(reason);
      await this.#existing?.terminate();
      return;
    }
    if (!this.#killer.signal.aborted) this.#killer.abort(reason);
    if (await this.#existing?.kill()) return;
    // The grace is over: what it does from now on changes nothing.
    this.#end ??= this.#gone();
  }

  async leave(stop: TaskStop): Promise<void> {
    this.#isLeft = true;
    this.#abort(abortReason(stop));
    await this.#existing?.terminate();
    await this.#over;
  }

  async answer(value: JsonValue): Promise<TaskRecord> {
    return this.#asked.answer(value);
  }

  missing() {
    return { what: 'its run is on no record', why: whyMissing(this.#kind) };
  }

  resupply(): Promise<LaunchInput | undefined> {
    return this.recover();
  }

  async recover(): Promise<LaunchInput | undefined> {
    const { recover } = this.#kind;
    const run = recover && (await limited(this.#host.clock, 'recover', recover(this.#host.view)));
    return run === undefined || run === null ? undefined : { input: run };
  }

  async settled(): Promise<void> {}

  async quiesce(): Promise<void> {
    await this.dispose();
  }

  async dispose(reason?: TaskStop): Promise<void> {
    this.#isClosed = true;
    this.#questions?.close();
    this.#abort(reason ? abortReason(reason) : new DOMException('the task has ended', 'AbortError'));
    this.#dropExisting();
    await this.#log?.close();
  }

  /** Work that goes on without its task is told to end, too. */
  #dropExisting(): void {
    const work = this.#existing;
    if (!work) return;
    work.close();
    // Not awaited: a `stop` that hangs must not keep the manager from closing.
    work.terminate().catch((error: unknown) => this.#host.report(error));
  }

  get #asked(): Questions {
    this.#questions ??= new Questions(this.#host, this.#controller.signal, this.#isClosed);
    return this.#questions;
  }

  #abort(reason: DOMException): void {
    if (!this.#controller.signal.aborted) this.#controller.abort(reason);
  }

  #gone(): Outcome {
    return { ending: 'gone', endedAt: this.#host.clock.now() };
  }

  #context(): RunContext<JsonObject> {
    const host = this.#host;
    return {
      taskId: host.taskId,
      attempt: host.record.attempt,
      get details() {
        return host.view.details;
      },
      signal: this.#controller.signal,
      killSignal: this.#killer.signal,
      appendOutput: (chunk) => (this.#isClosed ? this.#refuse() : this.#log!.append(chunk)),
      reportProgress: (progress) => {
        if (!this.#isClosed && host.isActive) host.reportProgress(progress);
      },
      updateDetails: (patch) => (this.#isClosed ? this.#refuse() : this.#updateDetails(patch)),
      requestInput: (prompt: string, options?: { data?: JsonValue | undefined; schema?: StandardSchema | undefined }) =>
        this.#asked.ask(String(prompt), options) as Promise<never>,
    };
  }

  /** For work that goes on after its task has ended. Handled, so that an unawaited call does not bring the host down. */
  #refuse(): Promise<never> {
    const refused = Promise.reject(hasEnded(this.#host.taskId));
    refused.catch(() => undefined); // whoever awaits it is told, and nobody has to
    return refused;
  }

  async #updateDetails(patch: object): Promise<void> {
    const json = jsonObject(patch, 'details');
    const merge = (details: JsonObject) => {
      const merged = { ...details, ...json };
      return { ...merged, ...checkDetails(this.#kind, merged) };
    };
    await this.#host.post({ is: 'detailed', merge });
  }
}

function hasEnded(taskId: string): BackgroundTaskError {
  return new BackgroundTaskError('TASK_NOT_FOUND', 'the task has ended; what its work does now changes nothing', {
    taskId,
  });
}

/** `AbortError`, or `TimeoutError` for a deadline; its `cause` is the stop on record. */
export function abortReason(stop: TaskStop): DOMException {
  const name = stop.cause === 'deadline' ? 'TimeoutError' : 'AbortError';
  const reason = new DOMException(stop.reason ?? `the task was stopped (${stop.cause})`, name);
  Object.defineProperty(reason, 'cause', { value: stop, configurable: true });
  return reason;
}
