/* Work outside this process, as a kind with `start` and `probe` makes it. What the host's functions answer is checked before it is believed. */
import { asError, BackgroundTaskError } from '../../errors.js';
import type { Probe } from '../../task/kind.js';
import type { AttachedWork, KindRuntime, NeverBegan, OutOfReach } from '../../task/kind-runtime.js';
import type { TaskRecord } from '../../task/record.js';
import { came, show } from '../../task/show.js';
import { describeError } from '../../task/task-error.js';
import type { Awaitable, JsonObject, JsonValue } from '../../task/types.js';
import { Limiter } from '../../util/limiter.js';
import type { Outcome } from '../decide/finding.js';
import { toTaskError } from '../failures.js';
import { completion, detailPatch, failure, fittingPatch, limited, whyMissing } from './answers.js';
import type { LaunchInput, Look, Work, WorkHost } from './work.js';

type GoesOn = Extract<Probe<JsonObject, unknown>, { state: 'running' | 'waiting' }>;
type HasEnded = Extract<Probe<JsonObject, unknown>, { state: 'completed' | 'failed' | 'gone' }>;

/** Output files that are made at once: each takes a descriptor of this process for a moment. */
const outputs = new Limiter(16);

export class KindWork implements Work {
  readonly whenHostEnds = 'goes on';
  readonly #host: WorkHost;
  readonly #kind: KindRuntime;
  readonly #calls: AttachedWork;
  #isAnswering = false;

  constructor(kind: KindRuntime, calls: AttachedWork, host: WorkHost) {
    this.#kind = kind;
    this.#host = host;
    this.#calls = calls;
  }

  get canStop(): boolean {
    return this.#calls.stop !== undefined;
  }

  async launch(input: unknown, { signal }: { readonly signal: AbortSignal }): Promise<JsonObject | undefined> {
    const { taskId, output } = this.#host;
    await outputs.run(() => output.prepare());
    const { record, view } = this.#host;
    const { attempt, details } = record;
    const context = { taskId, attempt, details, outputPath: output.path, signal, task: view };
    const learnt = await this.#calls.start!(context, input);
    return learnt ? this.#learnt(learnt) : undefined;
  }

  /** The work runs already: what cannot go on record is told, and is no failure of the launch. */
  #learnt(patch: object): JsonObject | undefined {
    try {
      return fittingPatch(this.#kind, this.#host.view, patch, 'start');
    } catch (error) {
      this.#host.report(error);
      return undefined;
    }
  }

  started(): void {}

  async look(): Promise<Look> {
    const probe = await limited(this.#host.clock, 'the probe', this.#calls.probe!(this.#host.working));
    if (probe.state === 'waiting' && typeof probe.prompt !== 'string') {
      throw new TypeError(`the probe of "${this.#kind.name}": prompt: expected a string, got ${came(probe.prompt)}`);
    }
    if (probe.state === 'running' || probe.state === 'waiting') return this.#goesOn(probe);
    return { ended: true, outcome: this.#outcomeOf(probe) };
  }

  #goesOn(probe: GoesOn): Look {
    const { outOfReach } = probe as Partial<OutOfReach>;
    return {
      ended: false,
      found: {
        ...(probe.state === 'waiting' && { prompt: probe.prompt }),
        ...(probe.state === 'running' && probe.progress && { progress: detailPatch(probe.progress) }),
        details: () => (probe.details ? this.#news(probe.details) : undefined),
      },
      ...(outOfReach !== undefined && { outOfReach }),
    };
  }

  /** The details that differ from those on record. */
  #news(patch: object): JsonObject | undefined {
    const { details } = this.#host.view;
    const fitting = fittingPatch(this.#kind, this.#host.view, patch, 'the probe');
    const news = Object.entries(fitting).filter(
      ([key, value]) => JSON.stringify(details[key]) !== JSON.stringify(value),
    );
    return news.length > 0 ? Object.fromEntries(news) : undefined;
  }

  /** What the host's code answered is believed as far as it can go on record; the rest is reported, and the task ends all the same. */
  #outcomeOf(probe: HasEnded): Outcome {
    if (probe.state !== 'completed' && probe.state !== 'failed' && probe.state !== 'gone') {
      throw new TypeError(
        `the probe of "${this.#kind.name}": state: expected one of running, waiting, completed, failed, gone, got ${show((probe as { state?: unknown }).state)}`,
      );
    }
    const isTime = Number.isFinite(probe.endedAt) && (probe.endedAt as number) >= 0;
    const endedAt = isTime ? probe.endedAt! : this.#host.clock.now();
    if (probe.state === 'gone') {
      const { neverBegan, details } = probe as Partial<NeverBegan>;
      return { ending: 'gone', endedAt, ...(neverBegan && details && { neverBegan: 'nobody was told', details }) };
    }
    const details = probe.details && this.#lastDetails(probe.details);
    const end = probe.state === 'failed' ? failure(describeError(probe.error)) : completion(this.#kind, probe.result);
    return { ...end, endedAt, ...(details && { details }) };
  }

  #lastDetails(patch: object): JsonObject | undefined {
    try {
      return fittingPatch(this.#kind, this.#host.view, patch, 'the probe');
    } catch (error) {
      this.#host.report(toTaskError(error, 'INVALID_SPEC', this.#host.taskId));
      return undefined;
    }
  }

  async stop(how: 'terminate' | 'kill'): Promise<void> {
    await this.#calls.stop?.(this.#host.working, how);
  }

  async answer(value: JsonValue): Promise<TaskRecord> {
    const { taskId, clock } = this.#host;
    if (this.#isAnswering) {
      throw new BackgroundTaskError('TASK_NOT_WAITING', 'another answer is on its way', { taskId });
    }
    if (!this.#calls.provideInput) {
      throw new BackgroundTaskError(
        'INVALID_INPUT',
        `tasks of the kind "${this.#kind.name}" take no input: the kind defines no provideInput`,
        { taskId },
      );
    }
    this.#isAnswering = true;
    try {
      // On record before the work sees it; `waiting` ends only once the work took it.
      await this.#host.post({ is: 'answering', value, now: clock.now() });
      if (!this.#host.isActive) throw new BackgroundTaskError('TASK_NOT_WAITING', 'the task has ended', { taskId });
      await this.#give(value, this.#calls.provideInput);
      // A probe may have seen already that the work goes on.
      return await this.#host.post({ is: 'answered', value, now: clock.now(), ifResumed: 'keep' });
    } finally {
      this.#isAnswering = false;
    }
  }

  async #give(value: JsonValue, provideInput: NonNullable<KindRuntime['provideInput']>): Promise<void> {
    try {
      await provideInput(this.#host.view, value);
    } catch (error) {
      const { message } = asError(error);
      throw new BackgroundTaskError('INVALID_INPUT', `the work did not take the answer: ${message}`, {
        cause: error,
        taskId: this.#host.taskId,
      });
    }
  }

  missing(): { what: string; why: string } | undefined {
    const { missing } = this.#kind;
    const { view, record } = this.#host;
    const what = missing ? missing(view) : record.hasInput ? 'its input is on no record' : undefined;
    return what === undefined ? undefined : { what, why: whyMissing(this.#kind) };
  }

  resupply(): Promise<LaunchInput | undefined> {
    return this.#ask(this.#kind.resupply ?? (this.#kind.missing ? undefined : this.#kind.recover));
  }

  recover(): Promise<LaunchInput | undefined> {
    return this.#ask(this.#kind.recover);
  }

  async #ask(question: ((task: TaskRecord) => Awaitable<unknown>) | undefined): Promise<LaunchInput | undefined> {
    if (!question) return undefined;
    const answer = await limited(this.#host.clock, 'recover', question(this.#host.view));
    return answer === undefined || answer === null ? undefined : { input: (answer as Partial<LaunchInput>).input };
  }

  async leave(): Promise<void> {}

  async settled(): Promise<void> {
    await this.#calls.settled?.(this.#host.record);
  }

  async quiesce(): Promise<void> {
    await this.#calls.quiesce?.();
  }

  async dispose(): Promise<void> {
    // Another owner looks at what stands still by itself.
    await this.#calls.dispose?.(!this.#host.isFenced && this.#host.record.stop !== undefined);
  }
}
