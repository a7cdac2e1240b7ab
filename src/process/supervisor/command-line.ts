/*
 * Is this process the supervisor of that task? A pid says little: it is recycled. The command line decides: it holds
 * `holdfast`, the run folder and the task's id, in this order. A zombie has no command line, and is no supervisor any
 * more.
 */
import type { CommandLine, ProcessRow, ProcessTable } from '../table/process-table.js';
import { SUPERVISOR_NAME } from './shim.js';

/** Whose supervisor is asked for. */
export interface SupervisorOf {
  readonly runDir: string;
  readonly taskId: string;
}

/**
 * Whether a command line is that of a supervisor of this task. What comes after its own arguments is the command's, and
 * never looked at.
 */
export function namesSupervisor({ text, separator }: CommandLine, { runDir, taskId }: SupervisorOf): boolean {
  const name = text.indexOf(`${separator}${SUPERVISOR_NAME}${separator}`);
  if (name < 0 || !text.slice(0, name).includes(`${separator}-c${separator}`)) return false;
  return text.startsWith(`${separator}${[SUPERVISOR_NAME, runDir, taskId, ''].join(separator)}`, name);
}

/** Whether `pid` is, now, the supervisor of this task. */
export async function isSupervisor(table: ProcessTable, pid: number, of: SupervisorOf): Promise<boolean> {
  const line = await table.commandLine(pid);
  return line !== undefined && namesSupervisor(line, of);
}

/**
 * The pid of the task's supervisor, looked for by its command line, for when nothing recorded it. Its subshell has the
 * same command line until it has become the command: the supervisor is the one that leads the session, or at least is
 * no child of another.
 */
export async function findSupervisor(table: ProcessTable, of: SupervisorOf): Promise<number | undefined> {
  const { rows } = await table.snapshot();
  const found = new Map<number, ProcessRow>();
  for (const [pid, line] of await table.commandLines()) {
    const row = namesSupervisor(line, of) ? rows.get(pid) : undefined;
    if (row) found.set(pid, row);
  }
  const candidates = [...found.values()];
  const supervisor =
    candidates.find((row) => row.session === row.pid) ?? candidates.find((row) => !found.has(row.ppid));
  return supervisor?.pid;
}
