/*
 * The parts of a manager, each made of parts that are there: what a part needs is given to its constructor, and nothing is filled in later.
 * Tasks come last. They know what they share and who observes them; the parts are given tasks, and none of them before `load`.
 */
import type { Clock } from '../clock.js';
import { Outbox } from '../hooks/outbox.js';
import type { OutboxPort } from '../hooks/port.js';
import type { DeliveryEntry } from '../hooks/types.js';
import type { Settings } from '../options.js';
import { createProcessKind, type ProcessSupport } from '../process/process-kind.js';
import type { TaskStore } from '../store/contract.js';
import { detailsFit, type KindRuntime, runtimeOf } from '../task/kind-runtime.js';
import { isOrphanedLegacy } from '../task/orphan.js';
import { isSupported, type TaskRecord } from '../task/record.js';
import { isTerminalStatus } from '../task/status.js';
import type { HookState } from '../task/types.js';
import { Slices, sortInSlices } from '../util/slices.js';
import type { Lifetime } from './lifetime.js';
import type { News } from './news.js';
import { Observer } from './observer.js';
import { Queue } from './queue.js';
import { Reconciler } from './reconciler.js';
import { Registration } from './registration.js';
import { isPrunable, Retention } from './retention.js';
import { Slots } from './slots.js';
import type { ManagerStatus } from './status.js';
import { TaskTable } from './table.js';
import type { Surroundings } from './task/subject.js';
import { Task } from './task/task.js';
import type { Waits } from './waits.js';
import { functionKind } from './work/function-kind.js';

/** What the parts are made of. */
export interface Foundation {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly store: TaskStore;
  readonly news: News;
  readonly waits: Waits;
  readonly lifetime: Lifetime;
}

export class Parts {
  readonly shared: Surroundings;
  readonly lifetime: Lifetime;
  readonly waits: Waits;
  readonly table = new TaskTable<Task>();
  readonly queue: Queue;
  readonly processes: ProcessSupport;
  readonly retention: Retention;
  readonly outbox: Outbox;
  readonly reconciler: Reconciler;
  readonly registration: Registration;
  readonly #observer: Observer;
  readonly #kinds: ReadonlyMap<string, KindRuntime>;
  readonly #unavailableIds = new Set<string>();

  constructor({ settings, clock, store, news, waits, lifetime }: Foundation) {
    const { table } = this;
    const slots = new Slots(settings.maxRunningTasks, settings.maxRunningTasksPerGroup);
    this.waits = waits;
    this.lifetime = lifetime;
    this.queue = new Queue(slots, lifetime, news);
    this.processes = createProcessKind({
      files: store,
      owner: store.owner,
      clock,
      onHint: (taskId) => table.get(taskId)?.hint(),
      onHintAll: () => {
        for (const task of table.allActive()) task.hint();
      },
      onError: (error) => news.report(error),
      recoverProcess: settings.recoverProcess,
    });
    const builtIn = [this.processes.kind, functionKind].map((kind) => runtimeOf(kind)!);
    this.#kinds = new Map([...builtIn, ...settings.kinds].map((kind) => [kind.name, kind]));
    this.shared = { settings, clock, store, lifetime, news, slots, queue: this.queue };
    this.retention = new Retention(table, clock, settings.retention, lifetime);
    this.outbox = new Outbox(outboxPort(this.shared, table, this.retention), settings.hooks);
    const { queue, retention, outbox } = this;
    this.reconciler = new Reconciler({ settings, clock, store, lifetime, news, table, queue, retention });
    const { reconciler } = this;
    this.#observer = new Observer({ table, waits, retention, outbox, reconciler, lifetime });
    this.registration = new Registration({
      shared: this.shared,
      observer: this.#observer,
      table,
      waits,
      outbox,
      kinds: this.#kinds,
      unavailableIds: this.#unavailableIds,
    });
  }

  /** Reads what is on disk. What was active belongs to a dead owner until the first pass has looked at it. */
  async load(): Promise<void> {
    const { store, news, clock } = this.shared;
    const { records, rejected, unavailableIds } = await store.load();
    for (const one of rejected) news.emit('record:rejected', one);
    for (const id of unavailableIds) this.#unavailableIds.add(id);
    const slices = new Slices(clock);
    for (const record of await sortInSlices(records, oldestFirst, slices)) {
      this.#load(record);
      await slices.pause();
    }
    await this.retention.load(slices);
  }

  /** How the manager stands. */
  status(): ManagerStatus {
    const { slots, store } = this.shared;
    return {
      ...this.table.counts(),
      slots: { used: slots.used, limit: slots.limit },
      lastReconcile: this.reconciler.last,
      owner: store.owner,
    };
  }

  /** The deliveries of ended tasks. */
  listDeliveries(filter: { state?: HookState | undefined; name?: string | undefined }): readonly DeliveryEntry<any>[] {
    const { table, outbox } = this;
    const records = function* (tasks: Iterable<Task>) {
      for (const task of tasks) if (!task.isActive) yield task.view;
    };
    // An inbox is asked often: what it is owed must not cost a walk over all tasks ever.
    const few = filter.state === 'pending' || filter.state === 'failed';
    return outbox.list(records(few ? table.owing() : table.all()), filter);
  }

  #load(record: TaskRecord): void {
    const kind = this.#kinds.get(record.kind);
    const managed = kind && isSupported(record) && detailsFit(kind, record) ? kind : undefined;
    const task = new Task(this.shared, this.#observer, record, this.table.nextSeq(), managed);
    this.table.put(task);
    if (!task.isActive) this.outbox.offer(record);
    else if (managed || isOrphanedLegacy(record)) task.orphan();
  }
}

function outboxPort({ clock, news, lifetime }: Surroundings, table: TaskTable<Task>, retention: Retention): OutboxPort {
  return {
    clock,
    get: (taskId) => table.get(taskId)?.view,
    deliveries: (taskId) => table.get(taskId)?.deliveries ?? new Map(),
    owing: function* () {
      for (const { view } of table.owing()) yield view;
    },
    change: async (taskId, next) => {
      const record = await table.expect(taskId).post({ is: 'delivered', next });
      // Its last debt may have been what kept it.
      if (isTerminalStatus(record.status) && isPrunable(record)) lifetime.inBackground(retention.enforce(), taskId);
      return record;
    },
    emit: (event, payload) => news.emit(event, payload as never),
    report: (error) => news.report(error, error.taskId),
    readOutput: (taskId, options) => table.expect(taskId).output.read(options),
  };
}

function oldestFirst(a: TaskRecord, b: TaskRecord): number {
  return a.createdAt - b.createdAt || (a.taskId < b.taskId ? -1 : 1);
}
