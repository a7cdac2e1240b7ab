/* Row 10: many callers register at once. The work itself writes down when it begins and ends, processes as well as functions. */
import { appendFileSync } from 'node:fs';
import { setTimeout as pause, setImmediate } from 'node:timers/promises';
import { BackgroundTaskManager, type Slot } from 'holdfast';
import { readLines } from '../checker.js';
import { type Experiment, range, type Trial } from '../lab.js';
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

/** A line in a file for everybody who begins or ends, in the order in which they did: also from processes. */
class Floor {
  readonly #path: string;

  constructor(trial: Trial) {
    this.#path = trial.beside('floor');
  }

  /** Answers how to leave. */
  enter(id: string, group: string): () => void {
    appendFileSync(this.#path, `+ ${group} ${id}\n`);
    return () => appendFileSync(this.#path, `- ${group} ${id}\n`);
  }

  /** A command that enters and leaves. */
  command(id: string, group: string, ms: number): string {
    const line = (sign: string) => `echo '${sign} ${group} ${id}' >>'${this.#path}'`;
    return `${line('+')}; sleep ${ms / 1000}; ${line('-')}`;
  }

  /** Who was ever there, and how many were at once: of all, and of each group. */
  read(): { readonly ids: ReadonlySet<string>; readonly most: ReadonlyMap<string, number> } {
    const [now, most, ids] = [new Map<string, number>(), new Map<string, number>(), new Set<string>()];
    for (const line of readLines(this.#path)) {
      const [sign, group, id] = line.split(' ') as [string, string, string];
      ids.add(id);
      for (const key of ['all', group]) {
        const count = (now.get(key) ?? 0) + (sign === '+' ? 1 : -1);
        now.set(key, count);
        most.set(key, Math.max(count, most.get(key) ?? 0));
      }
    }
    return { ids, most };
  }
}

async function oneRace(trial: Trial): Promise<number> {
  const { random, directory } = trial;
  const [maxRunningTasks, maxRunningTasksPerGroup] = [random.int(2, 5), random.pick([1, 2, 10])];
  const limits = { maxRunningTasks, maxRunningTasksPerGroup, whenFull: random.pick(['reject', 'queue'] as const) };
  await using manager = await BackgroundTaskManager.open({ directory, fsync: false, ...limits });
  const floor = new Floor(trial);
  const refused = new Set<string>();
  await Promise.all(range(CALLERS).map((n) => call(manager, random.fork(n), `t${n}`, floor, refused)));
  trial.check(await manager.waitForIdle({ timeoutMs: 20_000 }), 'not idle after 20 s');

  const { ids, most } = floor.read();
  trial.check(ids.size > 0, 'nobody was ever at work');
  trial.check(most.get('all')! <= maxRunningTasks, `${most.get('all')} at work, limit ${maxRunningTasks}`);
  for (const group of GROUPS) {
    const count = most.get(group) ?? 0;
    trial.check(count <= maxRunningTasksPerGroup, `${count} of ${group} at work, limit ${maxRunningTasksPerGroup}`);
  }
  for (const id of refused) trial.check(!ids.has(id) && !manager.getTask(id), `${id} was refused, and is there`);
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
      return manager.registerTask({
        ...common,
        kind: 'process',
        command: floor.command(id, group, random.int(0, 5)),
        cwd,
      });
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
