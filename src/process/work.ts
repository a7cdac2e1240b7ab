/*
 * The processes of one task: its supervisor, and its tree. Whoever is in the tree is believed to be the task's work and is signalled by a
 * stop, so that nothing may get in that is not provably the task's:
 *
 * - a process that carries the task's mark in its environment;
 * - a process in the supervisor's session or group, while the supervisor is known to live: then its pid, which names both, is its own;
 * - once it is gone, only those that were there before it went: seen by an earlier scan, or started before its end was seen (a process
 *   can get into a session only by being born there), and the children of such.
 *
 * Every pid is checked again, with the start time that goes with it, right before a signal. Out of reach are other users' processes, and
 * those that went to a new session and also wiped their environment.
 */
import { systemCode } from '../store/failure.js';
import { findSupervisor, isSupervisor } from './identity.js';
import { keyOf, type ProcessRow, type ProcessTable, type Snapshot } from './process-table.js';

export type Signal = 'SIGTERM' | 'SIGKILL' | 'SIGSTOP' | 'SIGCONT';

/** How a supervisor ended, as its parent saw it. */
export interface SeenEnd {
  readonly code: number | null;
  readonly signal: string | null;
}

export class Work {
  readonly taskId: string;
  /** Set while the supervisor is a child of this process. */
  own = false;
  /** The supervisor's pid, as recorded: verified before it is believed. */
  pid: number | null = null;
  /** How our child ended. */
  end: SeenEnd | undefined;
  /** The right to run was taken away before any supervisor had it: nothing ran, and nothing will. */
  refused = false;
  /** It is being killed: nothing else has to hold it back any more. */
  doomed = false;
  readonly #table: ProcessTable;
  readonly #runDir: string;
  #endedAt = Number.NaN;
  /** Members of the tree, with their start times, as the last scan found them. */
  #known: ReadonlyMap<number, string> = new Map();
  readonly #outOfReach = new Set<string>();
  /** Whether the last scan could tell of everybody whose they are. */
  #isCertain = true;

  constructor(taskId: string, runDir: string, table: ProcessTable) {
    this.taskId = taskId;
    this.#runDir = runDir;
    this.#table = table;
  }

  /** The supervisor is our child: until its end is seen, its pid belongs to nobody else. */
  launched(pid: number): void {
    this.own = true;
    this.pid = pid;
  }

  /** Another supervisor of this task, which is no child of ours, has the right to run. */
  yieldTo(pid: number): void {
    this.own = false;
    this.end = undefined;
    this.pid = pid;
  }

  /** Called in the turn in which the system told us. */
  ended(end: SeenEnd): void {
    this.end = end;
    this.#endedAt = this.#table.now();
  }

  /** Whether the supervisor lives. Of a child that is known without looking. */
  async supervisorLives(): Promise<boolean> {
    if (this.own) return this.end === undefined;
    return this.pid !== null && this.pid > 1 && (await isSupervisor(this.#table, this.pid, this.#self));
  }

  /** Looks for a supervisor that nothing recorded. */
  async findSupervisor(): Promise<boolean> {
    const pid = await findSupervisor(this.#table, this.#self);
    if (pid === undefined) return false;
    this.pid = pid;
    return true;
  }

  /** Whether provably nothing of the task is left. */
  async isGone(): Promise<boolean> {
    return (await this.members()).length === 0 && this.#isCertain;
  }

  /** Everything of the task that lives, its supervisor included. */
  async members(): Promise<readonly ProcessRow[]> {
    const snapshot = await this.#table.snapshot();
    // After the scan: a supervisor that lives now lived during all of it.
    const verified = await this.supervisorLives();
    const members = treeOf(snapshot, {
      taskId: this.taskId,
      supervisor: this.pid,
      verified,
      endedAt: this.#endedAt,
      known: this.#known,
    });
    this.#isCertain = snapshot.isComplete;
    this.#known = new Map(members.map((row) => [row.pid, row.start]));
    return members.filter((row) => !this.#outOfReach.has(keyOf(row)));
  }

  /** Signals one process, if it is still the one that was seen. */
  async signal(row: ProcessRow, signal: Signal): Promise<void> {
    const now = await this.#table.row(row.pid);
    if (now?.start === row.start) this.#send(row.pid, signal, row);
  }

  /** Signals the supervisor's group, all of it in one moment. `false`: there is no supervisor, and a group of its name is a stranger's. */
  async signalGroup(...signals: readonly Signal[]): Promise<boolean> {
    if (this.pid === null || !(await this.supervisorLives())) return false;
    for (const signal of signals) this.#send(-this.pid, signal);
    return true;
  }

  /** Signals the supervisor alone. */
  async signalSupervisor(signal: Signal): Promise<void> {
    if (this.pid !== null && (await this.supervisorLives())) this.#send(this.pid, signal);
  }

  get #self() {
    return { runDir: this.#runDir, taskId: this.taskId };
  }

  #send(pid: number, signal: Signal, row?: ProcessRow): void {
    try {
      process.kill(pid, signal);
    } catch (error) {
      // It ended meanwhile.
      if (systemCode(error) === 'ESRCH') return;
      if (systemCode(error) !== 'EPERM') throw error;
      if (row) this.#outOfReach.add(keyOf(row));
    }
  }
}

/** What is known of a task's processes beside the snapshot. */
export interface TreeQuestion {
  readonly taskId: string;
  readonly supervisor: number | null;
  /** Whether the supervisor was seen alive after the snapshot was taken. */
  readonly verified: boolean;
  /** When its end was seen, in the unit of `start`; `NaN`: not known. */
  readonly endedAt: number;
  readonly known: ReadonlyMap<number, string>;
}

/** The members of a task's tree: see the top of this file. */
export function treeOf(snapshot: Snapshot, question: TreeQuestion): ProcessRow[] {
  const { supervisor, verified, endedAt, known } = question;
  const members = new Map(snapshot.marked(question.taskId).map((row) => [row.pid, row]));
  const near = supervisor === null ? [] : snapshot.near(supervisor);
  const wasThere = (row: ProcessRow) =>
    known.get(row.pid) === row.start || (row.session === supervisor && Number(row.start) < endedAt);
  for (const row of near) if (verified || wasThere(row)) members.set(row.pid, row);
  for (let children = near; children.length > 0; ) {
    children = near.filter((row) => !members.has(row.pid) && members.has(row.ppid));
    for (const row of children) members.set(row.pid, row);
  }
  return [...members.values()];
}
