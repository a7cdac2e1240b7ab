/* What work and probes answer, checked before it can go on record. */
import type { Clock } from '../../clock.js';
import { NotJsonError, toJson } from '../../task/json.js';
import { detailsFit, type KindRuntime } from '../../task/kind-runtime.js';
import type { TaskRecord } from '../../task/record.js';
import { checkSchema } from '../../task/schema.js';
import { describeError } from '../../task/task-error.js';
import type { Awaitable, JsonObject, TaskError } from '../../task/types.js';
import { withRoom } from '../decide/fields.js';
import type { Outcome } from '../decide/finding.js';

/** The host's code that takes longer has failed: one hung probe must not hold up a pass, nor a stop, for ever. */
const CALLBACK_TIMEOUT_MS = 30_000;

/** What a kind's function answers, if it does within half a minute. */
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

/** What work returned: a result that cannot be kept makes the task `failed`, and says where. */
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

/** A patch of details that is JSON, fits the kind, and fits into the record. `who` gave it, for the error. */
export function fittingPatch(kind: KindRuntime, task: TaskRecord, patch: object, who: string): JsonObject {
  const json = detailPatch(patch);
  const details = { ...task.details, ...json };
  if (!detailsFit(kind, { ...task, details })) {
    throw new TypeError(`${who} of "${kind.name}" answered with details that do not fit the kind`);
  }
  withRoom({ ...task, details });
  return json;
}

/** Why nobody gave what a launch needs, where the host that could was not asked, or gave nothing. */
export function whyMissing(kind: KindRuntime): string {
  if (kind.missing)
    return kind.resupply ? 'are on no record: recoverProcess gave none' : 'are on no record: open with recoverProcess';
  return kind.recover ? `(recover of the kind "${kind.name}" gave none)` : `(the kind "${kind.name}" has no recover)`;
}
