/*
 * npm run bench -- --against <folder of another checkout, built>: the same work with this package and with that one, sample by sample in turn,
 * so that what the machine does meanwhile is shared by both. Prints the medians and their ratio.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as here from 'holdfast';

type Package = typeof here;
type Manager = here.BackgroundTaskManager;

/** One measurement that can be repeated: milliseconds. */
interface Scenario {
  readonly what: string;
  readonly samples: number;
  /** Files that the directory has before it is opened. */
  readonly records?: number;
  readonly options?: object;
  sample(manager: Manager, holdfast: Package, directory: string): Promise<number>;
}

async function timed(work: () => unknown): Promise<number> {
  const began = performance.now();
  await work();
  return performance.now() - began;
}

const work = { kind: 'function', description: 'work', run: () => 1 } as const;
const shell = { kind: 'process', description: 'work', command: ['true'] } as const;

async function settle(manager: Manager, spec: typeof work | typeof shell): Promise<void> {
  const { taskId } = await manager.registerTask(spec);
  await manager.waitForTask(taskId);
}

const scenarios: readonly Scenario[] = [
  {
    what: 'register, run and settle a function',
    samples: 150,
    sample: (manager) => timed(() => settle(manager, work)),
  },
  {
    what: 'the same without fsync',
    samples: 300,
    options: { fsync: false },
    sample: (manager) => timed(() => settle(manager, work)),
  },
  {
    what: '1,000 functions at once, without fsync',
    samples: 9,
    options: { fsync: false },
    sample: (manager) => timed(() => Promise.all(Array.from({ length: 1_000 }, () => settle(manager, work)))),
  },
  {
    what: '1,000 functions through a queue of 8, without fsync',
    samples: 9,
    options: { fsync: false, maxRunningTasks: 8, whenFull: 'queue' },
    sample: (manager) => timed(() => Promise.all(Array.from({ length: 1_000 }, () => settle(manager, work)))),
  },
  { what: 'register, run and settle `true`', samples: 80, sample: (manager) => timed(() => settle(manager, shell)) },
  {
    what: 'the same without fsync',
    samples: 120,
    options: { fsync: false },
    sample: (manager) => timed(() => settle(manager, shell)),
  },
  {
    what: 'stop a sleeping process, without fsync',
    samples: 40,
    options: { fsync: false },
    sample: async (manager) => {
      const { taskId } = await manager.registerTask({ ...shell, command: ['sleep', '60'] });
      return timed(() => manager.stopTask(taskId));
    },
  },
  {
    what: 'a pass over 100 running processes',
    samples: 25,
    options: { fsync: false },
    sample: async (manager) => {
      while (manager.status().running < 100) await manager.registerTask({ ...shell, command: ['sleep', '300'] });
      return timed(() => manager.reconcile());
    },
  },
  {
    what: 'open 20,000 records',
    samples: 9,
    records: 20_000,
    sample: async (_, holdfast, directory) => {
      let opened!: Manager;
      const took = await timed(async () => {
        opened = await holdfast.BackgroundTaskManager.open({ directory: `${directory}-records`, fsync: false });
      });
      await opened.close();
      return took;
    },
  },
];

/** Prints a table. Rejects where the other package cannot be loaded. */
export async function compare(folder: string): Promise<void> {
  const other = (await import(pathToFileURL(join(resolve(folder), 'dist', 'index.js')).href)) as Package;
  console.log('| what | there | here | here / there |\n|---|---|---|---|');
  for (const scenario of scenarios) {
    const [before, after] = await alternate(scenario, [other, here]);
    console.log(
      `| ${scenario.what} | ${before!.toFixed(2)} ms | ${after!.toFixed(2)} ms | ${(after! / before!).toFixed(3)} |`,
    );
  }
}

/** The medians of the samples of each package, taken in turn. */
async function alternate(scenario: Scenario, packages: readonly Package[]): Promise<number[]> {
  const root = await mkdtemp(join(tmpdir(), 'holdfast-bench-'));
  try {
    const sides = await Promise.all(packages.map((holdfast, n) => open(scenario, holdfast, join(root, `${n}`))));
    const rounds = scenario.samples + 2;
    for (let round = 0; round < rounds; round++) {
      // The first samples warm up; which side goes first alternates, too.
      for (const side of round % 2 ? [...sides].reverse() : sides) {
        const took = await scenario.sample(side.manager, side.holdfast, side.directory);
        if (round >= 2) side.samples.push(took);
      }
    }
    await Promise.all(sides.map(({ manager }) => manager.close({ tasks: 'stop', graceMs: 0 })));
    return sides.map(({ samples }) => samples.sort((a, b) => a - b)[Math.floor(samples.length / 2)]!);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

async function open({ records = 0, options }: Scenario, holdfast: Package, directory: string) {
  if (records > 0) await fill(`${directory}-records`, records);
  const manager = await holdfast.BackgroundTaskManager.open({ directory, reconcileIntervalMs: 0, ...options });
  return { manager, holdfast, directory, samples: [] as number[] };
}

/** Ended tasks as files. */
export async function fill(directory: string, count: number): Promise<void> {
  await mkdir(directory, { recursive: true });
  for (let n = 0; n < count; n++) {
    const record = {
      schemaVersion: 1,
      taskId: `t${n}`,
      kind: 'process',
      description: `task ${n}`,
      status: 'completed',
      detached: true,
      createdAt: 1_790_000_000_000 + n,
      startedAt: 1_790_000_000_000 + n,
      endedAt: 1_790_000_001_000 + n,
      attempt: 1,
      owner: null,
      details: { command: ['npm', 'test'], cwd: '/repo', pid: 5151, exitCode: 0, signal: null },
      metadata: {},
      hooks: {},
    };
    await writeFile(join(directory, `t${n}.json`), JSON.stringify(record));
  }
}
