/*
 * A manager under random commands, through kills and restarts, and what must hold all the while: the state machine is never violated, slots
 * add up, and every event finds the record that it tells of on disk.
 */
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { BackgroundTaskError, BackgroundTaskManager, JsonValue, TaskStatus } from '../../src/index.js';
import { openWith } from '../../src/manager.js';
import type { TaskRecord } from '../../src/task/record.js';
import { FakeClock } from './clock.js';
import { until } from './wait.js';
import { copyNow, jobKind, World } from './world.js';

export type Command =
  | {
      readonly do: 'register';
      readonly kind: 'function' | 'job';
      readonly detached: boolean;
      readonly timeoutMs: number;
      readonly detachOnTimeout: boolean;
      readonly detachTimeoutMs: number | undefined;
      readonly queueTimeoutMs: number;
      readonly group: string | undefined;
      readonly key: string | undefined;
      readonly hooks: readonly string[] | undefined;
      readonly whenFull: 'reject' | 'queue';
      readonly stubborn: boolean;
    }
  | { readonly do: 'end'; readonly at: number; readonly how: 'completed' | 'failed' | 'gone' }
  | { readonly do: 'ask' | 'input' | 'detach' | 'acknowledge'; readonly at: number }
  | { readonly do: 'stop'; readonly at: number; readonly skipHooks: boolean }
  | { readonly do: 'stopAll' | 'reconcile' | 'kill' | 'restart' | 'answered' | 'rest' }
  | { readonly do: 'advance'; readonly ms: number }
  | { readonly do: 'prune'; readonly keep: number }
  | { readonly do: 'pause'; readonly turns: number };

const LIMIT = 3;
const GROUP_LIMIT = 2;

const terminal: readonly TaskStatus[] = ['completed', 'failed', 'timed_out', 'killed', 'lost'];
const steps: Record<TaskStatus, readonly TaskStatus[]> = {
  queued: ['running', 'failed', 'killed', 'timed_out', 'lost'],
  // Back to the queue only where nothing began: see #begun.
  running: ['waiting', 'queued', ...terminal],
  waiting: ['running', ...terminal],
  completed: [],
  failed: [],
  timed_out: [],
  killed: [],
  lost: [],
};
/** What a stop makes of the end of work. */
const verdicts = {
  none: ['completed', 'failed', 'lost'],
  user: ['completed', 'killed'],
  shutdown: ['completed', 'killed'],
  deadline: ['timed_out'],
  output_limit: ['killed'],
} as const;

const isTerminal = (status: TaskStatus) => terminal.includes(status);
const isOwed = ({ hooks }: TaskRecord) =>
  Object.values(hooks).some(({ state }) => state === 'pending' || state === 'failed');

function reachable(from: TaskStatus, to: TaskStatus): boolean {
  const seen = new Set<TaskStatus>([from]);
  for (const status of seen) for (const next of steps[status]) seen.add(next);
  return seen.has(to);
}

/** In-process work, as the test steers it. */
interface Steering {
  end(how: 'completed' | 'failed' | 'gone'): void;
  ask(): void;
}

/** One life of the host: from its start to its kill or its close. */
class Life {
  readonly directory: string;
  readonly world: World;
  readonly steering = new Map<string, Steering>();
  manager!: BackgroundTaskManager<ReturnType<typeof jobKind>>;
  /** Events of the first pass are heard late: their records may have moved on. */
  settled = false;
  /** Calls under way may be told so. */
  closing = false;
  over = false;
  inFlight: Promise<unknown>[] = [];

  constructor(directory: string, world: World) {
    this.directory = directory;
    this.world = world;
  }

  records(): Map<string, TaskRecord> {
    const names = readdirSync(this.directory).filter((name) => name.endsWith('.json'));
    // What a prune removes meanwhile is gone.
    return new Map(
      names.flatMap((name) => {
        const record = readIfThere(join(this.directory, name));
        return record ? [[name.slice(0, -5), record]] : [];
      }),
    );
  }

  record(taskId: string): TaskRecord | undefined {
    return this.records().get(taskId);
  }
}

function readIfThere(path: string): TaskRecord | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

export class Lives {
  readonly #root: string;
  readonly #tally: Map<string, number>;
  readonly #clock = new FakeClock();
  readonly #problems: string[] = [];
  /** The last that was heard or found of each task, in all lives. */
  readonly #known = new Map<string, TaskRecord>();
  /** Work of these was seen to run. */
  readonly #begun = new Set<string>();
  readonly #settledOnce = new Set<string>();
  readonly #closing: Promise<unknown>[] = [];
  #lives = 0;
  #tasks = 0;
  #life!: Life;

  /** `tally` counts what was heard, so that a test can tell that it tested something. */
  constructor(root: string, tally: Map<string, number>) {
    this.#root = root;
    this.#tally = tally;
  }

  #count(what: string): void {
    this.#tally.set(what, (this.#tally.get(what) ?? 0) + 1);
  }

  /** Carries the commands out and throws with every broken promise. */
  async run(commands: readonly Command[]): Promise<void> {
    try {
      await this.#begin(new Life(this.#nextDirectory(), this.#newWorld()));
      for (const command of commands) {
        await this.#obey(command);
        this.#throwProblems();
      }
      await this.#rest();
      await this.#restart();
      await this.#rest();
      this.#throwProblems();
    } finally {
      this.#closing.push(this.#life.manager.close({ tasks: 'stop', graceMs: 0 }));
      await Promise.allSettled(this.#closing);
      await rm(this.#root, { recursive: true, force: true });
    }
  }

  #throwProblems(): void {
    if (this.#problems.length > 0) throw new Error(this.#problems.join('\n'));
  }

  #nextDirectory(): string {
    const directory = join(this.#root, `life-${this.#lives++}`);
    mkdirSync(directory, { recursive: true });
    return directory;
  }

  #newWorld(): World {
    const world = new World();
    world.onStop = (job, how) => {
      if (how === 'kill') job.probe = { state: 'gone' };
    };
    return world;
  }

  async #begin(life: Life): Promise<void> {
    this.#life = life;
    life.manager = await openWith(
      {
        directory: life.directory,
        fsync: false,
        reconcileIntervalMs: 0,
        stopGraceMs: 0,
        maxRunningTasks: LIMIT,
        maxRunningTasksPerGroup: GROUP_LIMIT,
        // By turns: what one host registered, the next one must count as that one did.
        countsTowardsLimit: this.#lives % 2 === 0 ? 'detached' : 'registered-detached',
        kinds: [jobKind(life.world)],
        hooks: { inbox: 'pull' },
      },
      this.#clock,
    );
    let passed = false;
    life.manager.on('*', (event, payload) => {
      if (event === 'manager:reconciled') passed = true;
      else if (!life.over) this.#hear(life, event, payload as never);
    });
    await until(() => passed, { message: 'the events of the first pass' });
    await turn();
    life.settled = true;
  }

  // ── commands ────────────────────────────────────────────────────────

  async #obey(command: Command): Promise<void> {
    const { manager } = this.#life;
    switch (command.do) {
      case 'register':
        return this.#register(command);
      case 'end':
        return this.#withActive(command.at, (task) => this.#end(task, command.how));
      case 'ask':
        return this.#withActive(command.at, (task) => this.#ask(task));
      case 'input':
        return this.#withActive(
          command.at,
          (task) => this.#expect(manager.provideInput(task.taskId, 'yes'), ['TASK_NOT_WAITING']),
          { status: 'waiting' },
        );
      case 'detach':
        return this.#withActive(command.at, (task) => this.#expect(manager.detachTask(task.taskId)), {
          detached: false,
        });
      case 'acknowledge':
        return this.#acknowledge(command.at);
      case 'stop':
        return this.#withActive(command.at, (task) =>
          this.#expect(manager.stopTask(task.taskId, { reason: 'why not', skipHooks: command.skipHooks })),
        );
      case 'stopAll':
        return this.#expect(manager.stopAll());
      case 'reconcile':
        return this.#expect(manager.reconcile());
      case 'prune':
        return this.#expect(manager.pruneTasks({ keep: command.keep }));
      case 'advance':
        return this.#clock.advance(command.ms);
      case 'pause':
        for (let n = 0; n < command.turns; n++) await turn();
        return;
      case 'answered':
        await Promise.all(this.#life.inFlight.splice(0));
        return;
      case 'rest':
        return this.#rest();
      case 'restart':
        return this.#restart();
      case 'kill':
        return this.#kill();
    }
  }

  /** Nobody waits for it now; what it must not throw is a problem. */
  #expect(call: Promise<unknown>, allowed: readonly string[] = []): void {
    const life = this.#life;
    const watched = call.catch((error) => {
      if (life.closing && error.code === 'MANAGER_CLOSED') return;
      if (!life.over && !allowed.includes(error.code)) this.#problems.push(`unexpected: ${error.code} ${error.stack}`);
    });
    life.inFlight.push(watched);
  }

  #register(command: Extract<Command, { do: 'register' }>): void {
    const { do: _, kind, key, stubborn, detachOnTimeout, detachTimeoutMs, ...common } = command;
    const life = this.#life;
    const taskId = `t${this.#tasks++}`;
    // What would have no effect is refused.
    const ofForeground = common.detached
      ? {}
      : { detachOnTimeout: detachOnTimeout && common.timeoutMs > 0, detachTimeoutMs };
    const spec = { ...common, ...ofForeground, taskId, description: 'work', idempotencyKey: key };
    const run = ({ signal, requestInput }: { signal: AbortSignal; requestInput(prompt: string): Promise<JsonValue> }) =>
      new Promise<string>((resolve, reject) => {
        if (!stubborn) signal.addEventListener('abort', () => reject(signal.reason));
        life.steering.set(taskId, {
          end: (how) => (how === 'completed' ? resolve('done') : reject(new Error(how))),
          ask: () => void requestInput('what now?').catch(() => undefined), // a stop ends it
        });
      });
    const registered =
      kind === 'function'
        ? life.manager.registerTask({ kind: 'function', ...spec, run })
        : life.manager.registerTask({ kind: 'job', ...spec, details: { place: 'here' } });
    const acknowledged = registered.then((task) => {
      // By an idempotency key a task may be given that has ended, and is being pruned.
      if (life.over || isTerminal(task.status) || life.record(task.taskId)) return;
      if (life.manager.getTask(task.taskId)) this.#problems.push(`${task.taskId} was acknowledged and is not on disk`);
    });
    this.#expect(acknowledged, ['CAPACITY_EXCEEDED', 'IDEMPOTENCY_CONFLICT']);
  }

  #withActive(
    at: number,
    act: (task: { taskId: string; kind: unknown }) => void,
    { status, detached }: { status?: TaskStatus; detached?: boolean } = {},
  ): void {
    const active = this.#life.manager
      .listTasks({ active: true, includeForeground: true, status })
      .filter((task) => detached === undefined || task.detached === detached);
    if (active.length > 0) act(active[at % active.length]!);
  }

  #acknowledge(at: number): void {
    const owed = this.#life.manager.listDeliveries({ state: 'pending' });
    if (owed.length === 0) return;
    this.#expect(this.#life.manager.acknowledge(owed[at % owed.length]!.taskId, 'inbox'), ['TASK_NOT_FOUND']);
  }

  #end({ taskId, kind }: { taskId: string; kind: unknown }, how: 'completed' | 'failed' | 'gone'): void {
    if (kind === 'function') this.#life.steering.get(taskId)?.end(how);
    if (!this.#life.world.jobs.has(taskId)) return;
    const error = { name: 'Error', message: 'no' };
    this.#life.world.job(taskId).probe = how === 'failed' ? { state: 'failed', error } : { state: how };
  }

  #ask({ taskId, kind }: { taskId: string; kind: unknown }): void {
    if (kind === 'function') this.#life.steering.get(taskId)?.ask();
    const job = this.#life.world.jobs.get(taskId);
    if (job && !(job.probe instanceof Error) && job.probe.state === 'running') {
      job.probe = { state: 'waiting', prompt: 'what now?' };
    }
  }

  async #restart(): Promise<void> {
    const life = this.#life;
    life.closing = true;
    await life.manager.close({ graceMs: 0 });
    await Promise.all(life.inFlight);
    life.over = true;
    this.#sync(life, 'after a close');
    await this.#begin(new Life(life.directory, life.world));
  }

  /** From one turn to the next the host is gone. What outlives it lives on. */
  async #kill(): Promise<void> {
    const dead = this.#life;
    const life = new Life(this.#nextDirectory(), dead.world.fork());
    copyNow(dead.directory, life.directory);
    dead.over = true;
    this.#sync(life, 'after a kill');
    this.#closing.push(dead.manager.close({ tasks: 'stop', graceMs: 0 }));
    await this.#begin(life);
  }

  // ── what must hold ──────────────────────────────────────────────────

  #hear(life: Life, event: string, payload: { task?: TaskRecord; taskId?: string; error?: BackgroundTaskError }): void {
    if (event === 'error' && !(life.closing && payload.error?.code === 'MANAGER_CLOSED'))
      this.#problems.push(`error: ${payload.error?.stack}`);
    if (event === 'task:pruned') this.#hearPruned(life, payload.taskId!);
    if (event === 'hook:delivered') this.#known.set(payload.task!.taskId, payload.task!);
    if (!event.startsWith('task:') || !payload.task) return;
    this.#count(event);
    const { task } = payload;
    const complain = (what: string) => this.#problems.push(`${event} ${task.taskId}: ${what}`);
    const disk = life.record(task.taskId);
    if (!disk) complain('no record');
    else if (life.settled && !isDeepStrictEqual(disk, JSON.parse(JSON.stringify(task)))) {
      complain(`not what is on disk:\n  ${JSON.stringify(disk)}\n  ${JSON.stringify(task)}`);
    } else if (!reachable(task.status, disk.status)) complain(`${disk.status} on disk, told of ${task.status}`);
    this.#step(event, task, complain);
    this.#known.set(task.taskId, task);
  }

  #hearPruned(life: Life, taskId: string): void {
    this.#count('task:pruned');
    const known = this.#known.get(taskId);
    if (life.record(taskId)) this.#problems.push(`${taskId} was pruned and is on disk`);
    if (known && !isTerminal(known.status)) this.#problems.push(`${taskId} was pruned while ${known.status}`);
    if (known && isTerminal(known.status) && isOwed(known)) this.#problems.push(`${taskId} was pruned and owes`);
    this.#known.delete(taskId);
  }

  /** One event is one step of the state machine. */
  #step(event: string, task: TaskRecord, complain: (what: string) => void): void {
    const before = this.#known.get(task.taskId);
    const { status } = task;
    if (before && status !== before.status && !steps[before.status].includes(status)) {
      complain(`${before.status} → ${status}`);
    }
    if (before && isTerminal(before.status)) complain(`after it was ${before.status}`);
    if (before?.detached && !task.detached) complain('back in the foreground');
    if (before?.stop && !isDeepStrictEqual(before.stop, task.stop)) complain('another stop than the first');
    const expected: Record<string, boolean> = {
      // Again where a launch was given up between its record and its work: no event told of the record in between.
      'task:queued': status === 'queued' && !this.#begun.has(task.taskId),
      'task:started': status === 'running',
      'task:waiting': status === 'waiting' && task.waitingFor !== undefined,
      'task:resumed': before?.status === 'waiting' && status === 'running' && task.lastInput !== undefined,
      'task:detached': before?.detached === false && task.detached,
      'task:stopping': task.stop !== undefined,
      'task:adopted': task.detached && !isTerminal(status),
      'task:settled': isTerminal(status),
    };
    if (expected[event] === false) complain(`before: ${JSON.stringify(before)}, now: ${JSON.stringify(task)}`);
    if (event === 'task:started' || event === 'task:adopted') this.#begun.add(task.taskId);
    if (event === 'task:settled') this.#checkEnd(task, complain);
  }

  #checkEnd(task: TaskRecord, complain: (what: string) => void): void {
    if (this.#settledOnce.has(task.taskId)) complain('settled twice');
    this.#settledOnce.add(task.taskId);
    const cause = task.stop?.cause ?? 'none';
    this.#count(`${task.status} (${cause})`);
    if (!(verdicts[cause] as readonly TaskStatus[]).includes(task.status))
      complain(`${task.status} with ${cause} on record`);
    if (task.endedAt === null || task.endedAt < (task.startedAt ?? task.createdAt))
      complain(`ended at ${task.endedAt}`);
    if (task.waitingFor) complain('ended, and waits');
    if (!task.detached && isOwed(task)) complain('ended in the foreground, and owes');
  }

  /** What is on disk between two lives goes on from what was heard: nothing acknowledged is missing, nothing is undone. */
  #sync(life: Life, when: string): void {
    const records = life.records();
    for (const [taskId, known] of this.#known) {
      const record = records.get(taskId);
      if (!record && !isTerminal(known.status)) this.#problems.push(`${taskId} is missing ${when}`);
      if (record && !reachable(known.status, record.status)) {
        this.#problems.push(`${taskId} was ${known.status} and is ${record.status} ${when}`);
      }
      if (!record) this.#known.delete(taskId);
    }
    for (const [taskId, record] of records) {
      this.#known.set(taskId, record);
      if (isTerminal(record.status)) this.#settledOnce.add(taskId);
    }
    const keys = [...records.values()].flatMap(({ idempotencyKey }) => idempotencyKey ?? []);
    if (new Set(keys).size !== keys.length) this.#problems.push(`a key on two records ${when}: ${keys}`);
  }

  /** Waits until nothing is on its way any more: a free slot must find its task without a reconcile, too. */
  async #rest(): Promise<void> {
    await Promise.all(this.#life.inFlight.splice(0));
    await this.#restful();
    await this.#life.manager.reconcile();
    await this.#restful();
  }

  async #restful(): Promise<void> {
    const life = this.#life;
    let unrest: string | undefined;
    const atRest = () => {
      unrest = this.#unrest(life);
      return unrest === undefined || this.#problems.length > 0;
    };
    await until(atRest, { message: () => `rest: ${unrest}` });
  }

  /** Why the manager is not at rest, or not as it should be there. */
  #unrest({ manager, directory }: Life): string | undefined {
    const tasks = manager.listTasks({ includeForeground: true }) as unknown as readonly TaskRecord[];
    const onDisk = this.#life.records();
    if (onDisk.size !== tasks.length) return `${tasks.length} tasks, ${onDisk.size} records in ${directory}`;
    for (const task of tasks) {
      if (!isDeepStrictEqual(onDisk.get(task.taskId), JSON.parse(JSON.stringify(task))))
        return `${task.taskId} is not as on disk`;
      if (!isTerminal(task.status) && task.stop) return `${task.taskId} is being stopped`;
      const known = this.#known.get(task.taskId);
      if (!known || known.status !== task.status)
        return `${task.taskId} is ${task.status}, heard of as ${known?.status}`;
    }
    return this.#slotsAstray(tasks, manager.status());
  }

  #slotsAstray(
    tasks: readonly TaskRecord[],
    status: { slots: { used: number } } & Record<'running' | 'queued' | 'waiting' | 'terminal', number>,
  ) {
    const count = (matches: (task: TaskRecord) => boolean) => tasks.filter(matches).length;
    const holds = ({ detached, takesNoSlot, status }: TaskRecord) =>
      detached && !takesNoSlot && (status === 'running' || status === 'waiting');
    if (status.slots.used !== count(holds)) return `${status.slots.used} slots used by ${count(holds)} tasks`;
    for (const name of ['running', 'queued', 'waiting'] as const) {
      if (status[name] !== count((task) => task.status === name)) return `${status[name]} ${name}`;
    }
    if (status.terminal !== count((task) => isTerminal(task.status))) return `${status.terminal} terminal`;
    for (const { group, taskId, takesNoSlot } of tasks.filter((task) => task.status === 'queued')) {
      const full =
        count(holds) >= LIMIT || (group && count((task) => holds(task) && task.group === group) >= GROUP_LIMIT);
      if (!full || takesNoSlot) return `${taskId} is queued, though there is a slot`;
    }
    return undefined;
  }
}
