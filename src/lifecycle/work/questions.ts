/* The questions of work in this process: one at a time, each on record before it can be answered, each answer on record before the work sees it. */
import { BackgroundTaskError } from '../../errors.js';
import type { TaskRecord } from '../../task/record.js';
import { checkSchema } from '../../task/schema.js';
import type { JsonValue, StandardSchema, WaitingFor } from '../../task/types.js';
import { jsonValue } from '../json-input.js';
import type { WorkHost } from './work.js';

interface Question {
  readonly schema: StandardSchema | undefined;
  resolve(value: unknown): void;
}

/** What a question may bring along. */
interface QuestionOptions {
  readonly data?: JsonValue | undefined;
  readonly schema?: StandardSchema | undefined;
}

export class Questions {
  readonly #host: WorkHost;
  readonly #signal: AbortSignal;
  #open: Question | undefined;
  #isClosed: boolean;
  /** The questions, one after the other. */
  #last: Promise<unknown> = Promise.resolve();
  /** The answers, one after the other: where the first is refused, the question is still open for the next. */
  #lastAnswer: Promise<unknown> = Promise.resolve();

  constructor(host: WorkHost, signal: AbortSignal, isClosed: boolean) {
    this.#host = host;
    this.#signal = signal;
    this.#isClosed = isClosed;
  }

  /** Resolves with the answer. Rejects with the signal's reason. A promise that nobody awaits may reject without consequences. */
  ask(prompt: string, options: QuestionOptions = {}): Promise<unknown> {
    const answer = this.#queued(prompt, options);
    answer.catch(() => undefined); // the asker hears of it
    return answer;
  }

  async #queued(prompt: string, { data, schema }: QuestionOptions): Promise<unknown> {
    const checked = data === undefined ? undefined : jsonValue(data, 'data');
    const answer = this.#last.then(() => this.#ask(prompt, checked, schema));
    this.#last = answer.catch(() => undefined); // the next question is asked all the same
    return answer;
  }

  async #ask(prompt: string, data: JsonValue | undefined, schema: StandardSchema | undefined): Promise<unknown> {
    const { clock, taskId } = this.#host;
    this.#signal.throwIfAborted();
    if (this.#isClosed) {
      throw new BackgroundTaskError('TASK_NOT_FOUND', 'the task has ended; what its work does now changes nothing', {
        taskId,
      });
    }
    const answered = this.#answerTo(schema);
    answered.catch(() => undefined); // an abort during the write below is thrown by it instead
    const waitingFor: WaitingFor = { prompt, ...(data !== undefined && { data }), requestedAt: clock.now() };
    try {
      await this.#host.post({ is: 'asked', waitingFor });
    } catch (error) {
      this.#open = undefined;
      throw error;
    }
    return answered;
  }

  #answerTo(schema: StandardSchema | undefined): Promise<unknown> {
    return new Promise<unknown>((resolve, reject) => {
      const onAbort = () => {
        this.#open = undefined;
        reject(this.#signal.reason);
      };
      const answer = (value: unknown) => {
        this.#signal.removeEventListener('abort', onAbort);
        resolve(value);
      };
      this.#open = { schema, resolve: answer };
      this.#signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  answer(value: JsonValue): Promise<TaskRecord> {
    const answered = this.#lastAnswer.then(() => this.#answer(value));
    this.#lastAnswer = answered.catch(() => undefined); // whoever answered hears of it
    return answered;
  }

  async #answer(value: JsonValue): Promise<TaskRecord> {
    const question = this.#open;
    const { taskId, clock } = this.#host;
    if (!question) throw new BackgroundTaskError('TASK_NOT_WAITING', 'the task waits for nothing', { taskId });
    const verdict = question.schema ? checkSchema(question.schema, value) : { ok: true as const, value };
    if (!verdict.ok)
      throw new BackgroundTaskError('INVALID_INPUT', `the answer does not fit: ${verdict.problem}`, { taskId });
    this.#open = undefined;
    try {
      const task = await this.#host.post({ is: 'answered', value, now: clock.now(), ifResumed: 'refuse' });
      question.resolve(verdict.value);
      return task;
    } catch (error) {
      this.#open = question;
      throw error;
    }
  }

  /** The task has ended: nothing can be asked or answered any more. */
  close(): void {
    this.#isClosed = true;
    this.#open = undefined;
  }
}
