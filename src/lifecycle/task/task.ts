/*
 * One task: its record, its timers, its slot and its work. What it does is in the files beside this one; what is found out is posted here,
 * and what follows from it for this task is applied here. `dispose` is the whole clean-up: nothing of a task is kept anywhere else.
 */
import { BackgroundTaskError } from '../../errors.js';
import type { Deliveries } from '../../hooks/port.js';
import type { OutputFile } from '../../output/output-file.js';
import type { KindRuntime } from '../../task/kind-runtime.js';
import { isSupported, type TaskRecord } from '../../task/record.js';
import { isTerminalStatus } from '../../task/status.js';
import type { TaskStop } from '../../task/types.js';
import type { Decision, Effect } from '../decide/decide.js';
import type { Finding, Outcome } from '../decide/finding.js';
import { reasonOf } from '../failures.js';
import type { HeldSlot } from '../slots.js';
import type { Awaited, Wait } from '../waits.js';
import type { LaunchInput, ProgressReport, Work } from '../work/work.js';
import { type Holder, Holdings } from './holdings.js';
import { beginAgain, beginNew, beginQueued, closing, type Launchable } from './launch.js';
import type { Launching } from './launching.js';
import { Ledger, type LedgerListener, unsupported } from './ledger.js';
import type { Unwritten } from './memory.js';
import { progressOf } from './progress.js';
import { type Settled, settle } from './settle.js';
import { resumeStop, type StopRequest, stop } from './stopping.js';
import type { LookResult, OutOfReach, Surroundings, TaskObserver } from './subject.js';

export class Task implements Holder, Launchable, Settled, Awaited, LedgerListener {
  readonly taskId: string;
  readonly seq: number;
  readonly kind: KindRuntime | undefined;
  readonly shared: Surroundings;
  isOrphaned = false;
  launching: Launching | undefined;
  outcome: Outcome | undefined;
  outOfReach: OutOfReach | undefined;
  recovery: LaunchInput | undefined;
  waits: Set<Wait> | undefined;
  /** How it left the foreground. */
  released: 'detached' | 'detached_by_timeout' | undefined;
  readonly #observer: TaskObserver<Task>;
  /** Its record alone while nothing is to be written: most tasks have ended long ago. */
  #kept: TaskRecord | Ledger;
  /** Absent once it has ended. */
  #holdings: Holdings | undefined;
  #deliveries: Deliveries | undefined;
  /** What was last reported, so that a fault that lasts is told once. */
  #reported: string | undefined;

  constructor(shared: Surroundings, observer: TaskObserver<Task>, record: TaskRecord, seq: number, kind?: KindRuntime) {
    this.shared = shared;
    this.#observer = observer;
    this.#kept = record;
    this.taskId = record.taskId;
    this.seq = seq;
    this.kind = kind;
  }

  get record(): TaskRecord {
    return this.#kept instanceof Ledger ? this.#kept.record : this.#kept;
  }
  get view(): TaskRecord {
    return this.#kept instanceof Ledger ? this.#kept.view : this.#kept;
  }
  get working(): TaskRecord {
    return this.#kept instanceof Ledger ? this.#kept.working : this.#kept;
  }
  get unwritten(): Unwritten {
    return this.#books.unwritten;
  }
  get #books(): Ledger {
    if (!(this.#kept instanceof Ledger)) this.#kept = new Ledger(this.shared, this.#kept, this);
    return this.#kept;
  }
  get isActive(): boolean {
    return !isTerminalStatus(this.record.status);
  }
  get isFenced(): boolean {
    return this.shared.lifetime.isFenced;
  }
  get clock() {
    return this.shared.clock;
  }
  get output(): OutputFile {
    return this.shared.store.output(this.taskId);
  }
  /** Its deliveries under way, by hook. */
  get deliveries(): Deliveries {
    this.#deliveries ??= new Map();
    return this.#deliveries;
  }
  get work(): Work {
    return this.#held.work;
  }

  get #held(): Holdings {
    this.#holdings ??= new Holdings(this);
    return this.#holdings;
  }

  expectKind(): KindRuntime {
    if (this.kind) return this.kind;
    if (!isSupported(this.record)) throw unsupported(this.record);
    const why = `the task is of the kind "${this.record.kind}", which this manager does not have, or its details do not fit that kind`;
    throw new BackgroundTaskError('UNKNOWN_KIND', why, { taskId: this.taskId });
  }

  post(finding: Finding): Promise<TaskRecord> {
    return this.#books.post(finding);
  }

  note(news: Unwritten): void {
    this.#books.note(news);
  }

  forget(key: keyof Unwritten): void {
    this.#books.forget(key);
  }

  /** Removes its record and all that belongs to it. `false`: it may not go. */
  async remove(mayGo: (record: TaskRecord) => boolean): Promise<boolean> {
    if (!(await this.#books.remove(mayGo))) return false;
    this.#observer.removed(this);
    this.shared.news.emit('task:pruned', { taskId: this.taskId });
    this.#observer.changed(this);
    return true;
  }

  async settle(outcome: Outcome): Promise<boolean> {
    const isSettled = await settle(this, outcome);
    // Whoever closes waits for no more than that the outcome is known.
    if (!isSettled) this.#observer.changed(this);
    return isSettled;
  }

  written(): void {
    const { owner } = this.shared.store;
    if (this.isOrphaned && this.record.owner?.instanceId === owner.instanceId) this.isOrphaned = false;
    this.#observer.written(this);
  }

  apply({ events, effects }: Decision): void {
    const detached = events.find(({ name }) => name === 'task:detached');
    if (detached?.name === 'task:detached') this.released = detached.byTimeout ? 'detached_by_timeout' : 'detached';
    for (const effect of effects) this.#apply(effect);
  }

  changed(): void {
    this.#observer.changed(this);
  }

  #apply(effect: Effect): void {
    if (effect === 'take slot') this.#held.takeSlot();
    else if (effect === 'release slot') this.hold(undefined);
    else if (effect === 'arm deadline') this.#held.deadline.arm();
    else if (effect === 'free caller') this.#holdings?.freeCaller();
    else if (effect === 'dispose work') this.#disposeEnded();
    else if (effect === 'deliver hooks') this.#observer.owes(this);
    else this.#retain(effect);
  }

  /** The last one: an effect that is not handled above does not compile. */
  #retain(_: 'retain'): void {
    this.#observer.ended(this);
  }

  hold(slot: HeldSlot | undefined): void {
    this.#held.hold(slot);
  }

  /** A dead owner's: it holds its slot until it is known how it stands. */
  orphan(): void {
    this.isOrphaned = true;
    if (this.kind) this.#held.resumeSlot();
  }

  takenOver(): void {
    this.isOrphaned = false;
    this.#held.deadline.arm();
  }

  async beginNew(slot: HeldSlot | undefined, input: unknown, signal: AbortSignal | undefined): Promise<void> {
    await beginNew(this, slot, input);
    if (signal && !this.record.detached && this.isActive) this.#held.bind(signal);
  }

  begin(slot: HeldSlot | undefined, input: unknown): Promise<'deferred' | 'over'> {
    return beginQueued(this, slot, input);
  }

  beginAgain(input: unknown): Promise<void> {
    return beginAgain(this, input);
  }

  async look(): Promise<LookResult> {
    // There is nothing to look at before `start` has answered, and however long that takes, nobody else waits for it.
    return this.launching || !this.isActive ? 'active' : this.#held.looks.look();
  }

  async lookOver(): Promise<void> {
    await this.#holdings?.looks.over();
  }

  hint(): void {
    if (this.isActive && this.kind && !this.shared.lifetime.isQuiet) this.#held.looks.hint();
  }

  /** Resolves once the stop is on record and under way, or the task has ended. */
  stop(request: StopRequest): Promise<void> {
    return stop(this, request);
  }

  outputLimit(): void {
    if (this.isActive) this.shared.lifetime.inBackground(this.stop({ cause: 'output_limit' }), this.taskId);
  }

  /** For a pass, after its look: a deadline that the timer missed, and a stop that nobody carries out. */
  catchUp(): void {
    if (!this.isActive) return;
    this.#held.deadline.check();
    if (!this.#holdings?.isBeingStopped) resumeStop(this);
  }

  carryOut(graceMs: number): void {
    this.#held.carryOut(graceMs);
  }

  /** Sends it to the background. What is there or has ended stays as it is. */
  async detach(byTimeout: boolean): Promise<TaskRecord> {
    if (!this.isActive || this.record.detached) return this.view;
    this.expectKind();
    // What has ended, or could not be launched, is not detached. A probe that fails says nothing.
    await this.launching?.over;
    await this.look().catch((error: unknown) => this.reportOnce(error));
    return this.isActive && !this.outcome ? this.post({ is: 'detached', byTimeout, now: this.clock.now() }) : this.view;
  }

  reportProgress(report: ProgressReport): void {
    this.note({ progress: progressOf(report, this.clock.now()) });
    this.shared.news.emit('task:progress', { task: this.view });
    this.#held.progress.ask();
  }

  writeProgress(): void {
    if (!this.isActive || !this.unwritten.progress) return;
    this.post({ is: 'progressed' }).then(
      () => {
        this.#reported = undefined;
      },
      (error: unknown) => this.reportOnce(error),
    );
  }

  report(error: unknown): void {
    this.shared.news.report(error, this.taskId);
  }

  reportOnce(error: unknown): void {
    const reason = reasonOf(error);
    if (this.#reported === reason) return;
    this.#reported = reason;
    this.report(error);
  }

  abortLaunch(): void {
    this.launching?.abort(closing());
  }

  /** The manager closes, and a later owner may begin its work again. */
  async leave(): Promise<void> {
    await this.work.leave({ cause: 'shutdown', requestedAt: this.clock.now() });
    await this.look();
  }

  /** No timer, no look and no stop begins by itself any more. */
  silence(): void {
    this.#holdings?.silence();
  }

  async quiesce(): Promise<void> {
    await this.#holdings?.quiesce();
  }

  /** Nothing is left of it in this process. `reason`: why work in this process is told to end. */
  async dispose(reason?: TaskStop): Promise<void> {
    await this.#holdings?.dispose(reason && { reason });
  }

  #disposeEnded(): void {
    const held = this.#holdings;
    this.#holdings = undefined;
    this.outcome = undefined;
    this.isOrphaned = false;
    this.outOfReach = undefined;
    this.recovery = undefined;
    this.#reported = undefined;
    if (held) this.shared.lifetime.inBackground(held.dispose({ isSettled: true }), this.taskId);
  }
}
