/*
 * Which processes belong to a task, in one picture of the process table. Every member is signalled by a stop, so that
 * only what is provably the task's may become one; and work that may be the task's must never be reported gone. Hence
 * three answers: a member, a stranger, or uncertain, which keeps the task alive and is never signalled.
 *
 * Members are:
 *
 * - a process that carries the task's mark in its environment;
 * - every process in the session of the supervisor (whose pid names it), once the session is known to be its own: the
 *   supervisor lives, or a member lives in it. The system gives no pid away that still names a session, so a session is
 *   the same for as long as it is not empty;
 * - a process in a session of this name that was there while the supervisor held the pid: seen by an earlier scan, or
 *   started before the last moment at which the supervisor was known to live (a process gets into a session only by
 *   being born there); and the children of such a process.
 *
 * Where none of this tells (the supervisor is dead, all processes that are left wiped their environment, and this host
 * has never seen them), the session may still be the task's, or that of a later process that was given the pid, led a
 * session, and ended. A leader that lives and is not the supervisor settles it: strangers. Otherwise they are
 * uncertain.
 *
 * This process and its ancestors can be in the tree, where a task started this host. They are never signalled. Until a
 * stop is on record they are work like any other; a stop does not wait for them, since it could not end.
 */
import type { Awaitable } from '../../task/types.js';
import type { ProcessRow, Snapshot } from '../table/process-table.js';

/** What is known of a task's processes beside the snapshot. */
export interface MembershipQuestion {
  readonly taskId: string;
  readonly supervisor: number | null;
  /**
   * Whether the supervisor, or a member in its session, was seen alive after the snapshot was taken: then the session
   * is the task's.
   */
  readonly isSessionOurs: boolean;
  /** Whether the session is led by a process that lives and is not the supervisor. */
  readonly isLedByStranger: boolean;
  /** The last moment at which the supervisor was known to hold its pid, in the unit of `start`; `NaN`: not known. */
  readonly heldUntil: number;
  readonly known: ReadonlyMap<number, string>;
}

export interface Membership {
  readonly members: readonly ProcessRow[];
  /** They may be the task's. */
  readonly uncertain: readonly ProcessRow[];
}

export function membershipOf(snapshot: Snapshot, question: MembershipQuestion): Membership {
  const { supervisor, isSessionOurs, isLedByStranger, heldUntil, known } = question;
  const members = new Map(snapshot.marked(question.taskId).map((row) => [row.pid, row]));
  const near = supervisor === null ? [] : snapshot.near(supervisor);
  const wasThere = (row: ProcessRow) =>
    known.get(row.pid) === row.start || (row.session === supervisor && Number(row.start) < heldUntil);
  for (const row of near) if (isSessionOurs || wasThere(row)) members.set(row.pid, row);
  for (let children = near; children.length > 0; ) {
    children = near.filter((row) => !members.has(row.pid) && members.has(row.ppid));
    for (const row of children) members.set(row.pid, row);
  }
  const uncertain = isLedByStranger ? [] : near.filter((row) => row.session === supervisor && !members.has(row.pid));
  return { members: [...members.values()], uncertain };
}

/**
 * This process and its ancestors. None can join later: a process that adopts an orphan was an ancestor of it before.
 */
export async function ownLine(
  rowOf: (pid: number) => Awaitable<ProcessRow | undefined>,
): Promise<ReadonlyMap<number, ProcessRow>> {
  const line = new Map<number, ProcessRow>();
  for (let row = await rowOf(process.pid); row && !line.has(row.pid); row = await rowOf(row.ppid)) {
    line.set(row.pid, row);
  }
  return line;
}
