import type { Clock } from '../clock.js';
import type { NeverBegan, Probe } from '../task/kind.js';
import { detailsFit } from '../task/kind.js';
import type { TaskRecord } from '../task/record.js';
import { came, show } from '../task/show.js';
import { describeError } from '../task/task-error.js';
import type { Awaitable, JsonObject } from '../task/types.js';
import { type Core, toTaskError } from './core.js';
import type { Entry, Outcome } from './entry.js';
import { withRoom } from './ledger.js';
import { completion, detailPatch, failure } from './settlement.js';

/** The host's code that takes longer has failed: one hung probe must not hold up a pass, nor a stop, for ever. */
const CALLBACK_TIMEOUT_MS = 30_000;

/** What a probe said of work that goes on. */
export type Found = Extract<Probe<JsonObject, unknown>, { state: 'running' | 'waiting' }>;

/** What a look found: the work goes on (`found` says how, where its kind can tell), or it has ended. */
export type Finding =
  | { readonly ended: false; readonly found?: Found }
  | { readonly ended: true; readonly outcome: Outcome };

/** Looks at the work of a task: in-process work says itself how it stands, other work is probed. Throws when it cannot be told. */
export async function find(core: Core, entry: Entry): Promise<Finding> {
  const { kind, run } = entry;
  if (run) {
    const end = await run.end();
    return end ? { ended: true, outcome: end } : { ended: false };
  }
  if (!kind?.probe) return { ended: true, outcome: { ending: 'gone', endedAt: core.notBefore(entry.record) } };
  const probe = await limited(core.clock, 'the probe', kind.probe(entry.working));
  if (probe.state === 'waiting' && typeof probe.prompt !== 'string') {
    throw new TypeError(`the probe of "${kind.name}": prompt: expected a string, got ${came(probe.prompt)}`);
  }
  if (probe.state === 'running' || probe.state === 'waiting') return { ended: false, found: probe };
  return { ended: true, outcome: outcomeOf(core, entry, probe) };
}

type EndedProbe = Extract<Probe<JsonObject, unknown>, { state: 'completed' | 'failed' | 'gone' }>;

/** What the host's code answered is believed as far as it can go on record; the rest is reported, and the task ends all the same. */
function outcomeOf(core: Core, entry: Entry, probe: EndedProbe): Outcome {
  if (probe.state !== 'completed' && probe.state !== 'failed' && probe.state !== 'gone') {
    throw new TypeError(
      `the probe of "${entry.record.kind}": state: expected one of running, waiting, completed, failed, gone, got ${show((probe as { state?: unknown }).state)}`,
    );
  }
  const isTime = Number.isFinite(probe.endedAt) && (probe.endedAt as number) >= 0;
  const endedAt = core.notBefore(entry.record, isTime ? probe.endedAt : core.clock.now());
  if (probe.state === 'gone') {
    const { neverBegan, details } = probe as Partial<NeverBegan>;
    return { ending: 'gone', endedAt, ...(neverBegan && details && { neverBegan: 'nobody was told', details }) };
  }
  const details = lastDetails(core, entry, probe.details);
  const end = probe.state === 'failed' ? failure(describeError(probe.error)) : completion(entry.kind!, probe.result);
  return { ...end, endedAt, ...(details && { details }) };
}

function lastDetails(core: Core, entry: Entry, patch: object | undefined): JsonObject | undefined {
  if (!patch) return undefined;
  try {
    return fittingPatch(entry, patch);
  } catch (error) {
    core.report(toTaskError(error, 'INVALID_SPEC', entry.taskId), entry.taskId);
    return undefined;
  }
}

/** A patch of details that is JSON, fits the kind, and fits into the record. */
function fittingPatch(entry: Entry, patch: object): JsonObject {
  const json = detailPatch(patch);
  const details = { ...entry.view.details, ...json };
  if (!detailsFit(entry.kind!, { ...entry.view, details })) {
    throw new TypeError(`the probe of "${entry.record.kind}" answered with details that do not fit the kind`);
  }
  withRoom({ ...entry.view, details });
  return json;
}

/** What a probe said of the details and is not on record yet. Throws where that cannot go on record. */
export function newDetails(entry: Entry, found: Found): JsonObject | undefined {
  return found.details && changed(entry.view.details, fittingPatch(entry, found.details));
}

/** Writes down what a probe said of work that goes on, where it says something new. */
export async function record(core: Core, entry: Entry, found: Found): Promise<void> {
  const patch = newDetails(entry, found);
  const waiting = found.state === 'waiting' ? found.prompt : undefined;
  // Asked again in its turn: an answer may have resumed the task meanwhile.
  const asks = (task: TaskRecord) => waiting !== undefined && task.waitingFor?.prompt !== waiting;
  const goesOn = (task: TaskRecord) => waiting === undefined && task.status === 'waiting';
  const before = { asks: asks(entry.record), goesOn: goesOn(entry.record) };
  if (!patch && !before.asks && !before.goesOn) return;
  let event: 'task:waiting' | 'task:resumed' | 'task:updated' = 'task:updated';
  await core.ledger.change(
    entry,
    (task) => {
      const [asksAnew, resumes] = [before.asks && asks(task), before.goesOn && goesOn(task)];
      if (!entry.active || !(patch || asksAnew || resumes)) return undefined;
      event = asksAnew ? 'task:waiting' : resumes ? 'task:resumed' : 'task:updated';
      const { waitingFor: _, ...rest } = task;
      const base = withRoom({ ...(resumes || asksAnew ? rest : task), details: { ...task.details, ...patch } });
      if (asksAnew)
        return { ...base, status: 'waiting', waitingFor: { prompt: waiting!, requestedAt: core.clock.now() } };
      return resumes ? { ...base, status: 'running' } : base;
    },
    (task) => core.emit(event, { task }),
  );
}

/** The part of `patch` that differs from what is on record. */
function changed(details: JsonObject, patch: JsonObject): JsonObject | undefined {
  const news = Object.entries(patch).filter(([key, value]) => JSON.stringify(details[key]) !== JSON.stringify(value));
  return news.length > 0 ? Object.fromEntries(news) : undefined;
}

/** What a kind's `probe` or `recover` answers, if it does within half a minute. */
export function limited<T>(clock: Clock, what: string, answer: Awaitable<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = clock.after(CALLBACK_TIMEOUT_MS, () =>
      reject(new Error(`${what} did not answer within ${CALLBACK_TIMEOUT_MS} ms`)),
    );
    Promise.resolve(answer)
      .then(resolve, reject)
      .finally(() => timer.clear());
  });
}
