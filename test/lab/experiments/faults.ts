/* Row 6: every call of a scripted run fails, in every way it can. */
import { checkFiles, filesOf } from '../aftermath.js';
import { readAcknowledged, readDisk } from '../checker.js';
import { type Fault, Host } from '../host.js';
import { type Experiment, type Lab, range, type Trial } from '../lab.js';
import { Sandbox } from '../sandbox.js';
import { script } from '../workload.js';

const FAULTS: readonly Fault[] = ['ENOSPC', 'EIO', 'EACCES', 'EMFILE', 'short'];
const WORKERS = 3;

interface Attack {
  readonly fault: Fault;
  readonly at: number;
  readonly forEver: boolean;
}

/** Hosts that make one trial after another. One that dies is a violation, and is replaced. */
class Workers implements AsyncDisposable {
  readonly #sandbox = new Sandbox();
  readonly #free: Host[] = [];

  async use<T>(work: (host: Host) => Promise<T>): Promise<T> {
    const host = this.#free.pop() ?? this.#start();
    try {
      const result = await work(host);
      this.#free.push(host);
      return result;
    } catch (error) {
      await host.kill();
      throw error;
    }
  }

  #start(): Host {
    const directory = this.#sandbox.path;
    return new Host({ sandbox: this.#sandbox, script: 'faults.mjs', plan: {}, fs: { directory, mode: 'off' } });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#free.map((host) => host.kill()));
    await this.#sandbox[Symbol.asyncDispose]();
  }
}

const nameOf = ({ fault, at, forEver }: Attack) => `${fault} ${forEver ? 'from' : 'at'} call ${at}`;

async function attack(workers: Workers, trial: Trial, one?: Attack): Promise<any> {
  return workers.use(async (host) => {
    host.tell({ ...filesOf(trial), steps: script(), ...one });
    const said = await host.next();
    if (!said.played) return said;
    if (one) checkFiles(trial, `${nameOf(one)}, while it lasts`, 'ill');
    host.tell({});
    return host.next();
  });
}

/** A call that never came, since timers make some of them, is no trial. */
function judge(trial: Trial, one: Attack, said: any): number {
  const where = nameOf(one);
  trial.violations(where, said.uncaught);
  if (said.failed) {
    trial.violation(`${where}: ${said.failed}`);
    return 1;
  }
  trial.check(
    said.refused === undefined || said.refused === 'STORAGE_FAILED',
    `${where}: open rejected with ${said.refused}`,
  );
  for (const [when, state] of Object.entries<any>({
    'once the disk is well': said.here,
    'after a new open': said.there,
  })) {
    trial.check(state.idle, `${where}: not idle ${when}`);
    trial.check(
      state.slots === state.active,
      `${where}: ${state.slots} slots for ${state.active} active tasks ${when}`,
    );
  }
  checkFiles(trial, where, 'ill');
  if (!one.forEver) trial.violations(where, recordsOfRefused(trial));
  return said.fired > 0 ? 1 : 0;
}

/** What was refused left nothing; only a launch that failed is on record. */
function recordsOfRefused(trial: Trial): string[] {
  const { records } = readDisk(trial.directory);
  return readAcknowledged(filesOf(trial).acknowledged)
    .filter(
      ({ refused, id, code }) => /^(?:process|function)$/.test(refused) && code !== 'LAUNCH_FAILED' && records.has(id),
    )
    .map(({ id, code }) => `${id} was refused (${code}) and has a record`);
}

/** Every fault at every call that it could befall in a run without any, once and for ever. */
async function planAttacks(lab: Lab, workers: Workers): Promise<Attack[]> {
  const attacks: Attack[] = [];
  await lab.rehearse(async (trial) => {
    const { calls, failed } = await attack(workers, trial);
    if (failed) throw new Error(failed);
    for (const fault of FAULTS) {
      for (const index of range(calls[fault])) {
        for (const forEver of [false, true]) attacks.push({ fault, at: index + 1, forEver });
      }
    }
  });
  return attacks;
}

export const faults: Experiment = {
  row: 6,
  what: 'ENOSPC, EIO, EACCES, EMFILE, short write at every call: a record torn or missing, slots out of step',
  // Every call, however long that takes; a quick lab takes some of them.
  budgetMs: { quick: 7_000, full: Number.POSITIVE_INFINITY },
  async run(lab) {
    await using workers = new Workers();
    const all = await planAttacks(lab, workers);
    const chosen = lab.random.shuffle(all).slice(0, lab.size({ quick: 100, full: all.length }));
    await lab.trials(chosen, async (trial, one) => judge(trial, one, await attack(workers, trial, one)), {
      parallel: WORKERS,
    });
    lab.note(`${lab.trialCount} of ${all.length} faults`);
  },
};
