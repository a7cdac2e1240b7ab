/*
 * The processes of one task in the process table: its supervisor, and its tree (membership.ts says which processes are
 * in it). Every pid is checked again, with the start time that goes with it, right before a signal. Out of reach are
 * other users' processes, and those that went to a new session and also wiped their environment.
 */
import { setTimeout } from 'node:timers/promises';
import { systemCode } from '../../util/system-error.js';
import { keyOf, type ProcessRow, type ProcessTable, type Snapshot } from '../table/process-table.js';
import { findSupervisor, isSupervisor } from './command-line.js';
import { type Membership, membershipOf, ownLine } from './membership.js';
import type { SeenEnd } from './outcome.js';

/** Of the pauses between two looks at a supervisor that should end: 1 ms, and twice as long each time. */
const LONGEST_PAUSE_MS = 128;

export type Signal = 'SIGTERM' | 'SIGKILL' | 'SIGSTOP' | 'SIGCONT';

/** Where a task is on disk. */
export interface TreePlaces {
  readonly runDir: string;
  readonly outputPath: string;
}

export class ProcessTree {
  readonly taskId: string;
  /** Set while the supervisor is a child of this process. */
  own = false;
  /** How our child ended. */
  end: SeenEnd | undefined;
  readonly #table: ProcessTable;
  readonly #runDir: string;
  readonly #outputPath: string;
  #pid: number | null = null;
  /** When the supervisor was last known to hold the pid, in the unit of `start`. */
  #heldUntil = Number.NaN;
  /** Members of the tree, with their start times, as the last scan found them. */
  #known: ReadonlyMap<number, string> = new Map();
  readonly #outOfReach = new Set<string>();

  constructor(taskId: string, { runDir, outputPath }: TreePlaces, table: ProcessTable) {
    this.taskId = taskId;
    this.#runDir = runDir;
    this.#outputPath = outputPath;
    this.#table = table;
  }

  /** The supervisor's pid, as recorded: verified before it is believed. */
  get pid(): number | null {
    return this.#pid;
  }
  set pid(pid: number | null) {
    if (pid !== this.#pid) this.#heldUntil = Number.NaN;
    this.#pid = pid;
  }

  /** The supervisor is our child: until its end is seen, its pid belongs to no other process. */
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

  /** Called in the turn in which the system reported it. */
  ended(end: SeenEnd): void {
    this.end = end;
    this.#holds(this.#table.now());
  }

  /** Whether the supervisor lives. Of a child that is known without looking. */
  async supervisorLives(): Promise<boolean> {
    if (this.own) return this.end === undefined;
    if (this.pid === null || this.pid <= 1) return false;
    const before = this.#table.now();
    const lives = await isSupervisor(this.#table, this.pid, this.#self);
    if (lives) this.#holds(before);
    return lives;
  }

  /** Where now cannot be told, an earlier moment stays true. */
  #holds(until: number): void {
    if (!Number.isNaN(until)) this.#heldUntil = until;
  }

  /**
   * Waits for the end of a supervisor that has nothing left to do, for a quarter of a second at most; answers whether
   * it ended.
   */
  async endsSoon(): Promise<boolean> {
    for (let pause = 1; pause <= LONGEST_PAUSE_MS; pause *= 2) {
      if (!(await this.supervisorLives())) return true;
      // Not by the injected clock: it is another process that needs the time.
      await setTimeout(pause, undefined, { ref: false });
    }
    return !(await this.supervisorLives());
  }

  /** Looks for a supervisor that nothing recorded. */
  async findSupervisor(): Promise<boolean> {
    const pid = await findSupervisor(this.#table, this.#self);
    if (pid === undefined) return false;
    this.pid = pid;
    return true;
  }

  /**
   * Whether provably nothing of the task is left. While it is being stopped, this process and its ancestors do not
   * count.
   */
  async isGone(isStopping: boolean): Promise<boolean> {
    const { members, uncertain, own, isComplete } = await this.#scan();
    const left = [...members, ...uncertain].filter((row) => !(isStopping && own.has(row.pid)));
    return left.length === 0 && isComplete;
  }

  /** Everything of the task that lives and may be signalled, its supervisor included. */
  async members(): Promise<readonly ProcessRow[]> {
    const { members, own } = await this.#scan();
    return members.filter((row) => !own.has(row.pid));
  }

  /** Whether the supervisor is an ancestor of this process, which was started by the task and cannot end it. */
  async isAroundUs(): Promise<boolean> {
    return !this.own && this.pid !== null && (await this.#ownLine()).has(this.pid);
  }

  /** Whether it may be frozen: the supervisor stands still with its group, or it is gone, and cannot be asked. */
  async standsStill(): Promise<boolean> {
    if (this.pid === null || !(await this.supervisorLives())) return true;
    return (await this.#table.row(this.pid))?.isStopped === true;
  }

  async #scan(): Promise<Membership & { readonly own: ReadonlyMap<number, ProcessRow>; readonly isComplete: boolean }> {
    const snapshot = await this.#table.snapshot();
    const tree = await this.#treeIn(snapshot);
    this.#known = new Map(tree.members.map((row) => [row.pid, row.start]));
    return {
      members: tree.members.filter((row) => !this.#outOfReach.has(keyOf(row))),
      uncertain: tree.uncertain,
      own: await ownLine((pid) => snapshot.rows.get(pid)),
      isComplete: snapshot.isComplete,
    };
  }

  /** After the scan: a process that lives now lived during all of it. */
  async #treeIn(snapshot: Snapshot): Promise<Membership> {
    const question = {
      taskId: this.taskId,
      supervisor: this.pid !== null && this.pid > 1 ? this.pid : null,
      isSessionOurs: await this.supervisorLives(),
      isLedByStranger: false,
      heldUntil: this.#heldUntil,
      known: this.#known,
    };
    if (question.isSessionOurs) return membershipOf(snapshot, question);
    const tree = membershipOf(snapshot, { ...question, isLedByStranger: await this.#isLedByStranger(snapshot) });
    return (await this.#hasWitness(tree)) ? membershipOf(snapshot, { ...question, isSessionOurs: true }) : tree;
  }

  /**
   * Asked once the supervisor is known not to live. Without arguments the leader may be the supervisor, on its way out.
   */
  async #isLedByStranger({ rows }: Snapshot): Promise<boolean> {
    const leader = this.pid === null ? undefined : rows.get(this.pid);
    if (!leader || (await this.#table.commandLine(leader.pid)) === undefined) return false;
    return (await this.#table.row(leader.pid))?.start === leader.start;
  }

  /**
   * Whether a process that is provably the task's lives in the session: a member, or one that prints to the task's
   * output.
   */
  async #hasWitness({ members, uncertain }: Membership): Promise<boolean> {
    if (uncertain.length === 0) return false;
    for (const row of members) {
      if (row.session === this.pid && (await this.#table.row(row.pid))?.start === row.start) return true;
    }
    for (const row of uncertain) {
      const prints = await this.#table.printsTo(row.pid, this.#outputPath);
      if (prints && (await this.#table.row(row.pid))?.start === row.start) return true;
    }
    return false;
  }

  #ownLine(): Promise<ReadonlyMap<number, ProcessRow>> {
    return ownLine((pid) => this.#table.row(pid));
  }

  /** Signals one process, if it is still the one that was seen. */
  async signal(row: ProcessRow, signal: Signal): Promise<void> {
    const now = await this.#table.row(row.pid);
    if (now?.start === row.start) this.#send(row.pid, signal, row);
  }

  /**
   * Signals the supervisor's group, all of it in one moment. `false`: not as a group, because there is no supervisor,
   * so that a group of its name is a stranger's, or because this process or an ancestor is in it.
   */
  async signalGroup(...signals: readonly Signal[]): Promise<boolean> {
    if (this.pid === null || (!this.own && (await this.#isInGroup()))) return false;
    if (!(await this.supervisorLives())) return false;
    for (const signal of signals) this.#send(-this.pid, signal);
    return true;
  }

  /** Signals the supervisor alone. `false`: there is none, or it is an ancestor of this process. */
  async signalSupervisor(signal: Signal): Promise<boolean> {
    if (this.pid === null || (await this.isAroundUs()) || !(await this.supervisorLives())) return false;
    this.#send(this.pid, signal);
    return true;
  }

  async #isInGroup(): Promise<boolean> {
    return [...(await this.#ownLine()).values()].some((row) => row.pgid === this.pid);
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
