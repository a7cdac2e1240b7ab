/*
 * What a dead owner left: work that still runs is adopted; work that never began goes back to the queue, because what was accepted runs; work
 * that died with its owner may be begun again by its kind, if the host asks for that (`recover`), and by nobody else.
 */
import type { JsonObject } from '../../task/types.js';
import { toTaskError } from '../failures.js';
import type { LaunchInput } from '../work/work.js';
import { isOpen, type Subject } from './subject.js';

/** Whether a task was queued again; where it was not, `why` says what was missing. */
export type Requeued = { readonly isTaken: true } | { readonly isTaken: false; readonly why?: string };

/**
 * The work lives: it is ours from now on. What its probe found goes on record in the same write: where the work lives could not be told from
 * the new owner alone, should that die right after.
 */
export async function adopt(task: Subject, details: JsonObject | undefined): Promise<void> {
  await task.post({ is: 'adopted', details, ...underUs(task) });
}

/**
 * A task of a dead owner that never began: it was queued, or its launch was cut short (`details` is what its probe says of the details then).
 * Only what no record holds can be missing: its kind is asked for that.
 */
export async function requeue(task: Subject, details: JsonObject | undefined): Promise<Requeued> {
  const { queue, settings } = task.shared;
  if (!task.kind || task.working.stop) return { isTaken: false };
  if (!settings.resumeQueued) {
    return { isTaken: false, why: 'its owner ended before it began, and this one was opened with resumeQueued: false' };
  }
  // Its place in the queue first: an answer that comes sooner does not overtake.
  const place = queue.enter(task.record.group, task.seq, !task.record.takesNoSlot);
  try {
    const missing = task.work.missing();
    if (missing && !(await supplied(task))) {
      return { isTaken: false, why: `its owner ended before it began, and ${missing.what} ${missing.why}` };
    }
    // A stop may have ended it meanwhile.
    if (!isOpen(task)) return { isTaken: false };
    if (task.record.status !== 'queued') await task.post({ is: 'requeued', details, ...underUs(task) });
    else task.takenOver();
    const input = task.recovery?.input;
    task.recovery = undefined;
    queue.fill(place, task, input);
    return { isTaken: true };
  } finally {
    if (!place.waiting) queue.leave(place);
  }
}

async function supplied(task: Subject): Promise<boolean> {
  task.recovery ??= await ask(task, () => task.work.resupply());
  return task.recovery !== undefined;
}

/** Whether the task's kind begins work again that had begun. Asked once for each death of an owner: the attempt is on record before it begins. */
export async function recover(task: Subject): Promise<boolean> {
  if (!task.kind || task.working.stop) return false;
  task.recovery ??= await ask(task, () => task.work.recover());
  if (!task.recovery) return false;
  await task.beginAgain(task.recovery.input);
  task.recovery = undefined;
  return true;
}

async function ask(task: Subject, question: () => Promise<LaunchInput | undefined>): Promise<LaunchInput | undefined> {
  try {
    return await question();
  } catch (error) {
    task.report(toTaskError(error, 'LAUNCH_FAILED', task.taskId));
    return undefined;
  }
}

function underUs({ clock, shared }: Subject) {
  return { owner: shared.store.owner, now: clock.now() };
}
