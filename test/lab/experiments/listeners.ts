/* Row 17: bad neighbours. Listeners and hooks that throw, reject, block or never come back must not keep others from hearing. */

import { BackgroundTaskManager } from 'holdfast';
import { type Experiment, range, type Trial } from '../lab.js';
import type { Random } from '../random.js';
import { until } from '../until.js';

const TASKS = 20;
const EVENTS = ['task:started', 'task:settled', 'hook:delivered', 'error'] as const;

export const badNeighbours: Experiment = {
  row: 17,
  what: 'throwing, rejecting, blocking listeners and hooks: others not reached',
  async run(lab) {
    await lab.trials(range(lab.size({ quick: 20, full: 1_500 })), neighbourhood, { parallel: 4 });
  },
};

function misdeed(): never {
  throw new Error('thrown by a neighbour');
}

/** Everything that a listener or a hook can do wrong. */
const misdeeds: readonly ((random: Random) => unknown)[] = [
  misdeed,
  () => {
    throw undefined;
  },
  () => {
    throw new TypeError('thrown by a neighbour');
  },
  () => Promise.reject(new Error('rejected by a neighbour')),
  () => new Promise(() => undefined),
  // A thing that throws when it is asked whether it is a promise.
  () => new Proxy({}, { get: misdeed }),
  (random) => {
    const end = performance.now() + random.int(1, 4);
    while (performance.now() < end);
  },
];

async function neighbourhood(trial: Trial): Promise<number> {
  const { random, directory } = trial;
  const called: string[] = [];
  const bad = {
    deliver: () => random.pick(misdeeds)(random),
    maxAttempts: 2,
    minDelayMs: 1,
    maxDelayMs: 2,
    timeoutMs: 30,
  };
  const good = { deliver: (_task: unknown, { deliveryId }: { deliveryId: string }) => void called.push(deliveryId) };
  // The good hook is asked before, between and after the bad ones.
  const hooks = { first: good, worst: bad, middle: good, worse: bad, last: good };
  await using manager = await BackgroundTaskManager.open({ directory, fsync: false, hooks });
  const heard = listenBetween(manager, random);
  const ids = range(TASKS).map((n) => `t${n}`);
  for (const taskId of ids)
    await manager.registerTask({ kind: 'function', taskId, description: taskId, run: () => taskId });
  await manager.waitForIdle();
  await until(() => manager.listDeliveries({ state: 'pending' }).length === 0, 'every hook delivered or given up');

  const expected = { 'task:started': TASKS, 'task:settled': TASKS };
  for (const [listener, events] of heard) {
    for (const [event, count] of Object.entries(expected)) {
      trial.check(
        events.get(event) === count,
        `${listener} heard ${event} ${events.get(event) ?? 0} times, not ${count}`,
      );
    }
    trial.check((events.get('error') ?? 0) > 0, `${listener} heard of no error`);
  }
  for (const name of ['first', 'middle', 'last']) {
    const missing = ids.filter((taskId) => called.filter((one) => one === `${taskId}:${name}`).length !== 1);
    trial.check(missing.length === 0, `the hook ${name} was not called exactly once for ${missing.join(', ')}`);
  }
  return TASKS * (heard.size + 3);
}

/** Good listeners before, among and after bad ones; each with what it heard. */
function listenBetween(manager: BackgroundTaskManager, random: Random): Map<string, Map<string, number>> {
  const heard = new Map<string, Map<string, number>>();
  const hearAll = (name: string) => {
    const events = new Map<string, number>();
    heard.set(name, events);
    const count = (event: string) => void events.set(event, (events.get(event) ?? 0) + 1);
    if (random.chance(0.5)) manager.on('*', (event, _payload) => count(event));
    else for (const event of EVENTS) manager.on<(typeof EVENTS)[number]>(event, () => count(event));
  };
  const misbehave = (event: (typeof EVENTS)[number], deed: (typeof misdeeds)[number]) =>
    void manager.on<(typeof EVENTS)[number]>(event, () => deed(random) as Promise<void>);
  for (const n of range(6)) {
    hearAll(`listener ${n}`);
    const deed = random.pick(misdeeds);
    if (random.chance(0.2)) manager.on('*', () => deed(random) as Promise<void>);
    else misbehave(random.pick(EVENTS), deed);
  }
  misbehave('task:started', misdeeds[0]!);
  hearAll('the last listener');
  return heard;
}
