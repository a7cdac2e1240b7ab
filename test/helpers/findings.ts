// Fresh records, and findings of every sort with any content, also such that make no sense of a task as it is.
import fc from 'fast-check';
import { delivered, failed, fresh, owedTo, postponed, skipped, withOwed } from '../../src/hooks/owed.js';
import type { Finding, FindingName, Outcome } from '../../src/lifecycle/decide/finding.js';
import type { TaskRecord } from '../../src/task/record.js';
import { stopCauses } from '../../src/task/status.js';
import type { JsonObject, OwedDelivery, TaskStop, WaitingFor } from '../../src/task/types.js';

const CREATED_AT = 1_000;
/** Also before the registration: the wall clock may be set back. */
const time = fc.nat(3_000);
const word = fc.constantFrom('a', 'b', 'c');
/** The last is more than any record may have. */
const text = fc.oneof({ weight: 150, arbitrary: word }, { weight: 1, arbitrary: fc.constant('x'.repeat(800_000)) });
const json: fc.Arbitrary<JsonObject> = fc.dictionary(word, text, { maxKeys: 2, noNullPrototype: true });
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const owner = word.map((instanceId) => ({
  instanceId,
  hostname: 'host',
  bootId: 'boot',
  pidNamespace: 'pid:[1]',
  pid: 7,
  startTicks: '9',
}));
const under = { now: time, owner };
/** `__proto__` is a name like any other. */
const hookNames = ['chat', '__proto__'];

/** As `registerTask` makes it, with keys of a later version. */
export const freshRecord: fc.Arbitrary<TaskRecord> = fc
  .record({
    detached: fc.boolean(),
    timeoutMs: fc.constantFrom(0, 50, 500),
    queueTimeoutMs: fc.constantFrom(0, 200),
    detachOnTimeout: fc.boolean(),
    detachTimeoutMs: fc.constantFrom(undefined, 0, 300),
    hooks: fc.oneof({ weight: 4, arbitrary: fc.subarray(hookNames, { minLength: 1 }) }, fc.constant<string[]>([])),
    group: maybe(word),
    takesNoSlot: fc.boolean(),
  })
  .map(({ detached, timeoutMs, queueTimeoutMs, detachOnTimeout, detachTimeoutMs, hooks, group, takesNoSlot }) => ({
    schemaVersion: 1,
    taskId: 'job-1',
    kind: 'job',
    description: 'work',
    status: 'queued',
    detached,
    createdAt: CREATED_AT,
    startedAt: null,
    endedAt: null,
    ...(timeoutMs && { timeoutMs }),
    ...(queueTimeoutMs && { queueTimeoutMs }),
    ...(!detached && timeoutMs && detachOnTimeout && { detachOnTimeout }),
    ...(!detached && detachTimeoutMs !== undefined && { detachTimeoutMs }),
    ...(!detached && takesNoSlot && { takesNoSlot }),
    ...(group !== undefined && { group }),
    attempt: 1,
    revision: 0,
    updatedAt: CREATED_AT,
    owner: null,
    details: { z: 'kept' },
    metadata: { z: 'kept' },
    hooks: Object.fromEntries(hooks.map((name) => [name, { ...fresh(), novel: 'kept' }])),
    novel: { kept: true },
  }));

type Change = (owed: OwedDelivery) => OwedDelivery | undefined;
const refused = new Error('refused');
/** What the outbox does to a delivery. */
const deliveries: Readonly<Record<string, Change>> = {
  delivered: (owed) => (owed.state === 'pending' ? delivered(owed, 2_000) : undefined),
  postponed: (owed) => (owed.state === 'pending' ? postponed(owed, refused, 2_000) : undefined),
  failed: (owed) => (owed.state === 'pending' ? failed(owed, refused) : undefined),
  skipped: (owed) => (owed.state === 'pending' || owed.state === 'failed' ? skipped(owed) : undefined),
  redelivered: (owed) => (owed.state === 'pending' ? undefined : fresh(owed)),
};

/** Functions of a finding, with what a failing run is told of them. */
function shown<T extends object>(fn: T, name: string): T {
  return Object.assign(fn, { [fc.toStringMethod]: () => name });
}

const next = fc.tuple(fc.constantFrom(...hookNames), fc.constantFrom(...Object.keys(deliveries))).map(([hook, how]) =>
  shown((record: TaskRecord) => {
    const owed = owedTo(record, hook);
    const changed = owed && deliveries[how]?.(owed);
    return changed && withOwed(record, hook, changed);
  }, `${how} to ${hook}`),
);

/** What `merge` throws. */
export class Unfit extends Error {}
const merge = fc.oneof(
  json.map((patch) =>
    shown((details: JsonObject) => ({ ...details, ...patch }), `{ ...details, ${fc.stringify(patch)} }`),
  ),
  fc.constant(
    shown((): JsonObject => {
      throw new Unfit('the details do not fit');
    }, 'throws'),
  ),
);

const stop: fc.Arbitrary<TaskStop> = fc.record(
  { cause: fc.constantFrom(...stopCauses), reason: word, requestedAt: time },
  { requiredKeys: ['cause', 'requestedAt'], noNullPrototype: true },
);
const ending = fc.constantFrom('completed', 'completed', 'failed', 'gone', 'abandoned');
const anyOutcome: fc.Arbitrary<Outcome> = fc.record(
  {
    ending,
    endedAt: time,
    error: fc.constant({ name: 'Error', message: 'broken' }),
    result: word,
    details: json,
    stopReason: word,
    neverBegan: fc.constantFrom('caller was told', 'nobody was told'),
    outlivedCaller: fc.boolean(),
  },
  { requiredKeys: ['ending', 'endedAt'], noNullPrototype: true },
);
const outcome = fc.oneof(anyOutcome, fc.record({ ending, endedAt: time, details: json }));
const waitingFor: fc.Arbitrary<WaitingFor> = fc.record(
  { prompt: text, data: json, requestedAt: time },
  { requiredKeys: ['prompt', 'requestedAt'], noNullPrototype: true },
);

type Given<N extends FindingName> = Omit<Finding<N>, 'is'>;
/** A finding without a generator does not compile. `lookedAt` is how many records ago the work was looked at. */
const contents: {
  readonly [N in Exclude<FindingName, 'standing'>]: fc.Arbitrary<Given<N>>;
} & { readonly standing: fc.Arbitrary<Omit<Given<'standing'>, 'lookedAt'> & { lookedAt: number }> } = {
  queued: fc.constant({}),
  begun: fc.record(under),
  launched: fc.constant({}),
  requeued: fc.record({ ...under, details: maybe(json) }),
  adopted: fc.record({ ...under, details: maybe(json) }),
  recovered: fc.record(under),
  standing: fc.record({ prompt: maybe(text), details: maybe(json), lookedAt: fc.nat(3), now: time }),
  asked: fc.record({ waitingFor }),
  answering: fc.record({ value: text, now: time }),
  answered: fc.record({ value: text, now: time, ifResumed: fc.constantFrom('refuse', 'keep') }),
  detailed: fc.record({ merge }),
  progressed: fc.constant({}),
  described: fc.record({ description: maybe(text), metadata: json }),
  detached: fc.record({ byTimeout: fc.boolean(), now: time }),
  stopped: fc.record({ stop, skipHooks: fc.boolean() }),
  delivered: fc.record({ next }),
  ended: fc.record({ outcome, inline: fc.boolean() }),
};

/** A finding that was not given its `lookedAt` yet. */
export type Plan = { readonly is: FindingName };

/** How often each is drawn, where not four times. */
function planBy(weights: Partial<Record<FindingName, number>>): fc.Arbitrary<Plan> {
  const drawn = Object.entries(contents).map(([name, content]) => {
    const is = name as FindingName;
    const arbitrary = (content as fc.Arbitrary<object>).map((given) => ({ is, ...given }));
    return { weight: weights[is] ?? 4, arbitrary };
  });
  return fc.oneof(...drawn);
}

/** A life, and what is found out when it should be over. */
export const plans: fc.Arbitrary<Plan[]> = fc
  .tuple(
    fc.array(planBy({ begun: 30, standing: 8, answered: 8, detached: 8, delivered: 8, requeued: 2, ended: 1 }), {
      maxLength: 30,
      size: 'max',
    }),
    fc.array(planBy({ ended: 60, delivered: 60, described: 60 }), { maxLength: 10, size: 'max' }),
  )
  .map(([life, afterwards]) => [...life, ...afterwards]);

/** `history`: the records of the task so far, the present one last. */
export function findingOf(planned: Plan, history: readonly TaskRecord[]): Finding {
  if (planned.is !== 'standing') return planned as Finding;
  const { lookedAt } = planned as unknown as { lookedAt: number };
  return { ...planned, lookedAt: history.at(-1 - lookedAt) ?? history[0] } as Finding;
}
