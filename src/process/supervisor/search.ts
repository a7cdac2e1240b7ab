/*
 * Where the supervisor of one task is: whether it lives, whether it can be reached from here, and whether there ever
 * was one.
 */
import type { Claim, RunFiles } from '../../store/run-files.js';
import type { ProcessTask } from '../../task/types.js';
import type { ProcessHost } from '../process-host.js';
import { namespaceHere, type Whereabouts, whereabouts } from './home.js';
import type { ProcessTree } from './process-tree.js';

const MAX_READINGS = 10;

export class SupervisorSearch {
  readonly #tree: ProcessTree;
  readonly #host: ProcessHost;
  readonly #files: RunFiles;
  /**
   * The supervisor lives in a pid namespace below ours, and was found in our process table: the tree has the pid that
   * it has in ours.
   */
  #isSighted = false;
  /** The right to run was taken away before any supervisor had it: nothing ran, and nothing will. */
  #isRefused = false;

  constructor(tree: ProcessTree, host: ProcessHost) {
    this.#tree = tree;
    this.#host = host;
    this.#files = host.files.runFiles(tree.taskId);
  }

  /** Whether the supervisor was found in a pid namespace below ours. */
  get isSighted(): boolean {
    return this.#isSighted;
  }

  /** Where the supervisor lives, as far as it can be told from here. */
  async whereabouts(task: ProcessTask): Promise<Whereabouts> {
    if (this.#tree.own || this.#isSighted) return 'here';
    const { owner, namespaces } = this.#host;
    const where = whereabouts(task, owner);
    const namespace = where === 'elsewhere' ? namespaceHere(task, owner) : undefined;
    if (namespace === undefined) return where;
    const state = await namespaces.state(namespace);
    if (state === 'gone') return 'perished';
    return state === 'seen' && (await this.#sight(task, namespace)) ? 'here' : 'elsewhere';
  }

  /**
   * Looks for the supervisor in a pid namespace below ours. Recorded pids are those of that namespace: only its command
   * line tells.
   */
  async #sight(task: ProcessTask, namespace: string): Promise<boolean> {
    const found = await this.#tree.findSupervisor();
    this.#isSighted = found && this.#host.namespaces.of(this.#tree.pid!) === namespace;
    if (!this.#isSighted) this.#tree.pid = task.details.pid;
    return this.#isSighted;
  }

  /**
   * Whether the supervisor lives, wherever its pid was recorded. Where nothing says that it ever began, the right to
   * run is taken away from it first: a supervisor may have been started and not have come to its first line yet.
   */
  async lives(task: ProcessTask): Promise<boolean> {
    if (this.#tree.own || this.#isSighted) return this.#tree.supervisorLives();
    for (let reading = 0; reading < MAX_READINGS; reading++) {
      // Read once: a claim that appears after this reading is that of a supervisor which begins just now.
      const claim = await this.#files.readClaim();
      if (await this.#locate(task, claim)) return true;
      if (claim === undefined) await this.#host.keepFolder();
      this.#isRefused ||= claim === 'void' || (claim === undefined && (await this.#refuse()));
      if (this.#isRefused || claim !== undefined) return false;
    }
    throw new Error(`the claim of ${task.taskId} in ${this.#host.files.runFolder.path} comes and goes`);
  }

  /**
   * Takes the right to run from a supervisor that may still come. A look that changes nothing cannot, and says what an
   * owner would find.
   */
  async #refuse(): Promise<boolean> {
    return this.#host.isReadOnly || (await this.#files.claimVoid());
  }

  /**
   * Whether nothing of the task ever ran. It would run twice if this were said wrongly: with a pid on record its
   * supervisor was born, and a claim that is not there may have been deleted, with its folder or alone.
   */
  async neverBegan(task: ProcessTask, where: Whereabouts): Promise<boolean> {
    if (task.details.pid !== null) return false;
    // After a restart of the machine no supervisor is left to refuse; a claim that is not there may be one that the
    // disk forgot.
    return this.#isRefused || (where === 'perished' && (await this.#files.readClaim()) === 'void');
  }

  /**
   * Our supervisor was refused the right to run. Where another one has it, left over from a launch that was cut short,
   * that one counts.
   */
  async yieldToClaimant(): Promise<void> {
    const claim = await this.#files.readClaim();
    if (typeof claim === 'number' && claim !== this.#tree.pid) this.#tree.yieldTo(claim);
  }

  /** Before a stop: where a pid on record is not that of a living supervisor, the supervisor is looked for. */
  async find(task: ProcessTask): Promise<void> {
    if (!this.#tree.own && !this.#isSighted) await this.#locate(task, await this.#files.readClaim());
  }

  /** Looks where the supervisor's pid may be recorded, and if it is not recorded, for the supervisor itself. */
  async #locate({ details }: ProcessTask, claim: Claim | undefined): Promise<boolean> {
    if (await this.#tree.supervisorLives()) return true;
    if (claim !== 'unsigned') return this.#believe(claim ?? details.pid);
    // It may sign while we look for it, and end after that: the second reading tells.
    return (await this.#tree.findSupervisor()) || this.#believe(await this.#files.readClaim());
  }

  async #believe(pid: Claim | null | undefined): Promise<boolean> {
    if (typeof pid !== 'number' || pid === this.#tree.pid) return false;
    this.#tree.pid = pid;
    return this.#tree.supervisorLives();
  }
}
