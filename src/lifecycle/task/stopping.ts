/*
 * Stopping a task: look first (what has ended is never called stopped), put the stop on record, ask the work to end, and when the grace
 * is over end it. The task is terminal only when a look finds its work gone.
 */
import { delay } from '../../clock.js';
import { BackgroundTaskError } from '../../errors.js';
import { cutText } from '../../task/json.js';
import { MAX_TEXT_BYTES } from '../../task/record.js';
import type { StopCause, TaskStop } from '../../task/types.js';
import { isOver, toTaskError } from '../failures.js';
import { abortReason } from '../work/function-work.js';
import { abandoned, outOfReach } from './out-of-reach.js';
import type { Subject } from './subject.js';

/** How to stop, and what to say about it. */
export interface StopOptions {
  /** Why, for people: `stop.reason` and `stopReason` on record. Blank: none. Cut at 8 KiB. */
  reason?: string | undefined;
  /** From the stop on record to SIGKILL, or to giving in-process work up, in milliseconds. Minimum 0. Default: the manager's `stopGraceMs`. */
  graceMs?: number | undefined;
  /** `true`: owed hooks are withdrawn in the same write. Default `false`. */
  skipHooks?: boolean | undefined;
}

export interface StopRequest extends StopOptions {
  readonly cause: StopCause;
  /** Work that is out of reach is given up instead. */
  readonly abandon?: boolean | undefined;
  /** Asked before the stop goes on record, and in its turn once more: a launch or a detach may have made it pointless. Default: it is wanted. */
  readonly isWanted?: () => boolean;
}

/** A `start` that takes longer is told of a stop; until then the stop waits for what it launches. */
const LAUNCH_PATIENCE_MS = 100;

/** Resolves once the stop is on record and under way, or the task has ended. */
export async function stop(task: Subject, request: StopRequest): Promise<void> {
  let wanted = request;
  for (let isFree = false; !isFree; isFree = !task.launching) {
    // Once it is on record it is carried out, whatever came of the launch.
    if (task.launching && (await interruptLaunch(task, wanted))) wanted = { ...request, isWanted: () => true };
    await task.launching?.over;
    await task.lookOver();
  }
  return begin(task, wanted);
}

/** A launch that hangs must not keep a stop from being put on record, nor from reaching `start`. Answers whether this stop is the first. */
async function interruptLaunch(task: Subject, request: StopRequest): Promise<boolean> {
  const { launching, work, clock } = task;
  if (!launching || (!work.canStop && request.cause === 'user')) return false;
  const over = new AbortController();
  await Promise.race([
    launching.over,
    delay(clock, LAUNCH_PATIENCE_MS, over.signal).catch(() => undefined), // it was launched
  ]);
  over.abort();
  if (task.launching !== launching || task.outcome || request.isWanted?.() === false) return false;
  const isOurs = await record(task, request);
  const { stop: onRecord } = task.working;
  if (onRecord) launching.abort(abortReason(onRecord));
  return isOurs;
}

async function begin(task: Subject, request: StopRequest): Promise<void> {
  if (!task.isActive || request.isWanted?.() === false) return;
  const { work } = task;
  if (isQueued(task)) return dequeue(task, request);
  if (!work.canStop && request.cause === 'user') throw cannotBeStopped(task);
  const { skipHooks } = task.unwritten;
  // Before the look: what that finds ended owes no hook either.
  if (request.skipHooks) task.note({ skipHooks: true });
  await lookFirst(task);
  // What has ended is never called stopped, even while its outcome cannot be written.
  if (!task.isActive || task.outcome) return;
  // The look may have put a task back into the queue that never began.
  if (task.launching || isQueued(task)) return stop(task, request);
  if (task.outOfReach && request.abandon) return abandon(task, request);
  if (task.outOfReach && isAskedFor(request)) {
    if (!skipHooks) task.forget('skipHooks');
    throw outOfReach(task);
  }
  // A deadline goes on record all the same: how work ended that nobody could stop is judged by it.
  await record(task, request);
  // It may have ended, or been detached, while the stop waited for its turn.
  if (!task.isActive || !task.working.stop) return;
  if (work.canStop && !task.outOfReach) task.carryOut(request.graceMs ?? task.shared.settings.stopGraceMs);
}

function isQueued({ record }: Subject): boolean {
  return record.status === 'queued';
}

function cannotBeStopped({ kind, taskId }: Subject): BackgroundTaskError {
  const message = `tasks of the kind "${kind?.name}" cannot be stopped: the kind defines no stop`;
  return new BackgroundTaskError('INVALID_SPEC', message, { taskId });
}

async function abandon(task: Subject, { reason }: StopRequest): Promise<void> {
  await task.settle(abandoned(task, reason?.trim() ? `out of reach: ${reason}` : 'out of reach'));
}

/** A probe that fails must not keep the task from being stopped. */
async function lookFirst(task: Subject): Promise<void> {
  try {
    await task.look();
  } catch (error) {
    if (isOver(error)) throw error;
    task.reportOnce(toTaskError(error, 'STORAGE_FAILED', task.taskId));
  }
  task.shared.lifetime.assertWritable();
}

/** A queued task has nothing to signal: it ends with its stop in one write, and from this moment it must not start. */
async function dequeue(task: Subject, request: StopRequest): Promise<void> {
  task.shared.queue.remove(task);
  if (!task.outcome) task.note({ stop: task.working.stop ?? stopOf(task, request) });
  if (request.skipHooks) task.note({ skipHooks: true });
  await task.settle({ ending: 'gone', endedAt: task.clock.now() });
}

/**
 * The first cause stays. A disk that refuses does not save the work: the stop is kept in memory and written with the outcome. Answers
 * whether this stop is the first of a task that goes on.
 */
async function record(task: Subject, request: StopRequest): Promise<boolean> {
  const ours = stopOf(task, request);
  const skipHooks = request.skipHooks === true;
  if (task.working.stop && !skipHooks) return false;
  try {
    await task.post({ is: 'stopped', stop: ours, skipHooks, isWanted: request.isWanted });
  } catch (error) {
    if (isOver(error)) throw error;
    task.note({ stop: task.working.stop ?? ours, ...(skipHooks && { skipHooks }) });
    task.reportOnce(error);
  }
  return task.isActive && task.working.stop === ours;
}

function stopOf({ clock }: Subject, { cause, reason }: StopRequest): TaskStop {
  const text = reason?.trim() ? cutText(reason, MAX_TEXT_BYTES) : undefined;
  return { cause, ...(text !== undefined && { reason: text }), requestedAt: clock.now() };
}

/** Carries on with a stop that is on record already, and that nobody carries out: the owner that wrote it died. */
export function resumeStop(task: Subject): void {
  const { stop: onRecord } = task.working;
  if (!onRecord || !task.kind || !task.isActive || task.outOfReach || task.launching || !task.work.canStop) return;
  const { stopGraceMs } = task.shared.settings;
  const dueIn = onRecord.requestedAt + stopGraceMs - task.clock.now();
  task.carryOut(Math.min(Math.max(dueIn, 0), stopGraceMs));
}

/** Whether a caller waits for this stop, rather than a limit of the task. */
function isAskedFor({ cause }: StopRequest): boolean {
  return cause === 'user' || cause === 'shutdown';
}
