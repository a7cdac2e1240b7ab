/*
 * What the system says about its processes, in one shape for every system. Zombies are not in it: they have ended.
 */
import type { Awaitable } from '../../task/types.js';

/** One living process. */
export interface ProcessRow {
  readonly pid: number;
  readonly ppid: number;
  readonly pgid: number;
  readonly session: number;
  /** When it started: with the pid, tells it from every other process. On Linux in clock ticks since boot. */
  readonly start: string;
  /** It stands still (SIGSTOP). */
  readonly isStopped?: boolean | undefined;
  /** The task whose mark it carries in its environment, the innermost. Only in snapshots. */
  readonly taskId?: string | undefined;
}

/** Tells one process from every other that is, was or will be. */
export function keyOf({ pid, start }: ProcessRow): string {
  return `${pid} ${start}`;
}

/** A command line as the system shows it: arguments, each followed by the separator (the last one maybe not). */
export interface CommandLine {
  readonly text: string;
  readonly separator: string;
}

export interface ProcessTable {
  /** All living processes, as they were at some moment each after this call. Calls at the same time share the work. */
  snapshot(): Promise<Snapshot>;
  /** One process as it is now; `undefined`: there is none, or it is a zombie. */
  row(pid: number): Awaitable<ProcessRow | undefined>;
  commandLine(pid: number): Awaitable<CommandLine | undefined>;
  /** Of all processes, by pid. */
  commandLines(): Promise<ReadonlyMap<number, CommandLine>>;
  /** Whether what this process prints goes to the regular file at this path. `false` also where it cannot be told. */
  printsTo(pid: number, path: string): Awaitable<boolean>;
  /** Now, in the unit of `start`; `NaN` where starts cannot be compared. */
  now(): number;
}

/** Many processes, and which session, group and task each belongs to. */
export class Snapshot {
  readonly rows = new Map<number, ProcessRow>();
  /** Whether of each it could be told which task it belongs to. */
  readonly isComplete: boolean;
  readonly #near = new Map<number, ProcessRow[]>();
  readonly #marked = new Map<string, ProcessRow[]>();

  constructor(rows: Iterable<ProcessRow>, isComplete = true) {
    this.isComplete = isComplete;
    for (const row of rows) {
      this.rows.set(row.pid, row);
      add(this.#near, row.session, row);
      if (row.pgid !== row.session) add(this.#near, row.pgid, row);
      if (row.taskId !== undefined) add(this.#marked, row.taskId, row);
    }
  }

  /** Those whose session or group is named by this pid. */
  near(pid: number): readonly ProcessRow[] {
    return this.#near.get(pid) ?? [];
  }

  /** Those that carry the mark of this task. */
  marked(taskId: string): readonly ProcessRow[] {
    return this.#marked.get(taskId) ?? [];
  }
}

function add<K>(index: Map<K, ProcessRow[]>, key: K, row: ProcessRow): void {
  const rows = index.get(key);
  if (rows) rows.push(row);
  else index.set(key, [row]);
}
