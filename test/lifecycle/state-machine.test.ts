import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Command, Lives } from '../helpers/lives.js';
import { scratch } from '../helpers/manager.js';

const RUNS = Number(process.env.HOLDFAST_RUNS ?? 40);

const at = fc.nat(20);
const register: fc.Arbitrary<Command> = fc.record({
  do: fc.constant('register'),
  kind: fc.constantFrom('function', 'job'),
  detached: fc.constantFrom(true, true, false),
  timeoutMs: fc.constantFrom(0, 0, 50, 500),
  detachOnTimeout: fc.boolean(),
  detachTimeoutMs: fc.constantFrom(undefined, undefined, 0, 300),
  queueTimeoutMs: fc.constantFrom(0, 0, 200),
  group: fc.constantFrom(undefined, 'g'),
  key: fc.constantFrom(undefined, undefined, undefined, 'k1', 'k2'),
  hooks: fc.constantFrom(undefined, []),
  whenFull: fc.constantFrom('reject', 'queue', 'queue'),
  stubborn: fc.boolean(),
});
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 14, arbitrary: register },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('end'), at, how: fc.constantFrom('completed', 'failed', 'gone') }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constantFrom('ask', 'ask', 'input', 'input', 'detach', 'detach', 'acknowledge'),
      at,
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('stop'), at, skipHooks: fc.boolean() }) },
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constantFrom('reconcile', 'reconcile', 'reconcile', 'kill', 'restart') }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constantFrom('kill', 'kill', 'kill', 'restart', 'stopAll', 'rest', 'rest') }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('advance'), ms: fc.constantFrom(1, 50, 300, 1_000) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('prune'), keep: fc.nat(4) }) },
  // Without these, what was asked for is still under way when the next command comes.
  { weight: 12, arbitrary: fc.record({ do: fc.constant('answered') }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('pause'), turns: fc.nat(30) }) },
) as fc.Arbitrary<Command>;

it('holds through whatever is done to tasks and to their hosts', { timeout: 600_000 }, async () => {
  const root = await scratch();
  const tally = new Map<string, number>();
  let run = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(command, { minLength: 30, maxLength: 60, size: 'max' }), async (commands) => {
      await new Lives(join(root, `${run++}`), tally).run(commands);
    }),
    // Real files take their own time, so a failure may not come again: what is shrunk would be another one.
    { numRuns: RUNS, endOnFailure: true },
  );
  // A run that never came near the states it is about would prove nothing.
  const rare = ['task:queued', 'task:waiting', 'task:detached', 'task:adopted', 'task:pruned', 'timed_out (deadline)'];
  if (RUNS >= 40) expect([...tally.keys()]).toEqual(expect.arrayContaining([...rare, 'lost (none)', 'killed (user)']));
});
