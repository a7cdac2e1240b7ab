/*
 * Puts the parts of the lifecycle together, and says what happens between them: what a settlement sets free, what a hint looks at, what a
 * deadline does, how everything ends when the manager closes or another one takes the directory over.
 */
import type { Timer } from '../clock.js';
import type { BackgroundTaskError } from '../errors.js';
import { Outbox } from '../hooks/outbox.js';
import { createProcessKind, type ProcessSupport } from '../process/process-kind.js';
import { detailsFit, type KindRuntime, runtimeOf } from '../task/kind.js';
import { isOrphanedLegacy } from '../task/orphan.js';
import { isSupported, type TaskRecord } from '../task/record.js';
import { isTerminalStatus } from '../task/status.js';
import { Slices, sortInSlices } from '../util/slices.js';
import { Slots } from './capacity.js';
import { type Core, isOver, toTaskError } from './core.js';
import { Deadlines } from './deadlines.js';
import { Entry } from './entry.js';
import { Foreground } from './foreground.js';
import { functionKind } from './function-kind.js';
import { Launcher } from './launch.js';
import { Looker } from './look.js';
import { ProgressReports } from './progress.js';
import { Queue } from './queue.js';
import { Reconciler } from './reconciler.js';
import { Recovery } from './recovery.js';
import { Registration } from './registration.js';
import { isPrunable, Retention } from './retention.js';
import { Settlement } from './settlement.js';
import { Stopping } from './stopping.js';

/** After a hint that found the work still there. */
const SECOND_LOOKS_MS = [100, 1_000];

export class Engine {
  readonly core: Core;
  readonly slots: Slots;
  readonly outbox: Outbox;
  readonly settlement: Settlement;
  readonly looker: Looker;
  readonly stopping: Stopping;
  readonly foreground: Foreground;
  readonly registration: Registration;
  readonly reconciler: Reconciler;
  readonly retention: Retention;
  readonly queue: Queue;
  readonly #kinds: ReadonlyMap<string, KindRuntime>;
  readonly #processes: ProcessSupport;
  readonly #deadlines: Deadlines;
  readonly #progress: ProgressReports;
  readonly #launcher: Launcher;
  readonly #unavailableIds = new Set<string>();
  readonly #secondLooks = new Map<Entry, Timer>();
  #silent = false;
  /** Work that goes on beside the calls and must be over before the directory is given up. */
  readonly #background = new Set<Promise<unknown>>();

  constructor(core: Core) {
    this.core = core;
    const { settings, clock, store } = core;
    this.#processes = createProcessKind({
      files: store,
      owner: store.owner,
      clock,
      onHint: (taskId) => this.#hint(taskId),
      onOutputLimit: (taskId) => this.#outputLimit(taskId),
      onError: (error, taskId) => core.report(error, taskId),
      recoverProcess: settings.recoverProcess,
    });
    const builtIn = [this.#processes.kind, functionKind].map((kind) => runtimeOf(kind)!);
    this.#kinds = new Map([...builtIn, ...settings.kinds].map((kind) => [kind.name, kind]));
    this.slots = new Slots(settings.maxRunningTasks, settings.maxRunningTasksPerGroup, () => this.queue.drain());
    this.#deadlines = new Deadlines(clock, (entry) => this.#expired(entry));
    this.#progress = new ProgressReports(core);
    this.settlement = new Settlement(core, (entry) => this.#settled(entry));
    this.#launcher = new Launcher(core, this.settlement, this.#deadlines, this.#progress, (entry) =>
      this.looker.hint(entry),
    );
    this.queue = new Queue(core, this.slots, this.#launcher);
    const recovery = new Recovery(core, {
      slots: this.slots,
      deadlines: this.#deadlines,
      launcher: this.#launcher,
      queue: this.queue,
      progress: this.#progress,
    });
    this.looker = new Looker(core, this.settlement, recovery);
    this.stopping = new Stopping(core, this.looker, this.settlement, this.queue, this.#deadlines);
    this.foreground = new Foreground(core, this.slots, this.#deadlines, (entry) => this.looker.lookNow(entry));
    this.retention = new Retention(core, () => this.#inBackground(this.retention.enforce()));
    this.outbox = this.#createOutbox();
    this.reconciler = new Reconciler(core, {
      candidates: () => this.#candidates(),
      look: (entry) =>
        this.looker.look(entry).finally(() => {
          // Also where the look failed, or what it found could not be written: a stop and a deadline are carried out all the same.
          this.#deadlines.check(entry);
          this.stopping.resume(entry);
        }),
      afterPass: () => {
        this.queue.retry();
        return this.retention.enforce();
      },
    });
    this.registration = new Registration(core, {
      kinds: this.#kinds,
      slots: this.slots,
      queue: this.queue,
      launcher: this.#launcher,
      deadlines: this.#deadlines,
      foreground: this.foreground,
      owe: (names) => this.outbox.owe(names),
      stopForCaller: (entry, reason) =>
        this.#inBackground(
          this.stopping.begin(entry, { cause: 'user', reason, isWanted: () => !entry.record.detached }),
          entry.taskId,
        ),
      onRegistered: () => this.reconciler.schedule(),
      unavailableIds: this.#unavailableIds,
    });
  }

  #createOutbox(): Outbox {
    const { core } = this;
    return new Outbox(
      {
        clock: core.clock,
        get: (taskId) => core.table.get(taskId)?.view,
        change: async (taskId, next) => {
          const record = await core.ledger.change(core.table.expect(taskId), next);
          // Its last debt may have been what kept it.
          if (isTerminalStatus(record.status) && isPrunable(record))
            this.#inBackground(this.retention.enforce(), taskId);
          return record;
        },
        emit: (event, payload) => core.emit(event, payload as never),
        report: (error) => core.report(error, error.taskId),
        readOutput: (taskId, options) => core.store.output(taskId).read(options),
      },
      core.settings.hooks,
    );
  }

  /** Reads what is on disk. What was active belongs to a dead owner until the first pass has looked at it. */
  async load(): Promise<void> {
    const { records, rejected, unavailableIds } = await this.core.store.load();
    for (const one of rejected) this.core.emit('record:rejected', one);
    for (const id of unavailableIds) this.#unavailableIds.add(id);
    const slices = new Slices(this.core.clock);
    for (const record of await sortInSlices(records, oldestFirst, slices)) {
      this.#adoptRecord(record);
      await slices.pause();
    }
    await this.retention.load(slices);
  }

  #adoptRecord(record: TaskRecord): void {
    const kind = this.#kinds.get(record.kind);
    const managed = kind && isSupported(record) && detailsFit(kind, record) ? kind : undefined;
    const entry = new Entry(record, this.core.table.nextSeq(), managed);
    this.core.table.add(entry);
    if (!entry.active) {
      this.outbox.offer(record);
      return;
    }
    entry.orphaned = managed !== undefined || isOrphanedLegacy(record);
    if (managed && record.detached && record.status !== 'queued') entry.slot = this.slots.take(record.group);
  }

  /** Tasks whose outcome is known and not on disk. */
  unsettled(): Entry[] {
    return [...this.core.table.allActive()].filter((entry) => entry.outcome);
  }

  /** Ends everything that has no reason to outlive this manager. `error` is what pending waits are told. */
  async shutDown(error: BackgroundTaskError): Promise<void> {
    this.#silence();
    this.core.waits.close(error);
    // What is left of in-process work may go on, and changes nothing any more.
    for (const { run, taskId } of this.core.table.allActive()) if (run) this.#inBackground(run.close(), taskId);
    // Who is frozen for its output gets its stop on record while that can be written; who cannot get one goes on.
    await this.#processes.quiesce();
    await Promise.allSettled([...this.#background]);
    await this.core.ledger.close(error);
    await this.#processes.dispose((taskId) => this.core.table.get(taskId)?.record.stop !== undefined);
  }

  /** Nothing new begins: no pass, no launch, no delivery. What is under way is awaited by whoever closes. */
  quiesce(graceMs: number): Readonly<Record<'passes' | 'launches' | 'deliveries', Promise<void>>> {
    this.#launcher.close();
    this.queue.close();
    this.reconciler.close();
    return {
      passes: this.reconciler.idle(),
      launches: this.queue.idle(),
      deliveries: this.outbox.close(graceMs),
    };
  }

  /** Another manager owns the directory now, and will judge our tasks: in-process work is told to end, and nothing is written. */
  fence(error: BackgroundTaskError): void {
    this.quiesce(0);
    this.#silence();
    for (const entry of this.core.table.allActive()) {
      entry.run?.abort({ cause: 'shutdown', reason: error.message, requestedAt: this.core.clock.now() });
      if (entry.run) this.#inBackground(entry.run.close(), entry.taskId);
    }
    this.core.waits.close(error);
    void this.core.ledger.close(error);
    // Whoever owns the directory now looks at the ceilings for itself.
    void this.#processes.dispose(() => false);
  }

  #silence(): void {
    this.#silent = true;
    for (const timer of this.#secondLooks.values()) timer.clear();
    this.#secondLooks.clear();
    this.stopping.close();
    this.#deadlines.clearAll();
    this.retention.close();
    this.#progress.forgetAll();
  }

  /** A generator, because asking whether there is any must not cost a walk over all. */
  *#candidates(): Generator<Entry> {
    for (const entry of this.core.table.allActive()) if (entry.kind !== undefined || entry.orphaned) yield entry;
  }

  #hint(taskId: string): void {
    const entry = this.core.table.get(taskId);
    if (entry?.active && entry.kind) void this.#lookSoon(entry, SECOND_LOOKS_MS);
  }

  /** What hinted may have come first: a supervisor that was killed with its command is seen to end while the command still does. */
  async #lookSoon(entry: Entry, pauses: readonly number[]): Promise<void> {
    const [pause, ...rest] = pauses;
    if (
      (await this.looker.hint(entry)) !== 'active' ||
      pause === undefined ||
      this.#secondLooks.has(entry) ||
      this.#silent
    )
      return;
    const look = () => {
      this.#secondLooks.delete(entry);
      void this.#lookSoon(entry, rest);
    };
    this.#secondLooks.set(entry, this.core.clock.after(pause, look));
  }

  #outputLimit(taskId: string): void {
    const entry = this.core.table.get(taskId);
    if (entry?.active) this.#inBackground(this.stopping.begin(entry, { cause: 'output_limit' }), taskId);
  }

  #expired(entry: Entry): void {
    const { detached, detachOnTimeout } = entry.record;
    const action =
      !detached && detachOnTimeout
        ? this.foreground.detach(entry, true)
        : this.stopping.begin(entry, { cause: 'deadline', isWanted: () => this.#deadlines.overdue(entry) });
    this.#inBackground(action, entry.taskId);
  }

  /** What a task held is given back, and whoever waits for its end hears of it. */
  #settled(entry: Entry): void {
    const { record, run, kind } = entry;
    this.#deadlines.clear(entry);
    this.#secondLooks.get(entry)?.clear();
    this.#secondLooks.delete(entry);
    this.#progress.forget(entry);
    this.foreground.unbind(entry);
    this.stopping.ended(entry);
    if (run) this.#inBackground(run.close(), entry.taskId);
    if (kind?.settled) this.#inBackground(Promise.resolve(kind.settled(record)), entry.taskId);
    entry.run = undefined;
    entry.slot?.release();
    entry.slot = undefined;
    entry.orphaned = false;
    this.retention.ended(entry);
    this.outbox.offer(record);
    this.core.waits.notify(entry.taskId);
    this.reconciler.schedule();
    this.#inBackground(this.retention.enforce(), entry.taskId);
  }

  #inBackground(work: Promise<unknown>, taskId?: string): void {
    const watched = work
      .catch((error: unknown) => {
        // Given up because the manager ended: its callers are told that.
        if (!isOver(error)) this.core.report(toTaskError(error, 'STORAGE_FAILED', taskId), taskId);
      })
      .finally(() => this.#background.delete(watched));
    this.#background.add(watched);
  }
}

function oldestFirst(a: TaskRecord, b: TaskRecord): number {
  return a.createdAt - b.createdAt || (a.taskId < b.taskId ? -1 : 1);
}
