/*
 * The state machine of a task, without I/O: `decide(record, finding)` gives the record as it is to be, the events that tell of it, and what
 * else follows. Whoever calls it writes the record first, applies the effects then, and emits the events last.
 *
 *   queued ─▶ running ⇄ waiting          queued ─▶ failed (launch) · killed · timed_out · lost
 *   running, waiting ─▶ completed · failed · timed_out · killed · lost        nothing leaves a terminal state
 *   running ─▶ queued                    only where the launch was cut short before anything ran
 */
import { BackgroundTaskError } from '../../errors.js';
import type { TaskRecord } from '../../task/record.js';
import { isTerminalStatus, taskStatuses } from '../../task/status.js';
import type { TaskStatus } from '../../task/types.js';
import { ended, withdrawn } from './ended.js';
import { answerTo, deadlineOfStart, holdsSlot, ownedBy, toBackground, without, withRoom } from './fields.js';
import type { Finding, FindingName } from './finding.js';

/** An event that a decision has the manager emit, with what its payload has beside the task. */
export type DecidedEvent =
  | {
      readonly name:
        | 'task:queued'
        | 'task:started'
        | 'task:updated'
        | 'task:waiting'
        | 'task:resumed'
        | 'task:stopping'
        | 'task:adopted'
        | 'task:settled';
    }
  | { readonly name: 'task:detached'; readonly byTimeout: boolean };

/**
 * What follows from a decision beside its events:
 *
 * - `take slot`: the task holds a slot from here on: it is at work in the background. One that was registered in the foreground under
 *   `countsTowardsLimit: 'registered-detached'` (`takesNoSlot`) never does.
 * - `release slot`: it gives the slot back.
 * - `arm deadline`: its deadline may be another one now, or none.
 * - `free caller`: whoever waited for it in the foreground is told, and its signal stops the task no longer.
 * - `dispose work`: nothing is left of its work in this process.
 * - `deliver hooks`: it owes deliveries.
 * - `retain`: it counts as an ended task for `retention` and `ttlMs`.
 */
export const effects = [
  'take slot',
  'release slot',
  'arm deadline',
  'free caller',
  'dispose work',
  'deliver hooks',
  'retain',
] as const;
export type Effect = (typeof effects)[number];

export interface Decision {
  /** The same object where nothing is to be written. */
  readonly record: TaskRecord;
  readonly events: readonly DecidedEvent[];
  readonly effects: readonly Effect[];
}

interface Rule<N extends FindingName> {
  /** Where it means something. Of a task with another status it changes nothing. */
  readonly from: readonly TaskStatus[];
  /** What the task can be after it; absent: its status stays. */
  readonly to?: readonly TaskStatus[];
  /** All the events and effects that it can have. */
  readonly events: readonly DecidedEvent['name'][];
  readonly effects: readonly Effect[];
  /** `undefined`: it changes nothing. May throw, and then nothing has changed. */
  decide(record: TaskRecord, finding: Finding<N>): Decision | undefined;
  /** Of a task with another status: throws where whoever asked for it has to be told. */
  refuse?(record: TaskRecord, finding: Finding<N>): void;
}

const active: readonly TaskStatus[] = ['queued', 'running', 'waiting'];
const begun: readonly TaskStatus[] = ['running', 'waiting'];
const terminal = taskStatuses.filter((status) => isTerminalStatus(status));

const ruleOf: { readonly [N in FindingName]: Rule<N> } = {
  queued: {
    from: ['queued'],
    events: ['task:queued'],
    effects: ['arm deadline'],
    decide: (record) => decision({ ...record }, ['task:queued'], ['arm deadline']),
  },
  begun: {
    from: ['queued'],
    to: ['running'],
    events: [],
    effects: ['take slot', 'arm deadline'],
    decide: (record, { now, owner }) => {
      // Stopped before it began: it must not begin, also where that stop could not be written yet.
      if (record.stop) return undefined;
      const startedAt = Math.max(now, record.createdAt);
      const deadline = deadlineOfStart(record, startedAt);
      const next: TaskRecord = { ...record, status: 'running', startedAt, owner, ...deadline };
      return decision(next, [], [...slotChange(record, next), 'arm deadline']);
    },
  },
  launched: {
    from: begun,
    events: ['task:started'],
    effects: [],
    decide: (record) => decision(record, ['task:started']),
  },
  requeued: {
    from: ['running'],
    to: ['queued'],
    events: ['task:queued'],
    effects: ['release slot', 'arm deadline'],
    decide: (record, { now, owner, details }) => {
      const owned = ownedBy(owner, details ? { ...record, details: { ...record.details, ...details } } : record, now);
      // The deadline counts from the start, which is still to come.
      const next: TaskRecord = { ...without(owned, 'deadlineAt'), status: 'queued', startedAt: null };
      return decision(next, ['task:queued'], [...slotChange(record, next), 'arm deadline']);
    },
  },
  adopted: {
    from: begun,
    events: ['task:adopted'],
    effects: ['take slot', 'arm deadline'],
    decide: (record, { now, owner, details }) => {
      const next = ownedBy(owner, details ? { ...record, details: { ...record.details, ...details } } : record, now);
      return decision(next, ['task:adopted'], [...slotChange(record, next), 'arm deadline']);
    },
  },
  recovered: {
    from: begun,
    to: ['running'],
    events: [],
    effects: ['take slot', 'arm deadline'],
    decide: (record, { now, owner }) => {
      // The deadline stays: it is the task's, not the attempt's.
      const owned = without(ownedBy(owner, record, now), 'waitingFor', 'progress');
      const next: TaskRecord = { ...owned, status: 'running', attempt: record.attempt + 1 };
      return decision(next, [], [...slotChange(record, next), 'arm deadline']);
    },
  },
  standing: {
    from: begun,
    to: begun,
    events: ['task:waiting', 'task:resumed', 'task:updated'],
    effects: [],
    decide: (record, { prompt, details, lookedAt, now }) => {
      const asks = prompt !== undefined && isNew(prompt, lookedAt) && isNew(prompt, record);
      // Another question may have been asked since.
      const resumes = prompt === undefined && record.status === 'waiting' && isSameQuestion(record, lookedAt);
      if (!details && !asks && !resumes) return undefined;
      const base = asks || resumes ? without(record, 'waitingFor') : record;
      const known = withRoom({ ...base, details: { ...record.details, ...details } });
      if (asks) {
        return decision({ ...known, status: 'waiting', waitingFor: { prompt, requestedAt: now } }, ['task:waiting']);
      }
      return resumes ? decision({ ...known, status: 'running' }, ['task:resumed']) : decision(known, ['task:updated']);
    },
  },
  asked: {
    from: ['running'],
    to: ['waiting'],
    events: ['task:waiting'],
    effects: [],
    decide: (record, { waitingFor }) =>
      decision(withRoom({ ...record, status: 'waiting', waitingFor }), ['task:waiting']),
  },
  answering: {
    from: begun,
    events: [],
    effects: [],
    decide: (record, { value, now }) => decision(withRoom({ ...record, lastInput: answerTo(record, value, now) })),
  },
  answered: {
    from: ['waiting'],
    to: ['running'],
    events: ['task:resumed'],
    effects: [],
    refuse: ({ taskId }, { ifResumed }) => {
      if (ifResumed === 'keep') return;
      throw new BackgroundTaskError('TASK_NOT_WAITING', 'the task waits for nothing', { taskId });
    },
    decide: (record, { value, now }) => {
      const lastInput = answerTo(record, value, now);
      const next: TaskRecord = { ...without(record, 'waitingFor'), status: 'running', lastInput };
      return decision(withRoom(next), ['task:resumed']);
    },
  },
  detailed: {
    from: active,
    events: ['task:updated'],
    effects: [],
    decide: (record, { merge }) => decision(withRoom({ ...record, details: merge(record.details) }), ['task:updated']),
  },
  progressed: {
    from: active,
    events: [],
    effects: [],
    decide: (record) => decision(record),
  },
  described: {
    from: taskStatuses,
    events: ['task:updated'],
    effects: [],
    decide: (record, { description = record.description, metadata }) =>
      decision(withRoom({ ...record, description, metadata: { ...record.metadata, ...metadata } }), ['task:updated']),
  },
  detached: {
    from: active,
    events: ['task:detached'],
    effects: ['take slot', 'arm deadline', 'free caller'],
    decide: (record, { byTimeout, now }) => {
      if (record.detached) return undefined;
      const next = toBackground(record, byTimeout, now);
      const events: DecidedEvent[] = [{ name: 'task:detached', byTimeout }];
      return { record: next, events, effects: [...slotChange(record, next), 'arm deadline', 'free caller'] };
    },
  },
  stopped: {
    from: active,
    events: ['task:stopping'],
    effects: ['arm deadline'],
    decide: (record, { stop, skipHooks, isWanted }) => {
      // The first cause stays. A detach or a start may have come first.
      if ((record.stop && !skipHooks) || isWanted?.() === false) return undefined;
      const hooks = skipHooks ? withdrawn(record.hooks) : record.hooks;
      const next: TaskRecord = { ...record, stop: record.stop ?? stop, hooks };
      return decision(next, record.stop ? [] : ['task:stopping'], ['arm deadline']);
    },
  },
  delivered: {
    from: taskStatuses,
    events: [],
    effects: [],
    decide: (record, { next }) => {
      const changed = next(record);
      return changed && decision(changed);
    },
  },
  ended: {
    from: active,
    to: terminal,
    events: ['task:settled'],
    effects: ['release slot', 'arm deadline', 'free caller', 'dispose work', 'deliver hooks', 'retain'],
    decide: (record, { outcome, inline }) => {
      const next = ended(record, outcome, inline);
      const owes = Object.values(next.hooks).some(({ state }) => state === 'pending');
      return decision(
        next,
        ['task:settled'],
        [
          ...slotChange(record, next),
          'arm deadline',
          'free caller',
          'dispose work',
          ...onlyIf(owes, 'deliver hooks'),
          'retain',
        ],
      );
    },
  },
};

/** The rules without their functions, for the table in the documentation and for tests. */
export const rules: { readonly [N in FindingName]: Omit<Rule<N>, 'decide' | 'refuse'> } = ruleOf;

/**
 * What follows from a finding; `undefined`: nothing. Pure, as far as the functions are that a finding brings. Throws `INVALID_SPEC` where the
 * record would outgrow its limit, `TASK_NOT_WAITING`, and what functions of the finding throw.
 */
export function decide<N extends FindingName>(record: TaskRecord, finding: Finding<N>): Decision | undefined {
  const rule = ruleOf[finding.is] as unknown as Rule<N>;
  if (rule.from.includes(record.status)) return rule.decide(record, finding);
  rule.refuse?.(record, finding);
  return undefined;
}

function decision(
  record: TaskRecord,
  events: readonly Exclude<DecidedEvent['name'], 'task:detached'>[] = [],
  effects: readonly Effect[] = [],
): Decision {
  return { record, events: events.map((name) => ({ name })), effects };
}

function slotChange(before: TaskRecord, after: TaskRecord): Effect[] {
  if (holdsSlot(before) === holdsSlot(after)) return [];
  return [holdsSlot(after) ? 'take slot' : 'release slot'];
}

function onlyIf(condition: boolean, effect: Effect): Effect[] {
  return condition ? [effect] : [];
}

function isNew(prompt: string, { waitingFor }: TaskRecord): boolean {
  return waitingFor?.prompt !== prompt;
}

function isSameQuestion({ waitingFor }: TaskRecord, { waitingFor: other }: TaskRecord): boolean {
  return waitingFor?.prompt === other?.prompt && waitingFor?.requestedAt === other?.requestedAt;
}
