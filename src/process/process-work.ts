/* One process task: its launches, its looks, its stops, and what is left to do for them. */
import type { Timer } from '../clock.js';
import { asError } from '../errors.js';
import type { RunFiles } from '../store/run-files.js';
import type { StartContext } from '../task/kind.js';
import type { AttachedWork, WorkPort } from '../task/kind-runtime.js';
import type { AnyTask, ProcessDetails, ProcessTask } from '../task/types.js';
import { unlessCode } from '../util/system-error.js';
import { Ceiling } from './ceiling.js';
import type { ProcessHost } from './process-host.js';
import type { ProcessInput } from './process-spec.js';
import { openSupervisor } from './supervisor/open.js';
import type { ProcessProbe } from './supervisor/outcome.js';
import type { Supervisor } from './supervisor/supervisor.js';

/**
 * A signal in the first moments of a process can be swallowed, between its fork and its program: a young one is asked
 * twice.
 */
const YOUNG_MS = 1_000;
const SECOND_ASKING_MS = 100;
/** What a supervisor has to write down how its command ended, once all other processes were killed. */
const LAST_WORDS_MS = 500;

/** What is known of one launch. */
interface Attempt {
  readonly supervisor: Supervisor;
  readonly ceiling: Ceiling;
}

export class ProcessWork implements AttachedWork {
  readonly #taskId: string;
  readonly #host: ProcessHost;
  readonly #port: WorkPort;
  readonly #files: RunFiles;
  /** The launch under way does not count before its process was created. */
  #attempt: Attempt | undefined;
  #isLaunching = false;
  /** What is still to be done for a stop. */
  #afterStop: Timer | undefined;
  #isDisposed = false;

  constructor(taskId: string, host: ProcessHost, port: WorkPort) {
    this.#taskId = taskId;
    this.#host = host;
    this.#port = port;
    this.#files = host.files.runFiles(taskId);
  }

  async start(
    context: StartContext<ProcessDetails> & { readonly task: AnyTask },
    input: ProcessInput | undefined,
  ): Promise<Partial<ProcessDetails>> {
    this.#assertOpen();
    this.#isLaunching = true;
    try {
      await this.#attempt?.ceiling.close(false);
      await this.#host.keepFolder();
      // A void claim says that an earlier launch was cut short. Its supervisor may come yet, and is refused by the
      // claim of this one; so that it is refused as well when this one has ended, a void claim takes the place of that
      // claim then.
      const relaunched = (await this.#files.readClaim()) === 'void';
      await this.#files.remove();
      this.#host.watch();
      const attempt = this.#newAttempt();
      const pid = await this.#host.launch(() => this.#launch(attempt, context.details, input));
      if (!this.#isOver) await attempt.ceiling.guard(context.task);
      return { pid, ...(relaunched && { relaunched }) };
    } finally {
      this.#isLaunching = false;
    }
  }

  #launch(attempt: Attempt, { command, cwd }: ProcessDetails, input: ProcessInput | undefined): Promise<number> {
    return attempt.supervisor.launch({
      command,
      cwd,
      input,
      // A manager that closes waits for its launches; one that was fenced must not begin anything any more.
      checkWanted: () => this.#assertOpen(),
      onBegin: () => {
        this.#attempt = attempt;
      },
      onEnd: () => {
        if (!this.#isOver) this.#port.hint();
      },
    });
  }

  async probe(task: ProcessTask): Promise<ProcessProbe> {
    if (this.#isLaunching) return { state: 'running' };
    const { supervisor, ceiling } = this.#currentAttempt();
    const { probe, goesOn } = await supervisor.look(task);
    if (goesOn && !this.#isOver) {
      // Where the whole directory is gone, the manager finds out by itself.
      await unlessCode(['ENOENT'], this.#host.keepFolder());
      this.#host.watch();
      await ceiling.guard(task);
    }
    return probe;
  }

  async stop(task: ProcessTask, how: 'terminate' | 'kill'): Promise<void> {
    const { supervisor, ceiling } = this.#currentAttempt();
    if (!(await supervisor.reach(task))) return;
    if (how === 'terminate') {
      await ceiling.release();
      await supervisor.terminate();
      const age = this.#host.clock.now() - (task.startedAt ?? 0);
      if (age < YOUNG_MS) this.#later(SECOND_ASKING_MS, () => supervisor.terminate());
      return;
    }
    await ceiling.giveUp();
    await supervisor.kill();
    if (!this.#afterStop) this.#later(LAST_WORDS_MS, () => supervisor.killSupervisor());
  }

  async settled(task: ProcessTask): Promise<void> {
    this.#cancelLater();
    const attempt = this.#attempt;
    this.#attempt = undefined;
    await attempt?.ceiling.ended(task);
    const { relaunched } = task.details as { relaunched?: boolean };
    await this.#files.removeSettled({ refuseLate: relaunched === true });
  }

  async quiesce(): Promise<void> {
    await this.#attempt?.ceiling.quiesce();
  }

  async dispose(hasStop: boolean): Promise<void> {
    this.#isDisposed = true;
    this.#cancelLater();
    await this.#attempt?.ceiling.close(hasStop);
  }

  get #isOver(): boolean {
    return this.#isDisposed || this.#host.isClosed;
  }

  #assertOpen(): void {
    if (this.#isOver) throw new Error('the manager has ended');
  }

  #currentAttempt(): Attempt {
    this.#attempt ??= this.#newAttempt();
    return this.#attempt;
  }

  #newAttempt(): Attempt {
    const supervisor = openSupervisor(this.#taskId, this.#host);
    const { clock, files } = this.#host;
    const ceiling = new Ceiling({ supervisor, output: files.output(this.#taskId), clock, port: this.#port });
    return { supervisor, ceiling };
  }

  #later(delayMs: number, action: () => Promise<void>): void {
    this.#cancelLater();
    if (this.#isOver) return;
    this.#afterStop = this.#host.clock.after(delayMs, () => {
      this.#afterStop = undefined;
      action().catch((error: unknown) => this.#port.report(asError(error)));
    });
  }

  #cancelLater(): void {
    this.#afterStop?.clear();
    this.#afterStop = undefined;
  }
}
