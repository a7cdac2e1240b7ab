/* What a task holds while it is active: its slot, its work, its timers, and the signal of its caller. Nothing of it is left after `dispose`. */
import type { TaskStop } from '../../task/types.js';
import { holdsSlot } from '../decide/fields.js';
import { isOver, toTaskError } from '../failures.js';
import type { HeldSlot } from '../slots.js';
import { makeWork } from '../work/sorts.js';
import type { Work } from '../work/work.js';
import { CallerSignal } from './caller.js';
import { StopCampaign } from './campaign.js';
import { Deadline, deadlineOf } from './deadline.js';
import { lookAt } from './look.js';
import { Looks } from './looks.js';
import { ProgressWrites } from './progress.js';
import type { StopRequest } from './stopping.js';
import { isOpen, type Subject } from './subject.js';

/** The task that holds it. */
export interface Holder extends Subject {
  stop(request: StopRequest): Promise<void>;
  detach(byTimeout: boolean): Promise<unknown>;
  writeProgress(): void;
}

export class Holdings {
  readonly #task: Holder;
  #slot: HeldSlot | undefined;
  #work: Work | undefined;
  #looks: Looks | undefined;
  #deadline: Deadline | undefined;
  #progress: ProgressWrites | undefined;
  #campaign: StopCampaign | undefined;
  #caller: CallerSignal | undefined;

  constructor(task: Holder) {
    this.#task = task;
  }

  /** Throws where this host must not touch the task. */
  get work(): Work {
    this.#work ??= makeWork(this.#task.expectKind(), this.#task);
    return this.#work;
  }

  get looks(): Looks {
    const task = this.#task;
    this.#looks ??= new Looks(task.clock, {
      lookNow: () => lookAt(task),
      launchOver: async () => task.launching?.over,
      lookFailed: (error) => {
        if (!isOver(error)) task.reportOnce(toTaskError(error, 'STORAGE_FAILED', task.taskId));
      },
    });
    return this.#looks;
  }

  // The slot.

  /** It has this slot from now on, or none; what it had before is given back. */
  hold(slot: HeldSlot | undefined): void {
    const before = this.#slot;
    this.#slot = slot;
    before?.release();
  }

  /** A slot by right, where it has none. */
  takeSlot(): void {
    this.#slot ??= this.#task.shared.slots.take(this.#task.record.group);
  }

  /** The slot that its record says it holds: it did so under an owner that died. */
  resumeSlot(): void {
    if (holdsSlot(this.#task.record)) this.takeSlot();
  }

  // The caller in the foreground.

  bind(signal: AbortSignal): void {
    const task = this.#task;
    this.#caller = new CallerSignal(signal, (reason) => {
      const stopped = task.stop({ cause: 'user', reason, isWanted: () => !task.record.detached });
      task.shared.lifetime.inBackground(stopped, task.taskId);
    });
  }

  freeCaller(): void {
    this.#caller?.release();
    this.#caller = undefined;
  }

  // The timers.

  get deadline(): Deadline {
    const task = this.#task;
    this.#deadline ??= new Deadline(
      task.clock,
      // A deadline has nothing to say of a task that is being stopped, or whose outcome is known and only not on disk yet.
      () => (isOpen(task) && !task.shared.lifetime.isQuiet ? deadlineOf(task.record) : undefined),
      () => task.shared.lifetime.inBackground(this.#expired(), task.taskId),
    );
    return this.#deadline;
  }

  async #expired(): Promise<void> {
    const { detached, detachOnTimeout } = this.#task.record;
    if (!detached && detachOnTimeout) await this.#task.detach(true);
    else await this.#task.stop({ cause: 'deadline', isWanted: () => this.deadline.isOver });
  }

  get progress(): ProgressWrites {
    this.#progress ??= new ProgressWrites(this.#task.clock, () => this.#task.writeProgress());
    return this.#progress;
  }

  // The stop that is carried out.

  /** Its stop is carried out, with a grace of its own. */
  get isBeingStopped(): boolean {
    return this.#campaign !== undefined;
  }

  carryOut(graceMs: number): void {
    // It is on record: the next owner carries it out.
    if (this.#task.shared.lifetime.isQuiet) return;
    if (this.#campaign) this.#campaign.hurry(graceMs);
    else {
      this.#campaign = new StopCampaign(this.#task.clock, graceMs, {
        end: (how) => this.#end(how),
        lookSoon: () => this.looks.soon(),
      });
    }
  }

  async #end(how: 'terminate' | 'kill'): Promise<void> {
    const task = this.#task;
    const { stop } = task.working;
    if (!task.isActive || task.outcome || !stop) return;
    try {
      await this.work.stop(how, stop);
    } catch (error) {
      task.reportOnce(toTaskError(error, 'STORAGE_FAILED', task.taskId));
    }
  }

  // The end.

  /** No timer, no look and no stop begins by itself any more. */
  silence(): void {
    this.#deadline?.clear();
    this.#progress?.clear();
    this.#looks?.clear();
    this.#campaign?.end();
    this.#campaign = undefined;
    this.freeCaller();
  }

  async quiesce(): Promise<void> {
    await this.#work?.quiesce();
  }

  /** Nothing is left of it in this process. `isSettled`: its outcome is on record. `reason`: why work in this process is told to end. */
  async dispose({ isSettled = false, reason }: { isSettled?: boolean; reason?: TaskStop } = {}): Promise<void> {
    this.silence();
    this.hold(undefined);
    const work = this.#work;
    this.#work = undefined;
    if (!work) return;
    try {
      if (isSettled) await work.settled();
    } finally {
      await work.dispose(reason);
    }
  }
}
