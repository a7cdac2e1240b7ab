/*
 * "Look at this task": the one path by which a task is found to run on, to be adopted, or to have ended. A child's exit, a change on disk,
 * the reconcile timer, a stop and `open` all come here; none of them judges anything by itself.
 */
import { isOrphanedLegacy } from '../../task/orphan.js';
import type { TaskRecord } from '../../task/record.js';
import type { JsonObject } from '../../task/types.js';
import type { Outcome } from '../decide/finding.js';
import type { Look } from '../work/work.js';
import { abandoned, outOfReach } from './out-of-reach.js';
import type { LookResult, Subject } from './subject.js';
import { adopt, recover, requeue } from './takeover.js';

type Ended = Extract<Look, { ended: true }>;
type GoesOn = Exclude<Look, Ended>;

/** One look. Throws what the probe threw: then nothing was settled. */
export async function lookAt(task: Subject): Promise<LookResult> {
  // What `start` has not answered for yet can be neither there nor gone.
  if (!task.isActive || task.launching) return 'active';
  if (task.outcome) return settle(task, task.outcome);
  // The host of another system is gone and its work was never ours: there is nothing to probe.
  if (task.isOrphaned && isOrphanedLegacy(task.record)) return settle(task, gone(task));
  if (task.record.status === 'queued') return task.isOrphaned ? bury(task) : 'active';
  if (!task.kind) return 'active';
  const lookedAt = task.record;
  const found = withinReach(task, await task.work.look());
  if (found.ended) {
    const { ending, neverBegan } = found.outcome;
    // A supervisor that was adopted before it came to its first line may turn out to have been refused: nothing ran, whoever owns the task.
    const mayGoOn = ending === 'gone' && (task.isOrphaned || neverBegan !== undefined);
    return mayGoOn ? bury(task, found.outcome) : settle(task, found.outcome);
  }
  const { isOrphaned } = task;
  if (isOrphaned) await adopt(task, recordable(found));
  await note(task, found, lookedAt);
  return isOrphaned ? 'adopted' : 'active';
}

/** Remembers whether the work can be reached. Where it cannot for as long as this host waits, it is abandoned. */
function withinReach(task: Subject, found: Look): Look {
  const where = found.ended ? undefined : found.outOfReach;
  const now = task.clock.monotonic();
  task.outOfReach = where === undefined ? undefined : { where, since: task.outOfReach?.since ?? now };
  if (!task.outOfReach) return found;
  const { abandonAfterMs } = task.shared.settings;
  if (abandonAfterMs === undefined || now - task.outOfReach.since < abandonAfterMs) {
    task.reportOnce(outOfReach(task));
    return found;
  }
  return { ended: true, outcome: abandoned(task, `after ${abandonAfterMs} ms out of reach`) };
}

/** Nothing of it lives. What never began is queued again; what died with its owner may be begun again by its kind; the rest is lost. */
async function bury(task: Subject, outcome: Outcome = gone(task)): Promise<LookResult> {
  const neverBegan = task.record.status === 'queued' || outcome.neverBegan !== undefined;
  if (!neverBegan) {
    if (await recover(task)) return task.isActive ? 'active' : 'settled';
    return settle(task, outcome);
  }
  const answer = await requeue(task, outcome.details);
  return answer.isTaken ? 'active' : settle(task, outcome, answer.why);
}

async function settle(
  task: Subject,
  outcome: Outcome,
  why = task.isOrphaned
    ? 'its owner died, the work is gone, and nothing says how it ended'
    : 'the work is gone, and nothing says how it ended',
): Promise<LookResult> {
  const isWritten = await task.settle({
    ...outcome,
    ...(outcome.ending === 'gone' && { whyLost: why }),
    ...(task.isOrphaned && task.kind && task.work.whenHostEnds === 'goes on' && { outlivedCaller: true }),
  });
  if (!isWritten) return 'open';
  return task.record.status === 'lost' ? 'lost' : 'settled';
}

function gone(task: Subject): Outcome {
  return { ending: 'gone', endedAt: task.clock.now() };
}

/** Writes down what a probe said of work that goes on, where it says something new. */
async function note(task: Subject, { found }: GoesOn, lookedAt: TaskRecord): Promise<void> {
  if (!found) return;
  const details = found.details();
  await task.post({ is: 'standing', prompt: found.prompt, details, lookedAt, now: task.clock.now() });
  // It may have been abandoned meanwhile.
  if (!found.progress || !task.isActive) return;
  const { updatedAt: _, ...before }: Partial<NonNullable<TaskRecord['progress']>> = task.view.progress ?? {};
  if (JSON.stringify(before) !== JSON.stringify(found.progress)) task.reportProgress(found.progress);
}

/** Nonsense is no obstacle to an adoption: it is refused, and reported, by the note that follows. */
function recordable({ found }: GoesOn): JsonObject | undefined {
  try {
    return found?.details();
  } catch {
    return undefined;
  }
}
