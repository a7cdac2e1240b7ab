/* Row 10: many callers register at once. The work itself counts how many of it run; processes are counted by the process table. */
import { setTimeout as pause, setImmediate } from 'node:timers/promises';
import { BackgroundTaskManager, type Slot } from 'holdfast';
import { type Experiment, range, type Trial } from '../lab.js';
import { supervisors } from '../processes.js';
import type { Random } from '../random.js';

const CALLERS = 40;
const GROUPS = ['a', 'b', 'c'];

export const slotLimit: Experiment = {
  row: 10,
  what: 'registrations racing for slots: more at work than the limit, or a refused one that ran',
  async run(lab) {
    await lab.trials(range(lab.size({ quick: 12, full: 600 })), oneRace);
  },
};

/** Who is at work now, and how many ever were at once. */
class Floor {
  readonly #now = new Map<string, number>();
  readonly most = new Map<string, number>();
  readonly everStarted = new Set<string>();

  enter(id: string, group: string): () => void {
    this.everStarted.add(id);
    for (const key of ['all', group]) this.#count(key, 1);
    return () => {
      for (const key of ['all', group]) this.#count(key, -1);
    };
  }

  #count(key: string, by: number): void {
    const now = (this.#now.get(key) ?? 0) + by;
    this.#now.set(key, now);
    this.most.set(key, Math.max(now, this.most.get(key) ?? 0));
  }
}

async function oneRace(trial: Trial): Promise<number> {
  const { random, directory } = trial;
  const [maxRunningTasks, maxRunningTasksPerGroup] = [random.int(2, 5), random.pick([1, 2, 10])];
  const limits = { maxRunningTasks, maxRunningTasksPerGroup, whenFull: random.pick(['reject', 'queue'] as const) };
  await using manager = await BackgroundTaskManager.open({ directory, fsync: false, ...limits });
  const floor = new Floor();
  const refused = new Set<string>();
  const watching = watchProcesses(trial, maxRunningTasks);
  await Promise.all(range(CALLERS).map((n) => call(manager, random.fork(n), `t${n}`, floor, refused)));
  trial.check(await manager.waitForIdle({ timeoutMs: 20_000 }), 'not idle after 20 s');
  await watching.stop();

  trial.check(
    (floor.most.get('all') ?? 0) <= maxRunningTasks,
    `${floor.most.get('all')} at work, limit ${maxRunningTasks}`,
  );
  for (const group of GROUPS) {
    const most = floor.most.get(group) ?? 0;
    trial.check(most <= maxRunningTasksPerGroup, `${most} of group ${group} at work, limit ${maxRunningTasksPerGroup}`);
  }
  for (const id of refused)
    trial.check(!floor.everStarted.has(id) && !manager.getTask(id), `${id} was refused, and is there`);
  const { used } = manager.status().slots;
  trial.check(used === 0, `${used} slots are taken at the end`);
  return CALLERS;
}

async function call(
  manager: BackgroundTaskManager,
  random: Random,
  id: string,
  floor: Floor,
  refused: Set<string>,
): Promise<void> {
  for (let turns = random.int(0, 20); turns > 0; turns--) await setImmediate();
  const group = random.pick(GROUPS);
  const common = { taskId: id, description: id, group, hooks: [] };
  const work = async () => {
    const leave = floor.enter(id, group);
    await pause(random.int(1, 10));
    leave();
    if (random.chance(0.2)) throw new Error('on purpose');
  };
  const register = (slot?: Slot) => manager.registerTask({ ...common, kind: 'function', slot, run: work });
  const ways = {
    reserved: async () => {
      using slot = manager.reserveSlot({ group });
      await setImmediate();
      if (random.chance(0.5)) await register(slot);
    },
    // One in three cannot be launched: its slot must come back all the same.
    process: () => {
      const cwd = random.chance(0.3) ? '/nonexistent' : '/';
      return manager.registerTask({ ...common, kind: 'process', command: 'true', cwd });
    },
    stopped: async () => {
      await register();
      await manager.stopTask(id);
    },
    plain: () => register(),
  };
  try {
    await ways[random.pick(['reserved', 'process', 'stopped', 'plain', 'plain', 'plain'] as const)]();
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === 'CAPACITY_EXCEEDED') refused.add(id);
    else if (code !== 'LAUNCH_FAILED') throw error;
  }
}

/** Looks at the process table all the while. */
function watchProcesses(trial: Trial, limit: number): { stop(): Promise<void> } {
  let over = false;
  const watched = (async () => {
    while (!over) {
      const running = supervisors(trial.directory).length;
      // One that has ended may stay in the table for a moment, but its slot is given back only once its exit is on disk.
      trial.check(running <= limit + 1, `${running} supervisors, limit ${limit}`);
      await pause(100);
    }
  })();
  return {
    stop: () => {
      over = true;
      return watched;
    },
  };
}
