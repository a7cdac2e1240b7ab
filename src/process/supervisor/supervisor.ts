/*
 * What a process task needs of its supervisor. One implementation runs on POSIX systems, the other where there are no
 * sessions (Windows).
 */
import type { ProcessTask } from '../../task/types.js';
import type { HeldOutput } from '../held-output.js';
import type { ProcessInput } from '../process-spec.js';
import type { ProcessProbe } from './outcome.js';

export interface LaunchRequest {
  readonly command: string | readonly string[];
  readonly cwd: string | null;
  readonly input: ProcessInput | undefined;
  /** Called right before the process is created. Throws when the launch is no longer wanted. */
  checkWanted(): void;
  /** Called in the turn in which the process was created. */
  onBegin(): void;
  /** Called in the turn in which the system reported its end. */
  onEnd(): void;
}

/** What a look found. */
export interface Look {
  readonly probe: ProcessProbe;
  /** The work goes on, and can be watched and signalled from here. */
  readonly goesOn: boolean;
}

/** The supervisor of one task, and through it the processes of the task. Made anew for each launch. */
export interface Supervisor {
  /** Whether it is a child of this process. */
  readonly isOwn: boolean;
  /** Starts it. Answers its pid, or throws an error whose message says why it could not be started. */
  launch(request: LaunchRequest): Promise<number>;
  /** How the task goes or how it ended. */
  look(task: ProcessTask): Promise<Look>;
  /** Whether the processes of the task can be signalled from here. */
  isHere(task: ProcessTask): Promise<boolean>;
  /** Before a stop: as {@link isHere}, and looks for a supervisor that is not where the record says. */
  reach(task: ProcessTask): Promise<boolean>;
  /** Asks all processes of the task to end. */
  terminate(): Promise<void>;
  /** Ends all processes of the task but the supervisor, which may still write how the command ended. */
  kill(): Promise<void>;
  /** Ends the supervisor too. */
  killSupervisor(): Promise<void>;
  /** Makes all processes of the task stand still. */
  freeze(): Promise<void>;
  /** Lets the processes that stand still go on. */
  thaw(): Promise<void>;
  /** Whether a freeze of an earlier host may still be in force. */
  mayBeFrozen(): Promise<boolean>;
  /** The file that the output goes to, whatever has become of its name. The caller closes it. */
  holdOutput(): Promise<HeldOutput>;
}
