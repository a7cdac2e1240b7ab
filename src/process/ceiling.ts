/* The ceiling of a task's output: when it is guarded, and when a task that was frozen for it goes on. */
import type { Clock } from '../clock.js';
import type { OutputFile } from '../output/output-file.js';
import type { WorkPort } from '../task/kind-runtime.js';
import type { TaskRecord } from '../task/record.js';
import type { AnyTask, ProcessTask } from '../task/types.js';
import { HeldOutput } from './held-output.js';
import { OutputGuard } from './output-guard.js';
import type { Supervisor } from './supervisor/supervisor.js';

export interface CeilingOptions {
  readonly supervisor: Supervisor;
  readonly output: OutputFile;
  readonly clock: Clock;
  readonly port: WorkPort;
}

export class Ceiling {
  readonly #options: CeilingOptions;
  #guard: OutputGuard | undefined;
  /** No guard begins any more. */
  #isOver = false;

  constructor(options: CeilingOptions) {
    this.#options = options;
  }

  /** Watches the output of a task that has a ceiling. Harmless when done twice. */
  async guard(task: AnyTask): Promise<void> {
    const { supervisor, clock, port } = this.#options;
    const maxBytes = limitOf(task);
    if (maxBytes === undefined || this.#guard || this.#isOver) return;
    const output = await supervisor.holdOutput();
    if (this.#isOver || this.#guard) return output.close();
    this.#guard = new OutputGuard({
      output,
      maxBytes,
      writers: supervisor,
      clock,
      onExceeded: () => port.outputLimit(),
      onError: (error) => port.report(error),
    });
    const isWithin = this.#guard.begin();
    // Beyond the limit the stop lets it go on. Within it, a host that was killed may have left it frozen all the same:
    // the file was cut since.
    if (isWithin && !supervisor.isOwn && !task.stop && (await supervisor.mayBeFrozen())) await supervisor.thaw();
  }

  /**
   * The task is asked to end: a freeze under way is over once this resolves, and the task is continued so that it can
   * end.
   */
  async release(): Promise<void> {
    await this.#guard?.release();
  }

  /** The task is being killed: if it is frozen, it stays so. */
  giveUp(): Promise<void> {
    return this.close(true);
  }

  /**
   * The task has ended. What its command left may still be frozen, also by a host that was killed before it had a stop
   * on record.
   */
  async ended(task: ProcessTask): Promise<void> {
    const { supervisor } = this.#options;
    if (this.#guard) return this.close(false);
    this.#isOver = true;
    if (this.#mayBeFrozen(task) && (await supervisor.isHere(task))) await supervisor.thaw();
  }

  #mayBeFrozen(task: AnyTask): boolean {
    const { supervisor, output } = this.#options;
    const maxBytes = limitOf(task);
    if (supervisor.isOwn || task.stop || maxBytes === undefined) return false;
    const held = HeldOutput.open(output);
    try {
      return (held.size() ?? 0) > maxBytes;
    } finally {
      held.close();
    }
  }

  /** Nothing is frozen any more from now on. Resolves once a freeze under way is over and was reported. */
  async quiesce(): Promise<void> {
    this.#isOver = true;
    await this.#guard?.quiesce();
  }

  /** Resolves once a task that was frozen goes on, unless `staysFrozen`. */
  async close(staysFrozen: boolean): Promise<void> {
    const guard = this.#guard;
    this.#isOver = true;
    this.#guard = undefined;
    await guard?.close(staysFrozen);
  }
}

/** The ceiling of its output in bytes, where it has one. */
function limitOf(task: AnyTask): number | undefined {
  const { maxOutputBytes } = task as unknown as TaskRecord;
  return Number.isFinite(maxOutputBytes) ? maxOutputBytes : undefined;
}
