/*
 * The supervisor on POSIX systems: a shell in a session of its own, which outlives the host and writes down how its
 * command ended. What this process sees of it (the exit of a child, a change in a folder) is only a hint to look at
 * what is on disk.
 *
 * The order of a look is what makes it right: first whether the supervisor lives, then its exit record. The other way
 * round, one that ends in between would have left neither. While a supervisor lives its exit record is not believed:
 * the task itself could have written it, or what a former task of this id left running. The supervisor writes the last
 * word over it, and ends in the same moment.
 */
import { type SpawnOptions, spawn } from 'node:child_process';
import type { OutputFile } from '../../output/output-file.js';
import type { ExitRecord, RunFiles } from '../../store/run-files.js';
import type { ProcessTask } from '../../task/types.js';
import { HeldOutput } from '../held-output.js';
import type { ProcessHost } from '../process-host.js';
import { taskMark } from '../table/marks.js';
import { probeElsewhere } from './elsewhere.js';
import { execFailure, searchPathOf } from './exec-failure.js';
import { homeOnRecord, type Whereabouts } from './home.js';
import { neverBegan, type ProcessProbe, recordedOutcome, unrecordedOutcome } from './outcome.js';
import { ProcessTree } from './process-tree.js';
import { SupervisorSearch } from './search.js';
import { NOTHING_RAN, SHELL, supervisorArguments } from './shim.js';
import { currentUmask, environment, explainShell, spawnWithOutput } from './spawn.js';
import { freeze, kill, killSupervisor, terminate, thaw } from './stages.js';
import type { LaunchRequest, Look, Supervisor } from './supervisor.js';

export class PosixSupervisor implements Supervisor {
  readonly #host: ProcessHost;
  readonly #files: RunFiles;
  readonly #output: OutputFile;
  readonly #tree: ProcessTree;
  readonly #search: SupervisorSearch;
  /** The PATH of its command, where this process launched it. */
  #searchPath: string | undefined;

  constructor(taskId: string, host: ProcessHost) {
    this.#host = host;
    this.#files = host.files.runFiles(taskId);
    this.#output = host.files.output(taskId);
    const places = { runDir: host.files.runFolder.path, outputPath: this.#output.path };
    this.#tree = new ProcessTree(taskId, places, host.table);
    this.#search = new SupervisorSearch(this.#tree, host);
  }

  get isOwn(): boolean {
    return this.#tree.own;
  }

  launch(request: LaunchRequest): Promise<number> {
    const { command, cwd, input } = request;
    const { taskId } = this.#tree;
    const runDir = this.#host.files.runFolder.path;
    const create = (stdio: SpawnOptions) => {
      const env = environment(input, taskMark(runDir, taskId));
      const options: SpawnOptions = { ...stdio, env, detached: true, ...(cwd !== null && { cwd }) };
      return spawn(SHELL, supervisorArguments({ runDir, taskId, umask: currentUmask(), command }), options);
    };
    return spawnWithOutput({
      output: this.#output,
      cwd,
      create,
      explain: explainShell,
      checkWanted: () => request.checkWanted(),
      onBegin: (pid) => {
        this.#tree.launched(pid);
        this.#searchPath = searchPathOf(input);
        request.onBegin();
      },
      onEnd: (end) => {
        this.#tree.ended(end);
        request.onEnd();
      },
    });
  }

  async look(task: ProcessTask): Promise<Look> {
    const tree = this.#treeOf(task);
    if (tree.end?.code === NOTHING_RAN) await this.#search.yieldToClaimant();
    const where = await this.#search.whereabouts(task);
    const lived = where === 'here' && (await this.#search.lives(task)) && !(await this.#isOnlyUs(task));
    const { lives, exit } = await this.#ending(lived);
    if (exit) return over(await this.#recorded(task, exit, where));
    if (lives) return this.#goesOn(task);
    if (where === 'elsewhere') return over(await probeElsewhere(task, this.#files, this.#host.owner));
    if (await this.#isTreeLeft(task, where)) return this.#goesOn(task);
    if (tree.end) return over(unrecordedOutcome(tree.end));
    return over((await this.#search.neverBegan(task, where)) ? neverBegan : { state: 'gone' });
  }

  /**
   * Whether the supervisor lives, and what it wrote down if it does not. One that has just written it is waited for.
   */
  async #ending(lived: boolean): Promise<{ lives: boolean; exit?: ExitRecord | undefined }> {
    const exit = await this.#files.readExit();
    if (!exit || !lived) return { lives: lived, exit };
    const lives = !(await this.#tree.endsSoon());
    return lives ? { lives } : { lives, exit: await this.#files.readExit() };
  }

  /** The command has ended. With a stop on record the task has not, before its tree is empty. */
  async #recorded(task: ProcessTask, exit: ExitRecord, where: Whereabouts): Promise<ProcessProbe> {
    if (task.stop && (await this.#isTreeLeft(task, where))) return { state: 'running' };
    return recordedOutcome(task, exit, await execFailure(task.details, exit.code, this.#searchPath));
  }

  /** With what a crash kept from the record. */
  #goesOn(task: ProcessTask): Look {
    const { pid } = this.#tree;
    if (this.#search.isSighted) return { probe: { state: 'running', details: homeOnRecord(task) }, goesOn: true };
    return { probe: { state: 'running', ...(pid !== task.details.pid && { details: { pid } }) }, goesOn: true };
  }

  async #isTreeLeft({ stop }: ProcessTask, where: Whereabouts): Promise<boolean> {
    return where !== 'perished' && !(await this.#tree.isGone(stop !== undefined));
  }

  /**
   * Whether a stop has left nothing but this host, which the task started, and the processes between them: they cannot
   * be stopped.
   */
  async #isOnlyUs({ stop }: ProcessTask): Promise<boolean> {
    return stop !== undefined && (await this.#tree.isAroundUs()) && (await this.#tree.isGone(true));
  }

  async isHere(task: ProcessTask): Promise<boolean> {
    return (await this.#search.whereabouts(task)) === 'here';
  }

  async reach(task: ProcessTask): Promise<boolean> {
    this.#treeOf(task);
    if (!(await this.isHere(task))) return false;
    await this.#search.find(task);
    return true;
  }

  terminate(): Promise<void> {
    return terminate(this.#tree, this.#host.clock);
  }

  kill(): Promise<void> {
    return kill(this.#tree, this.#host.clock);
  }

  killSupervisor(): Promise<void> {
    return killSupervisor(this.#tree);
  }

  freeze(): Promise<void> {
    return freeze(this.#tree, this.#host.clock);
  }

  thaw(): Promise<void> {
    return thaw(this.#tree, this.#host.clock);
  }

  mayBeFrozen(): Promise<boolean> {
    return this.#tree.standsStill();
  }

  /**
   * What the supervisor itself has open, whatever has become of the path; the path where there is no supervisor, or no
   * /proc.
   */
  async holdOutput(): Promise<HeldOutput> {
    if (await this.#tree.supervisorLives()) {
      const held = HeldOutput.ofProcess(this.#tree.pid!, this.#output);
      // Its pid may have become a stranger's before it was opened. Of our own child that cannot be.
      if (held && (this.#tree.own || (await this.#tree.supervisorLives()))) return held;
      held?.close();
    }
    return HeldOutput.open(this.#output);
  }

  #treeOf({ details }: ProcessTask): ProcessTree {
    this.#tree.pid ??= details.pid;
    return this.#tree;
  }
}

function over(probe: ProcessProbe): Look {
  return { probe, goesOn: false };
}
