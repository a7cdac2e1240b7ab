/* The ceilings of outputs: for which tasks they are watched, and who stands still for them. */
import type { Clock } from '../clock.js';
import type { TaskFiles } from '../store/contract.js';
import type { TaskRecord } from '../task/record.js';
import type { AnyTask } from '../task/types.js';
import { HeldOutput } from './held-output.js';
import { OutputLimits } from './output-limit.js';
import { attached } from './shim.js';
import { freeze, thaw } from './stop.js';
import type { Work } from './work.js';

export interface CeilingOptions {
  readonly files: TaskFiles;
  readonly clock: Clock;
  onOutputLimit(taskId: string): void;
  onError(error: Error, taskId?: string): void;
}

export class Ceilings {
  readonly #files: TaskFiles;
  readonly #clock: Clock;
  readonly #limits: OutputLimits;
  #closed = false;

  constructor({ files, clock, onOutputLimit, onError }: CeilingOptions) {
    this.#files = files;
    this.#clock = clock;
    this.#limits = new OutputLimits(clock, { onExceeded: (taskId) => onOutputLimit(taskId), onError });
  }

  /** Watches the output of a task that has a ceiling. Harmless when done twice. */
  async guard(work: Work, task: AnyTask): Promise<void> {
    const { taskId, stop } = task;
    const maxBytes = limitOf(task);
    if (maxBytes === undefined || this.#limits.isArmed(taskId)) return;
    const clock = this.#clock;
    const output = await HeldOutput.of(work, this.#files.output(taskId));
    if (this.#closed || this.#limits.isArmed(taskId)) return output.close();
    const writers = {
      freeze: async () => (attached ? undefined : freeze(work, clock)),
      thaw: async () => (attached ? undefined : thaw(work, clock)),
    };
    const isWithin = this.#limits.arm({ taskId, output, maxBytes, writers });
    // Beyond the limit the stop lets it go on. Within it, a host that was killed may have left it frozen all the same: the file was cut since.
    if (isWithin && !work.own && !stop && (await work.standsStill())) await writers.thaw();
  }

  /** The task is asked to end: who was frozen goes on, so that it can. */
  release(taskId: string): Promise<void> {
    return this.#limits.release(taskId);
  }

  /** The task is being killed: who is frozen stays so. */
  giveUp(taskId: string): Promise<void> {
    return this.#limits.disarm(taskId, { staysFrozen: true });
  }

  /** The task has ended. `here`: its processes can be reached from this manager. */
  async ended(task: AnyTask, work: Work | undefined, here: () => Promise<boolean>): Promise<void> {
    if (this.#limits.isArmed(task.taskId)) await this.#limits.disarm(task.taskId);
    else if (work && this.#mayBeFrozen(work, task) && (await here())) await thaw(work, this.#clock);
  }

  /** Its command has ended. What that left may have been frozen for what it writes, by a host that was killed before it had a stop on record. */
  #mayBeFrozen(work: Work, task: AnyTask): boolean {
    const maxBytes = limitOf(task);
    if (work.own || task.stop || maxBytes === undefined) return false;
    const output = HeldOutput.open(this.#files.output(task.taskId));
    try {
      return (output.size() ?? 0) > maxBytes;
    } finally {
      output.close();
    }
  }

  /** Nobody is frozen any more from now on. Resolves once freezes under way are over, and were reported. */
  quiesce(): Promise<void> {
    return this.#limits.quiesce();
  }

  /** Resolves once who was frozen goes on, but for tasks whose stop is on record. */
  close(hasStop: (taskId: string) => boolean): Promise<void> {
    this.#closed = true;
    return this.#limits.close(hasStop);
  }
}

/** The ceiling of its output in bytes, where it has one. */
function limitOf(task: AnyTask): number | undefined {
  const { maxOutputBytes } = task as unknown as TaskRecord;
  return Number.isFinite(maxOutputBytes) ? maxOutputBytes : undefined;
}
