// What holds of every decision, as a model of its own: the states, what each finding may change, and what is held and owed.
import { isDeepStrictEqual } from 'node:util';
import { type Decision, type Effect, rules } from '../../src/lifecycle/decide/decide.js';
import type { Finding, FindingName } from '../../src/lifecycle/decide/finding.js';
import { deadlineOf } from '../../src/lifecycle/task/deadline.js';
import { parseCurrentRecord, type TaskRecord } from '../../src/task/record.js';
import { type Ending, isTerminalStatus, taskStatuses } from '../../src/task/status.js';
import type { StopCause, TaskStatus } from '../../src/task/types.js';

/** One finding, and what came of it. */
export interface Step {
  readonly before: TaskRecord;
  readonly finding: Finding;
  /** `undefined`: nothing followed, or it threw. */
  readonly decision: Decision | undefined;
  readonly after: TaskRecord;
  /** Whether the task held a slot before it. */
  readonly held: boolean;
}

export const terminal = taskStatuses.filter((status) => isTerminalStatus(status));
export const isBegun = ({ status }: TaskRecord) => status === 'running' || status === 'waiting';
const isOver = ({ status }: TaskRecord) => isTerminalStatus(status);
const isOwed = ({ hooks }: TaskRecord) => Object.values(hooks).some(({ state }) => state === 'pending');
const same = isDeepStrictEqual;
const is = <N extends FindingName>(finding: Finding, ...names: N[]): finding is Extract<Finding, { is: N }> =>
  (names as FindingName[]).includes(finding.is);
const ends = ({ before, after }: Step) => isOver(after) && !isOver(before);
const has = ({ decision }: Step, effect: Effect) => decision?.effects.includes(effect) ?? false;
const tells = ({ decision }: Step, event: string) => decision?.events.some(({ name }) => name === event) ?? false;

/** A status stays, or becomes one of these. */
const transitions: Readonly<Record<TaskStatus, readonly TaskStatus[]>> = {
  queued: ['running', 'failed', 'killed', 'timed_out', 'lost'],
  running: ['waiting', ...terminal],
  waiting: ['running', ...terminal],
  completed: [],
  failed: [],
  timed_out: [],
  killed: [],
  lost: [],
};

/** What each finding may change; all else of a record stays as it is, keys of a later version too. */
const changes: { readonly [N in FindingName]: readonly (keyof TaskRecord)[] } = {
  queued: [],
  begun: ['status', 'startedAt', 'deadlineAt', 'owner'],
  launched: [],
  requeued: ['status', 'startedAt', 'deadlineAt', 'owner', 'detached', 'details'],
  adopted: ['deadlineAt', 'owner', 'detached', 'details'],
  recovered: ['status', 'attempt', 'deadlineAt', 'owner', 'detached', 'waitingFor', 'progress'],
  standing: ['status', 'waitingFor', 'details'],
  asked: ['status', 'waitingFor'],
  answering: ['lastInput'],
  answered: ['status', 'waitingFor', 'lastInput'],
  detailed: ['details'],
  progressed: [],
  described: ['description', 'metadata'],
  detached: ['detached', 'deadlineAt'],
  stopped: ['stop', 'hooks'],
  delivered: ['hooks'],
  ended: [
    ...(['status', 'startedAt', 'endedAt', 'detached', 'waitingFor', 'details', 'hooks'] as const),
    ...(['stopReason', 'error', 'result'] as const),
  ],
};

/** The table of verdicts, by the stop on record. */
export const verdicts: Readonly<Record<StopCause | 'none', Readonly<Record<Ending, TaskStatus>>>> = {
  none: { completed: 'completed', failed: 'failed', gone: 'lost', abandoned: 'lost' },
  user: { completed: 'completed', failed: 'killed', gone: 'killed', abandoned: 'lost' },
  shutdown: { completed: 'completed', failed: 'killed', gone: 'killed', abandoned: 'lost' },
  deadline: { completed: 'timed_out', failed: 'timed_out', gone: 'timed_out', abandoned: 'lost' },
  output_limit: { completed: 'killed', failed: 'killed', gone: 'killed', abandoned: 'lost' },
};

/** What never began has not completed. */
function verdict(before: TaskRecord, { outcome }: Finding<'ended'>): TaskStatus {
  const neverBegan = before.status === 'queued' || outcome.neverBegan !== undefined;
  const ending = neverBegan && outcome.ending === 'completed' ? 'gone' : outcome.ending;
  return verdicts[before.stop?.cause ?? 'none'][ending];
}

function startedAt({ before, finding }: Step): number | null {
  if (is(finding, 'begun')) return Math.max(finding.now, before.createdAt);
  if (is(finding, 'requeued')) return null;
  // A later attempt that could not begin does not undo the first.
  return is(finding, 'ended') && finding.outcome.neverBegan && before.attempt === 1 ? null : before.startedAt;
}

/** The deadline of a task that begins, or that has left the foreground while it ran. */
function deadlineAt({ before, finding, after }: Step): number | undefined {
  const { timeoutMs, detachTimeoutMs, detachOnTimeout, detached } = before;
  if (is(finding, 'begun')) {
    // Sent to the background while it was queued: the deadline that was to detach it has nothing left to do.
    const inBackground = detachTimeoutMs ?? (detachOnTimeout ? 0 : timeoutMs);
    const ms = detached ? inBackground : timeoutMs;
    return ms ? after.startedAt! + ms : undefined;
  }
  if (is(finding, 'requeued') || after.status === 'queued') return undefined;
  if (detached || !is(finding, 'adopted', 'recovered', 'detached')) return before.deadlineAt;
  if (detachTimeoutMs !== undefined) return detachTimeoutMs ? finding.now + detachTimeoutMs : undefined;
  return (is(finding, 'detached') ? finding.byTimeout : detachOnTimeout) ? undefined : before.deadlineAt;
}

/** What an end or a stop may do to what is owed: all that is pending is withdrawn, or nothing. */
function owedAfter({ before, finding }: Step): 'as before' | 'withdrawn' | 'as it was told' {
  if (is(finding, 'delivered')) return 'as it was told';
  if (is(finding, 'stopped')) return finding.skipHooks ? 'withdrawn' : 'as before';
  if (!is(finding, 'ended')) return 'as before';
  const { outlivedCaller, neverBegan } = finding.outcome;
  const somebodyHeard = (!before.detached && !outlivedCaller) || neverBegan === 'caller was told';
  return somebodyHeard ? 'withdrawn' : 'as before';
}

/** By what each of them says. */
export const invariants: Readonly<Record<string, (step: Step) => boolean>> = {
  'the status changes as the states allow': ({ before, after, finding }) =>
    after.status === before.status ||
    transitions[before.status].includes(after.status) ||
    // Its launch was cut short before anything ran.
    (is(finding, 'requeued') && before.status === 'running' && after.status === 'queued'),
  'the rule says so': ({ before, finding, decision, after }) => {
    if (!decision) return true;
    const rule = rules[finding.is];
    return (
      rule.from.includes(before.status) &&
      (rule.to ? rule.to.includes(after.status) : after.status === before.status) &&
      decision.events.every(({ name }) => rule.events.includes(name)) &&
      decision.effects.every((effect) => rule.effects.includes(effect)) &&
      new Set(decision.effects).size === decision.effects.length
    );
  },
  'nothing else changes': ({ before, finding, after }) => {
    const changed = new Set<string>(changes[finding.is]);
    const keys = new Set([...Object.keys(before), ...Object.keys(after)]) as Set<keyof TaskRecord>;
    return [...keys].every((key) => changed.has(key) || same(before[key], after[key]));
  },
  'no detail and no metadata of others is dropped': ({ before, after }) =>
    after.details.z === before.details.z && after.metadata.z === before.metadata.z,
  'the record can be read back': ({ decision, after }) =>
    !decision || same(parseCurrentRecord(JSON.parse(JSON.stringify(after))), after),

  'the first stop stays': ({ before, finding, after }) =>
    same(after.stop, before.stop ?? (is(finding, 'stopped') && !isOver(before) ? finding.stop : undefined)),
  'what was stopped does not begin': ({ before, finding, after }) =>
    !(is(finding, 'begun') && before.stop) || after.status === before.status,
  'the end is judged by the verdicts': (step) =>
    !is(step.finding, 'ended') || isOver(step.before) || step.after.status === verdict(step.before, step.finding),
  'an error is told of what failed, and of nothing else': ({ after }) =>
    (after.error !== undefined) === (after.status === 'failed'),
  'a result and the reason of an end are told of what has ended': ({ after }) =>
    isOver(after) || (after.result === undefined && after.stopReason === undefined),
  'what a stop ended says by whom or what': ({ after }) =>
    !(after.status === 'timed_out' || (after.status === 'killed' && after.stop?.cause !== 'user')) ||
    after.stopReason !== undefined,

  'a slot is taken where none is held, and given back where one is': (step) =>
    !(has(step, 'take slot') && (step.held || has(step, 'release slot'))) && !(has(step, 'release slot') && !step.held),
  'a slot is held exactly by what is detached and at work, unless it takes none': (step) =>
    holds(step) === (step.after.detached && isBegun(step.after) && !step.after.takesNoSlot),

  'debts are neither made nor forgotten': ({ before, after }) =>
    same(Object.keys(before.hooks), Object.keys(after.hooks)),
  'debts are withdrawn where the caller heard, or did not want to': (step) => {
    const { before, after, decision } = step;
    const expected = decision ? owedAfter(step) : 'as before';
    if (expected === 'as it was told') return true;
    return Object.entries(before.hooks).every(([name, owed]) => {
      const state = expected === 'withdrawn' && owed.state === 'pending' ? 'skipped' : owed.state;
      return same(after.hooks[name], { ...owed, state });
    });
  },
  'what ends in the foreground owes nothing, unless it is delivered again': (step) =>
    !ends(step) || step.after.detached || !isOwed(step.after),
  'what outlived its caller is in the background': (step) =>
    !ends(step) || !(is(step.finding, 'ended') && step.finding.outcome.outlivedCaller) || step.after.detached,
  'nothing comes back to the foreground': ({ before, after }) => after.detached || !before.detached,

  'it has begun unless it is queued, or never did': (step) =>
    step.after.startedAt === (step.decision ? startedAt(step) : step.before.startedAt),
  'a queued task has not begun, and one at work has': ({ after }) =>
    isOver(after) || (after.startedAt === null) === (after.status === 'queued'),
  'it has ended, and not before it began, exactly when it is terminal': ({ after }) =>
    isOver(after) ? after.endedAt! >= (after.startedAt ?? after.createdAt) : after.endedAt === null,
  'the deadline is the one of its start or of its detaching': (step) =>
    step.after.deadlineAt === (step.decision ? deadlineAt(step) : step.before.deadlineAt),
  'an attempt is counted where it is taken up again': ({ before, finding, decision, after }) =>
    after.attempt === before.attempt + (decision && is(finding, 'recovered') ? 1 : 0),

  'a question is open exactly while it waits': ({ after }) =>
    (after.waitingFor !== undefined) === (after.status === 'waiting'),
  'a question ends by an answer, by an end, or by a look that saw it': ({ before, finding, after }) =>
    !is(finding, 'standing') ||
    after.status !== 'running' ||
    same(before.waitingFor, finding.lookedAt.waitingFor) ||
    before.status === 'running',
  'a look that is older than the answer does not ask again': ({ before, finding, after }) =>
    !is(finding, 'standing') ||
    before.status === 'waiting' ||
    after.status !== 'waiting' ||
    finding.prompt !== finding.lookedAt.waitingFor?.prompt,

  'each change of state is told once, by its event': (step) => {
    const { before, after, finding, decision } = step;
    if (!decision) return true;
    const asks = after.waitingFor !== undefined && !same(before.waitingFor, after.waitingFor);
    return (
      decision.events.length <= 1 &&
      tells(step, 'task:settled') === ends(step) &&
      tells(step, 'task:waiting') === asks &&
      tells(step, 'task:resumed') ===
        (is(finding, 'standing', 'answered') && before.status === 'waiting' && after.status === 'running') &&
      tells(step, 'task:stopping') === (after.stop !== undefined && before.stop === undefined) &&
      tells(step, 'task:detached') === (is(finding, 'detached') && after.detached && !before.detached)
    );
  },
  'what follows from an end follows from nothing else': (step) =>
    has(step, 'retain') === ends(step) &&
    has(step, 'dispose work') === ends(step) &&
    has(step, 'deliver hooks') === (ends(step) && isOwed(step.after)) &&
    has(step, 'free caller') === (ends(step) || tells(step, 'task:detached')),
  'the timer of the deadline is set anew where it changes': (step) => {
    const { before, after } = step;
    const changed = deadlineOf(before) !== deadlineOf(after) || (after.stop && !before.stop) || ends(step);
    return !changed || has(step, 'arm deadline');
  },
};

function holds(step: Step): boolean {
  return has(step, 'take slot') || (step.held && !has(step, 'release slot'));
}
