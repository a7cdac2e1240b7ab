// The pure half of the lifecycle, by properties: whatever is found out about a task, in whatever order, these invariants hold.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { importsOf, placeOf } from '../../scripts/source.js';
import { BackgroundTaskError } from '../../src/errors.js';
import { type Decision, decide, effects, rules } from '../../src/lifecycle/decide/decide.js';
import type { Finding } from '../../src/lifecycle/decide/finding.js';
import { deepFreeze } from '../../src/task/json.js';
import type { TaskRecord } from '../../src/task/record.js';
import { type Ending, stopCauses } from '../../src/task/status.js';
import type { StopCause, TaskStatus } from '../../src/task/types.js';
import { invariants, isBegun, type Step, terminal, verdicts } from '../helpers/decisions.js';
import { findingOf, freshRecord, plans, Unfit } from '../helpers/findings.js';
import { filesBelow, root } from '../helpers/house.js';

const RUNS = Number(process.env.HOLDFAST_RUNS ?? 40) * 50;

/** What a decision may throw. */
function expectKnown(error: unknown, finding: Finding): void {
  if (error instanceof Unfit && finding.is === 'detailed') return;
  if (error instanceof BackgroundTaskError && error.code === 'INVALID_SPEC') return;
  if (error instanceof BackgroundTaskError && error.code === 'TASK_NOT_WAITING' && finding.is === 'answered') return;
  throw error;
}

/** Decides twice, by what cannot be changed: the same must follow. */
function decideFrozen(record: TaskRecord, finding: Finding): Decision | undefined {
  const once = () => {
    try {
      return decide(deepFreeze(record), deepFreeze(finding));
    } catch (error) {
      expectKnown(error, finding);
      return undefined;
    }
  };
  const decision = once();
  expect(isDeepStrictEqual(once(), decision)).toBe(true);
  return decision;
}

/** All that the rules claim. */
const claims = Object.entries(rules).flatMap(([name, rule]) => [
  ...rule.from.map((status) => `${name} from ${status}`),
  ...(rule.to ?? []).map((status) => `${name} to ${status}`),
  ...[...rule.events, ...rule.effects].map((what) => `${name}: ${what}`),
]);

function happened({ before, finding, decision, after }: Step): string[] {
  if (!decision) return [];
  const { is: name } = finding;
  return [
    `${name} from ${before.status}`,
    ...(rules[name].to ? [`${name} to ${after.status}`] : []),
    ...decision.events.map((event) => `${name}: ${event.name}`),
    ...decision.effects.map((effect) => `${name}: ${effect}`),
  ];
}

it('holds whatever is found out about a task, and all that the rules claim can happen', () => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(freshRecord, plans, (fresh, planned) => {
      const history = [fresh];
      for (const one of planned) {
        const before = history.at(-1)!;
        const finding = findingOf(one, history);
        const decision = decideFrozen(before, finding);
        const after = decision?.record ?? before;
        // An owner that dies is followed by one that loads the record, and with it the slot that is held by then.
        const step: Step = {
          before,
          finding,
          decision,
          after,
          held: before.detached && isBegun(before) && !before.takesNoSlot,
        };
        const broken = Object.keys(invariants).filter((name) => !invariants[name]!(step));
        if (broken.length > 0) expect({ broken, ...step }).toEqual({ broken: [], ...step });
        for (const what of happened(step)) seen.add(what);
        if (decision) history.push(after);
      }
    }),
    { numRuns: RUNS },
  );
  if (RUNS >= 2_000) expect([...seen].sort()).toEqual([...claims].sort());
  expect(effects.filter((effect) => !claims.some((claim) => claim.endsWith(`: ${effect}`)))).toEqual([]);
});

describe('the verdict', () => {
  const causes: readonly (StopCause | 'none')[] = ['none', ...stopCauses];
  const [fresh] = fc.sample(freshRecord, 1);

  it.each(
    causes.flatMap((cause) => Object.entries(verdicts[cause]).map(([ending, status]) => ({ cause, ending, status }))),
  )('of a stop by $cause and of work that ended as $ending is $status', ({ cause, ending, status }) => {
    const stop = cause === 'none' ? {} : { stop: { cause, requestedAt: 1 } };
    const outcome = { ending: ending as Ending, endedAt: 2_000 };
    const given = (before: TaskStatus): TaskRecord => ({ ...fresh!, ...stop, status: before });
    const ended = (before: TaskStatus) => decide(given(before), { is: 'ended', outcome, inline: true })?.record.status;
    expect(['running', 'waiting'].map((before) => ended(before as TaskStatus))).toEqual([status, status]);
    // What never began has not completed.
    if (ending !== 'completed') expect(ended('queued')).toBe(status);
    else expect(ended('queued')).toBe(verdicts[cause].gone);
    expect(terminal.map(ended)).toEqual(terminal.map(() => undefined));
  });
});

describe('src/lifecycle/decide', () => {
  const files = filesBelow('src/lifecycle/decide', '.ts');

  it('has all that it imports from where no input and output is', () => {
    const reached = new Set(files);
    for (const file of reached) {
      for (const target of importsOf(file)) if (target.startsWith('src/')) reached.add(target);
    }
    const packages = [...reached].flatMap(importsOf).filter((name) => !name.startsWith('src/'));
    expect(files.length).toBeGreaterThan(3);
    // `task/id.ts` draws ids; it is reached for the pattern of an id.
    expect([...new Set(packages)].sort()).toEqual(['node:crypto', 'zod']);
    const places = new Set([...reached].map(placeOf));
    expect([...places].sort()).toEqual(['errors.ts', 'lifecycle', 'task']);
    expect([...reached].filter((file) => placeOf(file) === 'lifecycle').sort()).toEqual(files);
  });

  it('reads no clock, no environment and no chance', () => {
    const impure =
      /\b(Date|performance|process|Math\.random|crypto|globalThis|set(Timeout|Interval|Immediate)|await|async)\b/;
    const code = (file: string) => readFileSync(join(root, file), 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
    expect(files.filter((file) => impure.test(code(file)))).toEqual([]);
  });
});
