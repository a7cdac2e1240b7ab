/* Where the supervisor of a task is: whether it lives, whether it can be reached from here, and whether there ever was one. */
import type { Clock } from '../clock.js';
import type { TaskFiles } from '../store/contract.js';
import type { Claim } from '../store/run-files.js';
import type { NeverBegan, OutOfReach } from '../task/kind.js';
import type { OwnerIdentity, ProcessTask } from '../task/types.js';
import { describeHome, homeOnRecord, namespaceHere, type Whereabouts, whereabouts } from './home.js';
import type { ProcessProbe } from './outcome.js';
import { PidNamespaces } from './pid-namespaces.js';
import { attached } from './shim.js';
import type { Work } from './work.js';

/** Nobody ever had the right to run it, and nobody can get it any more. */
export const neverBegan: ProcessProbe & NeverBegan = { state: 'gone', neverBegan: true, details: { pid: null } };

export interface SearchOptions {
  readonly files: TaskFiles;
  readonly owner: OwnerIdentity;
  readonly clock: Clock;
  /** The right to run is taken from nobody. */
  readonly readOnly: boolean;
  /** Makes a run folder that was deleted again. */
  readonly keepFolder: () => Promise<void>;
}

export class SupervisorSearch {
  readonly #files: TaskFiles;
  readonly #owner: OwnerIdentity;
  readonly #readOnly: boolean;
  readonly #namespaces: PidNamespaces;
  readonly #keepFolder: () => Promise<void>;

  constructor({ files, owner, clock, readOnly, keepFolder }: SearchOptions) {
    this.#files = files;
    this.#owner = owner;
    this.#readOnly = readOnly;
    this.#keepFolder = keepFolder;
    this.#namespaces = new PidNamespaces(owner.pidNamespace, clock);
  }

  /** Where the supervisor lives, as far as it can be told from here. */
  async whereabouts(work: Work, task: ProcessTask): Promise<Whereabouts> {
    if (work.own || work.sighted) return 'here';
    const where = whereabouts(task, this.#owner);
    const namespace = where === 'elsewhere' ? namespaceHere(task, this.#owner) : undefined;
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
  async unreachable(task: ProcessTask): Promise<ProcessProbe | (ProcessProbe & OutOfReach)> {
    const { taskId, details } = task;
    if (details.pid === null) {
      const claim = await this.#files.runFiles(taskId).readClaim();
      // On another machine a power cut may have made the disk forget that it began.
      const nothingLives = namespaceHere(task, this.#owner) === undefined ? { state: 'gone' as const } : neverBegan;
      if (claim === 'void' || (claim === undefined && (await this.#files.runFiles(taskId).claimVoid())))
        return nothingLives;
    }
    return { state: 'running', details: homeOnRecord(task), outOfReach: describeHome(task, this.#owner) };
  }

  /**
   * Whether the supervisor lives, wherever its pid was recorded. Where nothing says that it ever began, the right to run is taken away from
   * it first: a supervisor may have been started and not have come to its first line yet.
   */
  async lives(work: Work, task: ProcessTask): Promise<boolean> {
    if (work.own || work.sighted) return work.supervisorLives();
    // Nothing but a child of our own can live where commands run attached.
    if (attached) return false;
    for (let attempt = 0; attempt < 10; attempt++) {
      // Read once: a claim that appears after this reading is that of a supervisor which begins just now.
      const claim = await this.#files.runFiles(task.taskId).readClaim();
      if (await this.#locate(work, task, claim)) return true;
      if (claim === undefined) await this.#keepFolder();
      work.refused ||=
        claim === 'void' ||
        (claim === undefined && (this.#readOnly || (await this.#files.runFiles(task.taskId).claimVoid())));
      if (work.refused || claim !== undefined) return false;
    }
    throw new Error(`the claim of ${task.taskId} in ${this.#files.runFolder.path} comes and goes`);
  }

  /**
   * Whether nothing of the task ever ran. It would run twice if this were said wrongly: with a pid on record its supervisor was born, and a claim
   * that is not there may have been deleted, with its folder or alone.
   */
  async neverBegan(work: Work, task: ProcessTask, where: Whereabouts): Promise<boolean> {
    if (task.details.pid !== null) return false;
    // After a restart of the machine there is nobody left to refuse; a claim that is not there may be one that the disk forgot.
    return work.refused || (where === 'perished' && (await this.#files.runFiles(task.taskId).readClaim()) === 'void');
  }

  /** Our supervisor was refused the right to run. Where another one has it, left over from a launch that was cut short, that one is the task's. */
  async yieldTo(work: Work, { taskId }: ProcessTask): Promise<void> {
    const claim = await this.#files.runFiles(taskId).readClaim();
    if (typeof claim === 'number' && claim !== work.pid) work.yieldTo(claim);
  }

  /** Before a stop: where a pid on record is not that of a living supervisor, the supervisor is looked for. */
  async find(work: Work, task: ProcessTask): Promise<void> {
    if (!work.own && !work.sighted) await this.#locate(work, task, await this.#files.runFiles(task.taskId).readClaim());
  }

  /** Looks where the supervisor's pid may be recorded, and if nowhere, for the supervisor itself. */
  async #locate(work: Work, { taskId, details }: ProcessTask, claim: Claim | undefined): Promise<boolean> {
    if (await work.supervisorLives()) return true;
    if (claim !== 'unsigned') return this.#believe(work, claim ?? details.pid);
    // It may sign while we look for it, and end after that: the second reading tells.
    return (await work.findSupervisor()) || this.#believe(work, await this.#files.runFiles(taskId).readClaim());
  }

  async #believe(work: Work, pid: Claim | null | undefined): Promise<boolean> {
    if (typeof pid !== 'number' || pid === work.pid) return false;
    work.pid = pid;
    return work.supervisorLives();
  }
}
