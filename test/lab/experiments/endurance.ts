/* Rows 16 and 18: many tasks in one host, at once and over time. What is held at the end is compared with what was held after the first. */
import { Host } from '../host.js';
import type { Experiment, Lab, Trial } from '../lab.js';

/** What hosts/endurance.mjs counts. */
interface Census {
  readonly resources: Readonly<Record<string, number>>;
  readonly files: number;
  readonly listeners: number;
  readonly heap: number;
}

const MEGABYTE = 1024 * 1024;
/** What a heap may grow by without anything having stayed: code that was compiled, tables that were enlarged. */
const HEAP_SLACK = 3 * MEGABYTE;

const megabytes = (bytes: number) => `${(bytes / MEGABYTE).toFixed(1)} MB`;

export const manyTasks: Experiment = {
  row: 16,
  what: 'many tasks in one host: a timer, handle, listener, watcher or byte that stays',
  budgetMs: { quick: 20_000, full: 900_000 },
  async run(lab) {
    await lab.trials([lab.size({ quick: 1_000, full: 100_000 })], (trial, tasks) => countAfterMany(trial, lab, tasks));
  },
};

async function countAfterMany(trial: Trial, lab: Lab, tasks: number): Promise<number> {
  const plan = { many: { warmUp: lab.size({ quick: 300, full: 3_000 }), tasks }, processEvery: 100 };
  const { before, start, full, kept, end, closed } = await endure(trial, plan);
  compare(trial, 'after pruning', start, end);
  compare(trial, 'after close', before, { ...closed, heap: 0 });
  const each = (full.heap - start.heap) / tasks;
  lab.note(
    `${tasks} tasks; ${Math.round(each)} bytes of heap for each of ${kept} kept; ${grown(start, end)} once pruned`,
  );
  return tasks;
}

export const soak: Experiment = {
  row: 18,
  what: 'a steady load: heap or handles that grow',
  async run(lab) {
    const [warmUpSeconds, seconds] = { quick: [2, 4], full: [60, 540], soak: [60, 3_540] }[lab.mode] as [
      number,
      number,
    ];
    await lab.trials([20], (trial, perSecond) => soakFor(trial, lab, { perSecond, warmUpSeconds, seconds }));
  },
};

async function soakFor(
  trial: Trial,
  lab: Lab,
  steady: { perSecond: number; warmUpSeconds: number; seconds: number },
): Promise<number> {
  const { start, end, tasks } = await endure(trial, {
    steady,
    processEvery: 5,
    options: { retention: { maxTasks: 200 } },
  });
  compare(trial, `after ${steady.seconds} s`, start, end);
  lab.note(
    `${steady.seconds} s at ${steady.perSecond} a second; heap ${(end.heap / start.heap).toFixed(3)} of what it was, ${grown(start, end)}`,
  );
  return tasks;
}

async function endure(trial: Trial, plan: object): Promise<any> {
  await using host = new Host({
    sandbox: trial.sandbox,
    script: 'endurance.mjs',
    plan: { directory: trial.directory, ...plan },
    nodeArgs: ['--expose-gc'],
  });
  await host.next();
  return { ...(await host.next()), ...(await host.next()) };
}

const grown = (start: Census, end: Census) =>
  `${end.heap < start.heap ? '-' : '+'}${megabytes(Math.abs(end.heap - start.heap))}`;

function compare(trial: Trial, when: string, start: Census, end: Census): void {
  const types = Object.keys({ ...start.resources, ...end.resources });
  for (const type of types) {
    const [then, now] = [start.resources[type] ?? 0, end.resources[type] ?? 0];
    trial.check(now <= then, `${when}: ${now} ${type}, ${then} at the start`);
  }
  trial.check(end.files <= start.files, `${when}: ${end.files} open files, ${start.files} at the start`);
  trial.check(
    end.listeners <= start.listeners,
    `${when}: ${end.listeners} listeners of the process and its signal, ${start.listeners} at the start`,
  );
  trial.check(
    end.heap <= start.heap + HEAP_SLACK,
    `${when}: heap ${megabytes(end.heap)}, ${megabytes(start.heap)} at the start`,
  );
}
