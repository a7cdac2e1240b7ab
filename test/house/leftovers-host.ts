/*
 * A host whose tasks come and go, and what is left of them: a process of its own, because whatever else looks at it (a debugger, a checker of
 * leaks) keeps traces that keep objects. Objects are counted in the heap, after a full collection. Prints what it found as JSON, and ends by
 * itself.
 */
import { getEventListeners, setMaxListeners } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { queryObjects } from 'node:v8';
import { type Clock, systemClock } from '../../src/clock.js';
import { EventHub } from '../../src/events.js';
import { DeliveryJob } from '../../src/hooks/delivery-job.js';
import type { BackgroundTaskManager } from '../../src/index.js';
import { Parts } from '../../src/lifecycle/parts.js';
import { CallerSignal } from '../../src/lifecycle/task/caller.js';
import { StopCampaign } from '../../src/lifecycle/task/campaign.js';
import { Deadline } from '../../src/lifecycle/task/deadline.js';
import { Holdings } from '../../src/lifecycle/task/holdings.js';
import { Launching } from '../../src/lifecycle/task/launching.js';
import { Ledger } from '../../src/lifecycle/task/ledger.js';
import { Looks } from '../../src/lifecycle/task/looks.js';
import { Memory } from '../../src/lifecycle/task/memory.js';
import { ProgressWrites } from '../../src/lifecycle/task/progress.js';
import { Task } from '../../src/lifecycle/task/task.js';
import { FunctionWork } from '../../src/lifecycle/work/function-work.js';
import { KindWork } from '../../src/lifecycle/work/kind-work.js';
import { Questions } from '../../src/lifecycle/work/questions.js';
import { openWith } from '../../src/manager.js';
import { OutputLog } from '../../src/output/append.js';
import { Ceiling } from '../../src/process/ceiling.js';
import { ProcessHost } from '../../src/process/process-host.js';
import { ProcessWork } from '../../src/process/process-work.js';
import { FileStore } from '../../src/store/file-store.js';

/** What a task has while it is active. */
const ofActiveTasks = [
  ...[Holdings, Looks, Deadline, StopCampaign, CallerSignal, ProgressWrites, Launching],
  ...[FunctionWork, Questions, OutputLog, KindWork, ProcessWork, Ceiling, DeliveryJob],
];
/** What a task is. */
const ofTasks = [Task, Ledger, Memory];
const ofManagers = [Parts, ProcessHost, FileStore, EventHub];

type Class = abstract new (...args: any[]) => unknown;

/** How many objects of each of these classes are alive, where there are any. */
function alive(classes: readonly Class[]): Record<string, number> {
  const counted = classes.map((one): [string, number] => [one.name, queryObjects(one as never, { format: 'count' })]);
  return Object.fromEntries(counted.filter(([, count]) => count > 0));
}

/** The system's clock, and how many of its timers are armed. */
class CountingClock implements Clock {
  armed = 0;
  readonly now = systemClock.now;
  readonly monotonic = systemClock.monotonic;

  after(delayMs: number, fire: () => void) {
    let isArmed = true;
    const over = () => {
      if (isArmed) this.armed--;
      isArmed = false;
    };
    this.armed++;
    const timer = systemClock.after(delayMs, () => {
      over();
      fire();
    });
    return {
      clear: () => {
        over();
        timer.clear();
      },
    };
  }
}

/** Watchers, children, servers and sockets; timers are those of the clock. */
function handles(): string[] {
  return process
    .getActiveResourcesInfo()
    .filter((type) => /wrap|event|watcher|process/i.test(type))
    .sort();
}

const untilAborted = ({ signal }: { signal: AbortSignal }) =>
  new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
  });

type Manager = BackgroundTaskManager<never>;
type Spec = Parameters<Manager['registerTask']>[0];

/** A task of each sort that differs in what it leaves: `index` chooses. */
function specOf(index: number, signal: AbortSignal): Record<string, unknown> {
  const base = { kind: 'function', description: `task ${index}`, hooks: [] };
  const sorts: Record<string, unknown>[] = [
    { run: () => index },
    { run: () => Promise.reject(new Error('no')), hooks: ['told', 'inbox'] },
    {
      run: ({ reportProgress }: any) => reportProgress({ current: index }),
      timeoutMs: 600_000,
      group: `g${index % 7}`,
    },
    { run: untilAborted, metadata: { stop: true }, hooks: ['told'] },
    { run: untilAborted, timeoutMs: 5 },
    { run: untilAborted, detached: false, signal, metadata: { stop: true } },
    { run: ({ appendOutput }: any) => appendOutput('x'), detached: false, signal, timeoutMs: 600_000 },
    { run: ({ requestInput }: any) => requestInput('go on?'), metadata: { ask: true }, idempotencyKey: `key ${index}` },
    { run: untilAborted, metadata: { detach: true, stop: true }, detached: false, signal, detachTimeoutMs: 600_000 },
    { run: () => index, queueTimeoutMs: 600_000, ttlMs: 600_000 },
  ];
  return { ...base, ...sorts[index % sorts.length] };
}

const processes: Record<string, unknown>[] = [
  { command: 'exit 3', hooks: ['told'] },
  { command: 'sleep 600', metadata: { stop: true }, maxOutputBytes: 1_000 },
  { command: 'sleep 600', timeoutMs: 50 },
  { command: 'echo done', detached: false, timeoutMs: 600_000 },
  { command: 'kill -9 $$' },
];

/** Registers so many tasks and has each come to its end, with its deliveries. */
async function runTasks(manager: Manager, count: number, signal: AbortSignal): Promise<void> {
  const off = manager.on('task:started', ({ task }) => {
    if (task.metadata.detach) void manager.detachTask(task);
    if (task.metadata.stop) void manager.stopTask(task, { reason: 'enough', graceMs: 50 });
  });
  const answer = manager.on('task:waiting', ({ task }) => void manager.provideInput(task, 'yes'));
  const specs = [
    ...processes.map((spec) => ({ kind: 'process', description: 'a command', hooks: [], ...spec })),
    ...Array.from({ length: count - processes.length }, (_, index) => specOf(index, signal)),
  ];
  const ids = await Promise.all(specs.map((spec) => manager.registerTask(spec as unknown as Spec))).then((tasks) =>
    tasks.map(({ taskId }) => taskId),
  );
  const patient = ids.slice(0, 50).map((taskId) => manager.waitForTask(taskId, { timeoutMs: 600_000, signal }));
  await Promise.all([...patient, manager.waitForIdle({ signal })]);
  off();
  answer();
  for (const { taskId, hook } of manager.listDeliveries({ name: 'inbox' })) await manager.acknowledge(taskId, hook);
  while (manager.listDeliveries({ state: 'pending' }).length > 0) await setImmediate();
}

async function openCounted(directory: string, clock: Clock): Promise<Manager> {
  const told = {
    deliver: (_task: unknown, { attempt }: { attempt: number }) => {
      if (attempt === 1) throw new Error('later');
    },
    minDelayMs: 1,
    maxDelayMs: 2,
  };
  const options = {
    directory,
    fsync: false,
    maxRunningTasks: 100,
    whenFull: 'queue' as const,
    retention: { maxForegroundTasks: 1_000 },
    hooks: { told, inbox: 'pull' as const },
  };
  return openWith(options, clock);
}

/** What there is of tasks now. */
function standing(manager: Manager, clock: CountingClock, signal: AbortSignal) {
  const { running, queued, waiting, terminal, slots } = manager.status();
  return {
    status: { active: running + queued + waiting, terminal, slots: slots.used },
    tasks: alive(ofTasks),
    listeners: getEventListeners(signal, 'abort').length,
    timers: clock.armed,
    handles: handles(),
  };
}

/** Whatever outlives the tasks of a manager ends with this function. */
async function life(directory: string, count: number) {
  const clock = new CountingClock();
  const { signal } = new AbortController();
  setMaxListeners(0, signal);
  const manager = await openCounted(directory, clock);
  const now = async () => {
    await manager.reconcile();
    return standing(manager, clock, signal);
  };
  const opened = await now();
  await runTasks(manager, count, signal);
  const statuses = new Set(manager.listTasks({ includeForeground: true }).map(({ status }) => status));
  const ended = { ...(await now()), held: alive(ofActiveTasks) };
  const pruned = (await manager.pruneTasks()).length;
  const afterwards = await now();
  await runTasks(manager, count / 10, signal);
  await manager.close();
  const closed = { listeners: getEventListeners(signal, 'abort').length, timers: clock.armed };
  return { statuses: [...statuses].sort(), opened, ended, pruned, afterwards, closed };
}

const [directory = '', count] = process.argv.slice(2);
// The host's own pipes are made when they are first used.
process.stdout.write('');
process.stderr.write('');
const before = handles();
const found = await life(directory, Number(count));
await setImmediate();
const left = { objects: alive([Task, Holdings, ...ofManagers]), handles: handles() };
process.stdout.write(JSON.stringify({ ...found, before, left }));
