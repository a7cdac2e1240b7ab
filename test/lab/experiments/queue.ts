/* Row 19: a queue that outlives its hosts. Whoever fills it dies, or closes, again and again, and what was accepted runs once, in order. */
import { appendFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { checkFiles, filesOf } from '../aftermath.js';
import { isTerminal, type Json, notOnce, overtaken, readDisk, readLines, repeated } from '../checker.js';
import { Host } from '../host.js';
import { checkEnd } from '../killer.js';
import { type Experiment, range, type Trial } from '../lab.js';
import type { Random } from '../random.js';
import { until } from '../until.js';

interface Size {
  readonly tasks: number;
  readonly limit: number;
  readonly kills: number;
  readonly closes: number;
}

const QUICK: Size = { tasks: 40, limit: 4, kills: 4, closes: 1 };
const FULL: Size = { tasks: 200, limit: 8, kills: 20, closes: 5 };
const GROUPS = ['a', 'b', 'c'];

export const queueOutlives: Experiment = {
  row: 19,
  what: 'a queue over kills and closes of its hosts: accepted and not run, run twice, out of order, or too many at once',
  budgetMs: { quick: 5_000, full: 90_000 },
  async run(lab) {
    const size = lab.mode === 'quick' ? QUICK : FULL;
    const counts = { ran: 0, kills: 0, closes: 0 };
    await lab.trials(range(lab.size({ quick: 4, full: 24 })), async (trial, round) => {
      const drained = new Drained(trial, size, MIXTURES[round % MIXTURES.length]!);
      const ends = endsOf(trial.random, size, round % 2 === 0 ? 'kills' : 'closes');
      let made = 0;
      for (const n of lab.rounds(ends.length)) {
        await drained.end(ends[n]!);
        counts[ends[n]!]++;
        made++;
      }
      await drained.finish();
      counts.ran += size.tasks;
      return made;
    });
    lab.note(`${counts.ran} accepted, limit ${size.limit}, ${counts.kills} kills, ${counts.closes} closes`);
  },
};

type End = 'kills' | 'closes';

/** In any order, but for the first: a slow machine may have time for no more. */
function endsOf(random: Random, { kills, closes }: Size, first: End): readonly End[] {
  const ends = random.shuffle(range(kills + closes).map((n): End => (n < kills ? 'kills' : 'closes')));
  ends.unshift(...ends.splice(ends.indexOf(first), 1));
  return ends;
}

/** What stands in the queue: processes, in-process work that its kind can take up again, or both; and whether groups have a limit. */
interface Mixture {
  readonly kinds: readonly ('process' | 'worker')[];
  readonly perGroup?: number;
}
const MIXTURES: readonly Mixture[] = [
  { kinds: ['process', 'worker'] },
  { kinds: ['process', 'worker'], perGroup: 2 },
  { kinds: ['process'] },
  { kinds: ['worker'] },
];

/** What hosts/queue.mjs registers. */
interface QueuedTask {
  readonly id: string;
  readonly kind: 'process' | 'worker';
  readonly group: string;
  readonly ms: number;
  readonly exit: number;
  readonly keyed: boolean;
  /** Its exit code comes from a variable, whose value is on no record. */
  readonly needsEnv: boolean;
  readonly onAbort: 'throw' | 'return' | 'hang';
  readonly hooks: readonly string[];
}

function tasksOf(random: Random, count: number, { kinds }: Mixture): QueuedTask[] {
  return range(count).map((n) => {
    const kind = random.pick(kinds);
    return {
      // Of the same millisecond are in the order of their ids after a restart.
      id: `${String(n).padStart(3, '0')}-${kind}`,
      kind,
      group: random.pick(GROUPS),
      // Some outlive the host that began them, and are still at work when the next one has opened.
      ms: random.pick([0, 0, 5, 20, 60, 400]),
      exit: random.pick([0, 0, 1, 3, 127]),
      keyed: random.chance(0.5),
      needsEnv: random.chance(0.2),
      onAbort: random.pick(['throw', 'return', 'hang'] as const),
      hooks: random.pick([[], ['note']]),
    };
  });
}

/** One queue, from its registration until everything in it has ended. */
class Drained {
  readonly #trial: Trial;
  readonly #size: Size;
  readonly #mixture: Mixture;
  readonly #tasks: readonly QueuedTask[];
  readonly #floor: string;
  /** By task id: the attempts that a host left behind as it ended. */
  readonly #cutAttempts = new Map<string, Set<number>>();
  #ends = 0;

  constructor(trial: Trial, size: Size, mixture: Mixture) {
    this.#trial = trial;
    this.#size = size;
    this.#mixture = mixture;
    this.#tasks = tasksOf(trial.random.fork('tasks'), size.tasks, mixture);
    this.#floor = trial.beside('floor');
  }

  /** The next host, and its end. */
  async end(how: End): Promise<void> {
    const { random } = this.#trial;
    const share = (2 * this.#size.tasks) / (this.#size.kills + this.#size.closes);
    const closeAfter = { starts: random.int(0, share), turns: random.int(0, 10) };
    await using host = this.#host(how === 'closes' ? { closeAfter } : {});
    if (how === 'kills') await this.#killSometime(host, 2 * random.int(0, share));
    await checkEnd(this.#trial, host);
    this.#left(`after end ${++this.#ends} (${how})`);
  }

  /** The last host, which may do what is left. */
  async finish(): Promise<void> {
    {
      await using host = this.#host({});
      while (!(await host.next()).idle);
    }
    this.#left('at the end');
    this.#judge();
  }

  #host(more: object): Host {
    const { limit } = this.#size;
    const { perGroup } = this.#mixture;
    const plan = {
      ...filesOf(this.#trial),
      floor: this.#floor,
      tasks: this.#tasks,
      together: this.#trial.random.chance(0.5),
      options: {
        fsync: this.#trial.random.chance(0.3),
        maxRunningTasks: limit,
        whenFull: 'queue',
        ...(perGroup !== undefined && { maxRunningTasksPerGroup: perGroup }),
      },
      ...more,
    };
    return new Host({ sandbox: this.#trial.sandbox, script: 'queue.mjs', plan });
  }

  /** Now and then before it has opened; mostly once so many tasks more have begun or ended. */
  async #killSometime(host: Host, lines: number): Promise<void> {
    const { random } = this.#trial;
    if (random.chance(0.15)) await pause(random.int(0, 250));
    else {
      let isIdle = false;
      void (async () => {
        for (let said = await host.nextIfAny(); said && !said.idle; said = await host.nextIfAny());
        isIdle = true;
      })();
      const enough = readLines(this.#floor).length + lines;
      await until(() => isIdle || readLines(this.#floor).length >= enough, `${enough} beginnings and ends`);
      await pause(random.int(0, 5));
    }
    await host.kill();
  }

  /** What the host left is legal, nobody was overtaken, and what lived in it is gone. */
  #left(when: string): void {
    appendFileSync(this.#floor, '!\n');
    checkFiles(this.#trial, when);
    const { records } = readDisk(this.#trial.directory);
    this.#trial.violations(
      when,
      overtaken(records, (record) => this.#lineOf(record)),
    );
    for (const { taskId, kind, status, attempt } of records.values()) {
      if (kind !== 'worker' || status !== 'running') continue;
      this.#cutAttempts.set(taskId, (this.#cutAttempts.get(taskId) ?? new Set()).add(attempt));
    }
  }

  #lineOf({ group }: Json): { name: string; limit: number } {
    const { perGroup } = this.#mixture;
    return perGroup === undefined ? { name: 'all', limit: this.#size.limit } : { name: group, limit: perGroup };
  }

  #judge(): void {
    const trial = this.#trial;
    const { records } = readDisk(trial.directory);
    const floor = readFloor(this.#floor);
    trial.violations(
      'at the end',
      notOnce(
        records,
        floor.begun.filter((line) => !line.includes('#')),
      ),
    );
    trial.violations('begun twice', repeated(floor.begun));
    for (const task of this.#tasks) {
      const problem = this.#unlike(task, records.get(task.id));
      if (problem) trial.violation(`at the end: ${task.id} ${problem}`);
    }
    const { limit } = this.#size;
    const { perGroup = limit } = this.#mixture;
    for (const [line, most] of floor.most) {
      const allowed = line === 'all' ? limit : perGroup;
      trial.check(most <= allowed, `${most} of ${line} were at work at once, limit ${allowed}`);
    }
  }

  /** How a record is not what has to have become of the task. */
  #unlike({ id, kind, exit }: QueuedTask, record: Json | undefined): string | undefined {
    if (!record) return 'is not on record';
    if (!isTerminal(record)) return `is still ${record.status}`;
    const { status, details, stopReason, result, attempt } = record;
    if (kind === 'process') {
      const expected = exit === 0 ? 'completed' : 'failed';
      return status === expected && details.exitCode === exit ? undefined : `is ${status}, exit ${details.exitCode}`;
    }
    if (status !== 'completed') return `is ${status}: ${stopReason}`;
    if (result.attempt !== attempt) return `is at attempt ${attempt}, and attempt ${result.attempt} returned`;
    // One more for each that was cut off, and none for what was still queued.
    const expected = 1 + (this.#cutAttempts.get(id)?.size ?? 0);
    return attempt === expected ? undefined : `is at attempt ${attempt}, not ${expected}`;
  }
}

/** A line for each beginning of work (`<id>`, or `<id>#<attempt>` where it may be begun again), and how many were at work at once. */
function readFloor(path: string): { readonly begun: readonly string[]; readonly most: ReadonlyMap<string, number> } {
  const begun: string[] = [];
  const most = new Map<string, number>();
  const present = new Map<string, string>();
  for (const line of readLines(path)) {
    const [sign, group = '', id = '', attempt] = line.split(' ');
    if (sign === '+') {
      begun.push(attempt === undefined ? id : `${id}#${attempt}`);
      present.set(id, group);
    } else if (sign === '-') present.delete(id);
    // A host ended, and with it what lived there.
    else for (const one of present.keys()) if (one.endsWith('worker')) present.delete(one);
    const groups = [...present.values()];
    for (const line of ['all', ...GROUPS]) {
      const count = line === 'all' ? groups.length : groups.filter((one) => one === line).length;
      most.set(line, Math.max(count, most.get(line) ?? 0));
    }
  }
  return { begun, most };
}
