/*
 * A command that runs attached, for Windows, which has no sessions, no groups and no shell of ours: it is a child of
 * this process, ends with it, and leaves no exit record. Never run on Windows.
 */
import { type SpawnOptions, spawn } from 'node:child_process';
import type { ProcessTask } from '../../task/types.js';
import { systemCode } from '../../util/system-error.js';
import { HeldOutput } from '../held-output.js';
import type { ProcessHost } from '../process-host.js';
import { taskMark } from '../table/marks.js';
import { probeElsewhere } from './elsewhere.js';
import { whereabouts } from './home.js';
import { attachedOutcome, neverBegan, recordedOutcome, type SeenEnd } from './outcome.js';
import { environment, spawnWithOutput } from './spawn.js';
import type { LaunchRequest, Look, Supervisor } from './supervisor.js';

export class AttachedSupervisor implements Supervisor {
  readonly #taskId: string;
  readonly #host: ProcessHost;
  #pid: number | undefined;
  #end: SeenEnd | undefined;

  constructor(taskId: string, host: ProcessHost) {
    this.#taskId = taskId;
    this.#host = host;
  }

  get isOwn(): boolean {
    return this.#pid !== undefined;
  }

  launch(request: LaunchRequest): Promise<number> {
    const { command, cwd, input } = request;
    const create = (stdio: SpawnOptions) => {
      const env = environment(input, taskMark(this.#host.files.runFolder.path, this.#taskId));
      const options: SpawnOptions = { ...stdio, env, windowsHide: true, ...(cwd !== null && { cwd }) };
      if (typeof command === 'string') return spawn(command, { ...options, shell: true });
      return spawn(command[0]!, command.slice(1), options);
    };
    return spawnWithOutput({
      output: this.#host.files.output(this.#taskId),
      cwd,
      create,
      checkWanted: () => request.checkWanted(),
      onBegin: (pid) => {
        this.#pid = pid;
        request.onBegin();
      },
      onEnd: (end) => {
        this.#end = end;
        request.onEnd();
      },
    });
  }

  async look(task: ProcessTask): Promise<Look> {
    if (this.#end) return { probe: attachedOutcome(this.#end), goesOn: false };
    if (this.#pid !== undefined) {
      const known = this.#pid === task.details.pid;
      return { probe: { state: 'running', ...(!known && { details: { pid: this.#pid } }) }, goesOn: true };
    }
    return { probe: await this.#lookAtStranger(task), goesOn: false };
  }

  /** A task that another host launched, maybe on another system: only what is on disk can be seen of it. */
  async #lookAtStranger(task: ProcessTask): Promise<Look['probe']> {
    const { owner, files } = this.#host;
    const runFiles = files.runFiles(this.#taskId);
    const exit = await runFiles.readExit();
    if (exit) return recordedOutcome(task, exit);
    const where = whereabouts(task, owner);
    if (where === 'elsewhere') return probeElsewhere(task, runFiles, owner);
    const isVoid = task.details.pid === null && where === 'perished' && (await runFiles.readClaim()) === 'void';
    return isVoid ? neverBegan : { state: 'gone' };
  }

  isHere(): Promise<boolean> {
    return Promise.resolve(this.#pid !== undefined && this.#end === undefined);
  }

  reach(): Promise<boolean> {
    return this.isHere();
  }

  async terminate(): Promise<void> {
    await this.kill();
  }

  /** There is no way to ask. */
  async kill(): Promise<void> {
    if (this.#pid === undefined || this.#end) return;
    try {
      process.kill(this.#pid, 'SIGKILL');
    } catch (error) {
      // It ended meanwhile, or is another user's by now.
      if (systemCode(error) !== 'ESRCH' && systemCode(error) !== 'EPERM') throw error;
    }
  }

  async killSupervisor(): Promise<void> {
    await this.kill();
  }

  /** Processes cannot be made to stand still there: the ceiling of the output ends the task a little later. */
  freeze(): Promise<void> {
    return Promise.resolve();
  }

  thaw(): Promise<void> {
    return Promise.resolve();
  }

  mayBeFrozen(): Promise<boolean> {
    return Promise.resolve(false);
  }

  holdOutput(): Promise<HeldOutput> {
    return Promise.resolve(HeldOutput.open(this.#host.files.output(this.#taskId)));
  }
}
