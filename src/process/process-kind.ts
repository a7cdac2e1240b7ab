/*
 * Processes as a kind of task, like any other. A supervisor outlives the host and writes down how its command ended; what this host sees
 * of it (the exit of a child, a change in a folder) is only a hint to look at what is on disk.
 *
 * The order of a look is what makes it right: first whether the supervisor lives, then its exit record. The other way round, one that
 * ends in between would have left neither. While a supervisor lives its exit record is not believed: anybody could have written it, the task
 * itself or what a former task of this id left running. The supervisor writes the last word over it, and ends in the same moment.
 */
import type { Clock, Timer } from '../clock.js';
import { asError } from '../errors.js';
import { unlessCode } from '../store/failure.js';
import { remakeRunFolder } from '../store/folders.js';
import type { Layout } from '../store/layout.js';
import { Limiter } from '../store/limiter.js';
import { shareRuns } from '../store/share-runs.js';
import {
  type AnyTaskKind,
  defineTaskKind,
  type NeverBegan,
  type OutOfReach,
  type RecoverProcess,
  type StartContext,
} from '../task/kind.js';
import { processDetails } from '../task/process-details.js';
import type { TaskRecord } from '../task/record.js';
import type { AnyTask, OwnerIdentity, ProcessDetails, ProcessTask } from '../task/types.js';

import { execFailure, searchPathOf } from './exec-failure.js';
import { describeHome, homeOnRecord, namespaceHere, type Whereabouts, whereabouts } from './home.js';
import { type LaunchRequest, launch } from './launch.js';
import { openProcessTable } from './open-table.js';
import { attachedOutcome, type ProcessProbe, recordedOutcome, unrecordedOutcome } from './outcome.js';
import { OutputFile } from './output-file.js';
import { OutputLimits } from './output-limit.js';
import { PidNamespaces } from './pid-namespaces.js';
import { missingEnvironment, type ProcessInput, processSpecReader, recoveredInput } from './process-spec.js';
import type { ProcessTable } from './process-table.js';
import {
  type Claim,
  claimVoid,
  type ExitRecord,
  ExitWatch,
  readClaim,
  readExit,
  removeRunFiles,
  removeSettled,
} from './run-files.js';
import { attached, NOTHING_RAN } from './shim.js';
import { freeze, kill, killSupervisor, terminate, thaw } from './stop.js';
import { type SeenEnd, Work } from './work.js';

/** A signal in the first moments of a process can be swallowed, between its fork and its program: so the young are asked twice. */
const YOUNG_MS = 1_000;
const SECOND_ASKING_MS = 100;
/** What a supervisor has to write down how its command ended, once everybody else was killed. */
const LAST_WORDS_MS = 500;
/** Launches under way at once: each holds the output of its task open. */
const CONCURRENT_LAUNCHES = 16;

export interface ProcessKindOptions {
  readonly layout: Layout;
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

export interface ProcessSupport {
  readonly kind: AnyTaskKind;
  /** Nobody is frozen for the output any more from now on. Resolves once freezes under way are over, and were reported. */
  quiesce(): Promise<void>;
  /**
   * Closes watches and timers, and resolves once who was frozen for the output goes on, but for tasks whose stop is on record. The processes
   * run on.
   */
  dispose(hasStop: (taskId: string) => boolean): Promise<void>;
}

export function createProcessKind(options: ProcessKindOptions): ProcessSupport {
  const processes = new Processes(options);
  const definition = {
    name: 'process' as const,
    details: processDetails,
    spec: processSpecReader,
    start: (context: StartContext<ProcessDetails>, input: ProcessInput | undefined) => processes.start(context, input),
    probe: (task: ProcessTask) => processes.probe(task),
    stop: (task: ProcessTask, how: 'terminate' | 'kill') => processes.stop(task, how),
    settled: (task: ProcessTask) => processes.settled(task),
    missing: (task: ProcessTask) => missingEnvironment(task.details),
    resupply: options.recoverProcess && resupplier(options.recoverProcess),
  };
  return {
    kind: defineTaskKind(definition),
    quiesce: () => processes.quiesce(),
    dispose: (hasStop) => processes.dispose(hasStop),
  };
}

/** How a process was seen to have ended; `undefined`: it was not. */
export type ProcessLook = (
  task: ProcessTask,
) => Promise<Extract<ProcessProbe, { state: 'completed' | 'failed' | 'gone' }> | undefined>;

/**
 * The look of a probe, for whoever does not own the directory. Nothing is written: where no supervisor has taken the right to run, one may still
 * come, or the next owner launches it, so that nothing can be said of the task.
 */
export function createProcessLook({
  layout,
  ...rest
}: Pick<ProcessKindOptions, 'layout' | 'owner' | 'clock'>): ProcessLook {
  const silent = { onHint: () => undefined, onOutputLimit: () => undefined, onError: () => undefined };
  const processes = new Processes({ layout, ...rest, ...silent, readOnly: true });
  return async (task) => {
    const found = await processes.probe(task);
    if (found.state === 'running' || found.state === 'waiting') return undefined;
    if (found.state !== 'gone') return found;
    const claim = await readClaim(layout, task.taskId);
    return claim === undefined || claim === 'void' ? undefined : found;
  };
}

function resupplier(recoverProcess: RecoverProcess) {
  return async (task: ProcessTask) => {
    const answer = await recoverProcess(task);
    return answer ? { input: recoveredInput(answer, task.details) } : undefined;
  };
}

const running: ProcessProbe = { state: 'running' };
/** Nobody ever had the right to run it, and nobody can get it any more. */
const neverBegan: ProcessProbe & NeverBegan = { state: 'gone', neverBegan: true, details: { pid: null } };

class Processes {
  readonly #options: ProcessKindOptions;
  readonly #layout: Layout;
  readonly #table: ProcessTable;
  readonly #limits: OutputLimits;
  readonly #watch: ExitWatch;
  readonly #namespaces: PidNamespaces;
  readonly #launching = new Set<string>();
  readonly #launches = new Limiter(CONCURRENT_LAUNCHES);
  readonly #works = new Map<string, Work>();
  /** What is still to be done for a stop. */
  readonly #afterStop = new Map<string, Timer>();
  #disposed: boolean;

  constructor(options: ProcessKindOptions) {
    const { layout, clock, onError } = options;
    this.#options = options;
    this.#layout = layout;
    this.#disposed = options.readOnly === true;
    this.#table = openProcessTable(layout.runDir, clock);
    this.#namespaces = new PidNamespaces(options.owner.pidNamespace, clock);
    this.#watch = new ExitWatch({
      onExit: (taskId) => this.#hint(taskId),
      onFolderGone: () => {
        this.#keepFolder().catch((error: unknown) => onError(asError(error)));
      },
      onError,
    });
    this.#limits = new OutputLimits(clock, { onExceeded: (taskId) => options.onOutputLimit(taskId), onError });
  }

  async start(
    context: StartContext<ProcessDetails>,
    input: ProcessInput | undefined,
  ): Promise<Partial<ProcessDetails>> {
    const { taskId, details, outputPath } = context;
    const { runDir } = this.#layout;
    const work = this.#newWork(taskId);
    this.#launching.add(taskId);
    try {
      await this.#keepFolder();
      // A void claim says that an earlier launch was cut short. Its supervisor may come yet, and is refused by the claim of this one; so that it
      // is refused as well when this one has ended, a void claim takes the place of that claim then.
      const relaunched = (await readClaim(this.#layout, taskId)) === 'void';
      await removeRunFiles(this.#layout, taskId);
      this.#watch.begin(runDir);
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
      await this.#guard(work, (context as unknown as { readonly task: AnyTask }).task);
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
    if (work.end?.code === NOTHING_RAN) await this.#yield(work, task);
    const where = await this.#whereabouts(work, task);
    const lived = where === 'here' && (await this.#supervisorLives(work, task)) && !(await isOnlyUs(work, task));
    const { lives, exit } = await this.#ending(work, lived);
    if (exit) {
      if (task.stop && (await isTreeLeft(work, where, task))) return running;
      return recordedOutcome(task, exit, await execFailure(task.details, exit.code, work.searchPath));
    }
    if (lives) return this.#goesOn(work, task);
    if (where === 'elsewhere') return this.#unreachable(task);
    if (work.end && attached) return attachedOutcome(work.end);
    if (await isTreeLeft(work, where, task)) return this.#goesOn(work, task);
    if (work.end) return unrecordedOutcome(work.end);
    return (await this.#neverBegan(work, task, where)) ? neverBegan : { state: 'gone' };
  }

  /** Whether the supervisor lives, and what it wrote down if it does not. One that has just written it is waited for. */
  async #ending(work: Work, lived: boolean): Promise<{ lives: boolean; exit?: ExitRecord | undefined }> {
    const exit = await readExit(this.#layout, work.taskId);
    if (!exit || !lived) return { lives: lived, exit };
    const lives = !(await work.endsSoon(this.#options.clock));
    return lives ? { lives } : { lives, exit: await readExit(this.#layout, work.taskId) };
  }

  async stop(task: ProcessTask, how: 'terminate' | 'kill'): Promise<void> {
    const { clock } = this.#options;
    const work = this.#workOf(task);
    if (attached) return void (await work.signalSupervisor('SIGKILL'));
    if ((await this.#whereabouts(work, task)) !== 'here') return;
    if (!work.own && !work.sighted) await this.#locate(work, task, await readClaim(this.#layout, task.taskId));
    if (how === 'terminate') {
      await this.#limits.release(task.taskId);
      await terminate(work, clock);
      const age = clock.now() - (task.startedAt ?? 0);
      if (age < YOUNG_MS) this.#later(work, SECOND_ASKING_MS, () => terminate(work, clock));
      return;
    }
    work.doomed = true;
    await this.#limits.disarm(task.taskId, { staysFrozen: true });
    await kill(work, clock);
    if (!this.#afterStop.has(task.taskId)) this.#later(work, LAST_WORDS_MS, () => killSupervisor(work));
  }

  async settled(task: ProcessTask): Promise<void> {
    const { taskId } = task;
    const work = this.#works.get(taskId);
    this.#cancelLater(taskId);
    this.#works.delete(taskId);
    if (this.#limits.isArmed(taskId)) await this.#limits.disarm(taskId);
    else if (work && (await this.#mayBeFrozen(work, task))) await thaw(work, this.#options.clock);
    await removeSettled(this.#layout, taskId, {
      refuseLate: (task.details as { relaunched?: boolean }).relaunched === true,
    });
  }

  /** Its command has ended. What that left may have been frozen for what it writes, by a host that was killed before it had a stop on record. */
  async #mayBeFrozen(work: Work, task: ProcessTask): Promise<boolean> {
    const maxBytes = limitOf(task);
    if (work.own || task.stop || maxBytes === undefined) return false;
    if ((await this.#whereabouts(work, task)) !== 'here') return false;
    const output = OutputFile.open(this.#layout.outputPath(task.taskId));
    try {
      return (output.size() ?? 0) > maxBytes;
    } finally {
      output.close();
    }
  }

  async quiesce(): Promise<void> {
    await this.#limits.quiesce();
  }

  async dispose(hasStop: (taskId: string) => boolean): Promise<void> {
    this.#disposed = true;
    this.#watch.close();
    for (const taskId of [...this.#afterStop.keys()]) this.#cancelLater(taskId);
    await this.#limits.close(hasStop);
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
    const { runDir } = this.#layout;
    return new Work(taskId, { runDir, outputPath: this.#layout.outputPath(taskId) }, this.#table);
  }

  async #whereabouts(work: Work, task: ProcessTask): Promise<Whereabouts> {
    if (work.own || work.sighted) return 'here';
    const { owner } = this.#options;
    const where = whereabouts(task, owner);
    const namespace = where === 'elsewhere' ? namespaceHere(task, owner) : undefined;
    if (namespace === undefined) return where;
    const state = await this.#namespaces.state(namespace);
    if (state === 'gone') return 'perished';
    return state === 'seen' && (await this.#sight(work, task, namespace)) ? 'here' : 'elsewhere';
  }

  /** Looks for the supervisor in a pid namespace below ours. Recorded pids are those of that namespace: only its command line tells. */
  async #sight(work: Work, task: ProcessTask, namespace: string): Promise<boolean> {
    work.sighted = (await work.findSupervisor()) && this.#namespaces.of(work.pid!) === namespace;
    if (!work.sighted) work.pid = task.details.pid;
    return work.sighted;
  }

  /** Nothing but an exit record will tell how it ends. Unless it never began: that can be made certain from anywhere, by taking its right to run. */
  async #unreachable(task: ProcessTask): Promise<ProcessProbe | (ProcessProbe & OutOfReach)> {
    const { taskId, details } = task;
    if (details.pid === null) {
      const claim = await readClaim(this.#layout, taskId);
      // On another machine a power cut may have made the disk forget that it began.
      const nothingLives =
        namespaceHere(task, this.#options.owner) === undefined ? { state: 'gone' as const } : neverBegan;
      if (claim === 'void' || (claim === undefined && (await claimVoid(this.#layout, taskId)))) return nothingLives;
    }
    return { state: 'running', details: homeOnRecord(task), outOfReach: describeHome(task, this.#options.owner) };
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
    if (this.#disposed || !(await remakeRunFolder(this.#layout))) return;
    this.#watch.renew(this.#layout.runDir);
    // What was written before the watch began is seen by a look.
    for (const taskId of this.#works.keys()) this.#hint(taskId);
  });

  /** Still there. What a crash kept from the record goes there now. */
  async #goesOn(work: Work, task: ProcessTask): Promise<ProcessProbe> {
    if (!this.#disposed) {
      // Where the whole directory is gone, the manager finds out by itself.
      await unlessCode(['ENOENT'], this.#keepFolder());
      this.#watch.begin(this.#layout.runDir);
      if (!work.doomed) await this.#guard(work, task);
    }
    if (work.sighted) return { state: 'running', details: homeOnRecord(task) };
    return work.pid === task.details.pid ? running : { state: 'running', details: { pid: work.pid } };
  }

  async #guard(work: Work, task: AnyTask): Promise<void> {
    const { taskId, stop } = task;
    const maxBytes = limitOf(task);
    if (maxBytes === undefined || this.#limits.isArmed(taskId)) return;
    const { clock } = this.#options;
    const output = await OutputFile.of(work, this.#layout.outputPath(taskId));
    if (this.#disposed || this.#limits.isArmed(taskId)) return output.close();
    const writers = {
      freeze: async () => (attached ? undefined : freeze(work, clock)),
      thaw: async () => (attached ? undefined : thaw(work, clock)),
    };
    const isWithin = this.#limits.arm({ taskId, output, maxBytes, writers });
    // Beyond the limit the stop lets it go on. Within it, a host that was killed may have left it frozen all the same: the file was cut since.
    if (isWithin && !work.own && !stop && (await work.standsStill())) await writers.thaw();
  }

  /**
   * Whether the supervisor lives, wherever its pid was recorded. Where nothing says that it ever began, the right to run is taken away from
   * it first: a supervisor may have been started and not have come to its first line yet.
   */
  async #supervisorLives(work: Work, task: ProcessTask): Promise<boolean> {
    if (work.own || work.sighted) return work.supervisorLives();
    // Nothing but a child of our own can live where commands run attached.
    if (attached) return false;
    for (let attempt = 0; attempt < 10; attempt++) {
      // Read once: a claim that appears after this reading is that of a supervisor which begins just now.
      const claim = await readClaim(this.#layout, task.taskId);
      if (await this.#locate(work, task, claim)) return true;
      if (claim === undefined) await this.#keepFolder();
      work.refused ||=
        claim === 'void' ||
        (claim === undefined && (this.#options.readOnly || (await claimVoid(this.#layout, task.taskId))));
      if (work.refused || claim !== undefined) return false;
    }
    throw new Error(`${this.#layout.pidPath(task.taskId)} comes and goes`);
  }

  /**
   * Whether nothing of the task ever ran. It would run twice if this were said wrongly: with a pid on record its supervisor was born, and a claim
   * that is not there may have been deleted, with its folder or alone.
   */
  async #neverBegan(work: Work, task: ProcessTask, where: Whereabouts): Promise<boolean> {
    if (task.details.pid !== null) return false;
    // After a restart of the machine there is nobody left to refuse; a claim that is not there may be one that the disk forgot.
    return work.refused || (where === 'perished' && (await readClaim(this.#layout, task.taskId)) === 'void');
  }

  /** Our supervisor was refused the right to run. Where another one has it, left over from a launch that was cut short, that one is the task's. */
  async #yield(work: Work, { taskId }: ProcessTask): Promise<void> {
    const claim = await readClaim(this.#layout, taskId);
    if (typeof claim === 'number' && claim !== work.pid) work.yieldTo(claim);
  }

  /** Looks where the supervisor's pid may be recorded, and if nowhere, for the supervisor itself. */
  async #locate(work: Work, { taskId, details }: ProcessTask, claim: Claim | undefined): Promise<boolean> {
    if (await work.supervisorLives()) return true;
    if (claim !== 'unsigned') return this.#believe(work, claim ?? details.pid);
    // It may sign while we look for it, and end after that: the second reading tells.
    return (await work.findSupervisor()) || this.#believe(work, await readClaim(this.#layout, taskId));
  }

  async #believe(work: Work, pid: Claim | null | undefined): Promise<boolean> {
    if (typeof pid !== 'number' || pid === work.pid) return false;
    work.pid = pid;
    return work.supervisorLives();
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

/** The ceiling of its output in bytes, where it has one. */
function limitOf(task: AnyTask): number | undefined {
  const { maxOutputBytes } = task as unknown as TaskRecord;
  return Number.isFinite(maxOutputBytes) ? maxOutputBytes : undefined;
}

async function isTreeLeft(work: Work, where: Whereabouts, { stop }: ProcessTask): Promise<boolean> {
  return where !== 'perished' && !(await work.isGone(stop !== undefined));
}

/** Whether nothing is left of a task that is being stopped but this host, which it started, and who is between them: they cannot be stopped. */
async function isOnlyUs(work: Work, { stop }: ProcessTask): Promise<boolean> {
  return stop !== undefined && (await work.isAroundUs()) && (await work.isGone(true));
}
