/*
 * The processes of the tasks of one directory. A supervisor outlives the host and writes down how its command ended; what this host sees
 * of it (the exit of a child, a change in a folder) is only a hint to look at what is on disk.
 *
 * The order of a look is what makes it right: first whether the supervisor lives, then its exit record. The other way round, one that
 * ends in between would have left neither. While a supervisor lives its exit record is not believed: anybody could have written it, the task
 * itself or what a former task of this id left running. The supervisor writes the last word over it, and ends in the same moment.
 */
import type { Clock, Timer } from '../clock.js';
import { asError } from '../errors.js';
import type { TaskFiles } from '../store/contract.js';
import type { ExitRecord } from '../store/run-files.js';
import type { RunFolderWatch } from '../store/run-folder.js';
import type { RecoverProcess, StartContext } from '../task/kind.js';
import type { AnyTask, OwnerIdentity, ProcessDetails, ProcessTask } from '../task/types.js';
import { Limiter } from '../util/limiter.js';
import { shareRuns } from '../util/share-runs.js';
import { unlessCode } from '../util/system-error.js';
import { Ceilings } from './ceilings.js';
import { execFailure, searchPathOf } from './exec-failure.js';
import { homeOnRecord, type Whereabouts } from './home.js';
import { type LaunchRequest, launch } from './launch.js';
import { openProcessTable } from './open-table.js';
import { attachedOutcome, type ProcessProbe, recordedOutcome, unrecordedOutcome } from './outcome.js';
import type { ProcessInput } from './process-spec.js';
import type { ProcessTable } from './process-table.js';
import { attached, NOTHING_RAN } from './shim.js';
import { kill, killSupervisor, terminate } from './stop.js';
import { neverBegan, SupervisorSearch } from './supervisor-search.js';
import { type SeenEnd, Work } from './work.js';

/** A signal in the first moments of a process can be swallowed, between its fork and its program: so the young are asked twice. */
const YOUNG_MS = 1_000;
const SECOND_ASKING_MS = 100;
/** What a supervisor has to write down how its command ended, once everybody else was killed. */
const LAST_WORDS_MS = 500;
/** Launches under way at once: each holds the output of its task open. */
const CONCURRENT_LAUNCHES = 16;

export interface ProcessKindOptions {
  readonly files: TaskFiles;
  readonly owner: OwnerIdentity;
  readonly clock: Clock;
  /** Something happened to this task: look at it. */
  onHint(taskId: string): void;
  /** The output is beyond `maxOutputBytes`, and the task stands still: stop it. Called once for each task. */
  onOutputLimit(taskId: string): void;
  onError(error: Error, taskId?: string): void;
  /** Gives the environment of a process that never began, and whose record names variables. Absent: nobody can. */
  readonly recoverProcess?: RecoverProcess | undefined;
  /** Each probe is for itself, without watches and timers, and takes the right to run from nobody. */
  readonly readOnly?: boolean | undefined;
}

const running: ProcessProbe = { state: 'running' };

export class Processes {
  readonly #options: ProcessKindOptions;
  readonly #files: TaskFiles;
  readonly #table: ProcessTable;
  readonly #ceilings: Ceilings;
  readonly #search: SupervisorSearch;
  readonly #watch: RunFolderWatch;
  readonly #launching = new Set<string>();
  readonly #launches = new Limiter(CONCURRENT_LAUNCHES);
  readonly #works = new Map<string, Work>();
  /** What is still to be done for a stop. */
  readonly #afterStop = new Map<string, Timer>();
  #disposed: boolean;

  constructor(options: ProcessKindOptions) {
    const { files, clock, onError } = options;
    this.#options = options;
    this.#files = files;
    this.#disposed = options.readOnly === true;
    this.#table = openProcessTable(files.runFolder.path, clock);
    this.#watch = files.runFolder.watch({
      onExit: (taskId) => this.#hint(taskId),
      onFolderGone: () => {
        this.#keepFolder().catch((error: unknown) => onError(asError(error)));
      },
      onError,
    });
    this.#ceilings = new Ceilings(options);
    this.#search = new SupervisorSearch({
      files,
      clock,
      owner: options.owner,
      readOnly: options.readOnly === true,
      keepFolder: () => this.#keepFolder(),
    });
  }

  async start(
    context: StartContext<ProcessDetails>,
    input: ProcessInput | undefined,
  ): Promise<Partial<ProcessDetails>> {
    const { taskId, details, outputPath } = context;
    const runDir = this.#files.runFolder.path;
    const files = this.#files.runFiles(taskId);
    const work = this.#newWork(taskId);
    this.#launching.add(taskId);
    try {
      await this.#keepFolder();
      // A void claim says that an earlier launch was cut short. Its supervisor may come yet, and is refused by the claim of this one; so that it
      // is refused as well when this one has ended, a void claim takes the place of that claim then.
      const relaunched = (await files.readClaim()) === 'void';
      await files.remove();
      this.#watch.begin();
      const request: LaunchRequest = {
        runDir,
        taskId,
        command: details.command,
        cwd: details.cwd,
        outputPath,
        input,
        // A manager that closes waits for its launches; one that was fenced must not begin anything any more.
        checkWanted: () => this.#assertOpen(),
        onBegin: (child) => {
          work.launched(child);
          work.searchPath = searchPathOf(input);
          this.#works.set(taskId, work);
        },
        onEnd: (end) => this.#ended(work, end),
      };
      const pid = await this.#launches.run(() => launch(request));
      await this.#ceilings.guard(work, (context as unknown as { readonly task: AnyTask }).task);
      return { pid, ...(relaunched && { relaunched }) };
    } finally {
      this.#launching.delete(taskId);
    }
  }

  #assertOpen(): void {
    if (this.#disposed) throw new Error('the manager has ended');
  }

  async probe(task: ProcessTask): Promise<ProcessProbe> {
    const { taskId } = task;
    if (this.#launching.has(taskId)) return running;
    const work = this.#workOf(task);
    if (work.end?.code === NOTHING_RAN) await this.#search.yieldTo(work, task);
    const where = await this.#search.whereabouts(work, task);
    const lived = where === 'here' && (await this.#search.lives(work, task)) && !(await isOnlyUs(work, task));
    const { lives, exit } = await this.#ending(work, lived);
    if (exit) {
      if (task.stop && (await isTreeLeft(work, where, task))) return running;
      return recordedOutcome(task, exit, await execFailure(task.details, exit.code, work.searchPath));
    }
    if (lives) return this.#goesOn(work, task);
    if (where === 'elsewhere') return this.#search.unreachable(task);
    if (work.end && attached) return attachedOutcome(work.end);
    if (await isTreeLeft(work, where, task)) return this.#goesOn(work, task);
    if (work.end) return unrecordedOutcome(work.end);
    return (await this.#search.neverBegan(work, task, where)) ? neverBegan : { state: 'gone' };
  }

  /** Whether the supervisor lives, and what it wrote down if it does not. One that has just written it is waited for. */
  async #ending(work: Work, lived: boolean): Promise<{ lives: boolean; exit?: ExitRecord | undefined }> {
    const exit = await this.#files.runFiles(work.taskId).readExit();
    if (!exit || !lived) return { lives: lived, exit };
    const lives = !(await work.endsSoon());
    return lives ? { lives } : { lives, exit: await this.#files.runFiles(work.taskId).readExit() };
  }

  async stop(task: ProcessTask, how: 'terminate' | 'kill'): Promise<void> {
    const { clock } = this.#options;
    const work = this.#workOf(task);
    if (attached) return void (await work.signalSupervisor('SIGKILL'));
    if ((await this.#search.whereabouts(work, task)) !== 'here') return;
    await this.#search.find(work, task);
    if (how === 'terminate') {
      await this.#ceilings.release(task.taskId);
      await terminate(work, clock);
      const age = clock.now() - (task.startedAt ?? 0);
      if (age < YOUNG_MS) this.#later(work, SECOND_ASKING_MS, () => terminate(work, clock));
      return;
    }
    work.doomed = true;
    await this.#ceilings.giveUp(task.taskId);
    await kill(work, clock);
    if (!this.#afterStop.has(task.taskId)) this.#later(work, LAST_WORDS_MS, () => killSupervisor(work));
  }

  async settled(task: ProcessTask): Promise<void> {
    const { taskId } = task;
    const work = this.#works.get(taskId);
    this.#cancelLater(taskId);
    this.#works.delete(taskId);
    await this.#ceilings.ended(task, work, async () => (await this.#search.whereabouts(work!, task)) === 'here');
    await this.#files.runFiles(taskId).removeSettled({
      refuseLate: (task.details as { relaunched?: boolean }).relaunched === true,
    });
  }

  async quiesce(): Promise<void> {
    await this.#ceilings.quiesce();
  }

  async dispose(hasStop: (taskId: string) => boolean): Promise<void> {
    this.#disposed = true;
    this.#watch.close();
    for (const taskId of [...this.#afterStop.keys()]) this.#cancelLater(taskId);
    await this.#ceilings.close(hasStop);
  }

  #workOf({ taskId, details }: ProcessTask): Work {
    let work = this.#works.get(taskId);
    if (!work) {
      work = this.#newWork(taskId);
      this.#works.set(taskId, work);
    }
    work.pid ??= details.pid;
    return work;
  }

  #newWork(taskId: string): Work {
    const places = { runDir: this.#files.runFolder.path, outputPath: this.#files.output(taskId).path };
    return new Work(taskId, places, this.#table);
  }

  #ended(work: Work, end: SeenEnd): void {
    work.ended(end);
    this.#hint(work.taskId);
  }

  #hint(taskId: string): void {
    if (!this.#disposed) this.#options.onHint(taskId);
  }

  /** Makes a run folder that was deleted again: the supervisors that live write their records into it, and others can begin. */
  readonly #keepFolder = shareRuns(async () => {
    if (this.#disposed || !(await this.#files.runFolder.remake())) return;
    this.#watch.renew();
    // What was written before the watch began is seen by a look.
    for (const taskId of this.#works.keys()) this.#hint(taskId);
  });

  /** Still there. What a crash kept from the record goes there now. */
  async #goesOn(work: Work, task: ProcessTask): Promise<ProcessProbe> {
    if (!this.#disposed) {
      // Where the whole directory is gone, the manager finds out by itself.
      await unlessCode(['ENOENT'], this.#keepFolder());
      this.#watch.begin();
      if (!work.doomed) await this.#ceilings.guard(work, task);
    }
    if (work.sighted) return { state: 'running', details: homeOnRecord(task) };
    return work.pid === task.details.pid ? running : { state: 'running', details: { pid: work.pid } };
  }

  #later(work: Work, delayMs: number, action: () => Promise<void>): void {
    this.#cancelLater(work.taskId);
    if (this.#disposed) return;
    const timer = this.#options.clock.after(delayMs, () => {
      this.#afterStop.delete(work.taskId);
      action().catch((error: unknown) => this.#options.onError(asError(error), work.taskId));
    });
    this.#afterStop.set(work.taskId, timer);
  }

  #cancelLater(taskId: string): void {
    this.#afterStop.get(taskId)?.clear();
    this.#afterStop.delete(taskId);
  }
}

async function isTreeLeft(work: Work, where: Whereabouts, { stop }: ProcessTask): Promise<boolean> {
  return where !== 'perished' && !(await work.isGone(stop !== undefined));
}

/** Whether nothing is left of a task that is being stopped but this host, which it started, and who is between them: they cannot be stopped. */
async function isOnlyUs(work: Work, { stop }: ProcessTask): Promise<boolean> {
  return stop !== undefined && (await work.isAroundUs()) && (await work.isGone(true));
}
