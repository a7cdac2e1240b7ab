/*
 * Work that can neither be seen nor signalled from here: its supervisor lives in another container or on another machine. It still ends by its
 * exit record, should that appear; otherwise only somebody who knows more can say that it is over.
 */
import { BackgroundTaskError } from '../../errors.js';
import { cutText } from '../../task/json.js';
import { MAX_TEXT_BYTES } from '../../task/record.js';
import type { Outcome } from '../decide/finding.js';
import type { Subject } from './subject.js';

export function outOfReach({ taskId, outOfReach: found }: Subject): BackgroundTaskError {
  return new BackgroundTaskError(
    'OUT_OF_REACH',
    `the task "${taskId}" runs ${found?.where}, where this manager can neither see nor signal it: stop it there, or settle the task as lost ` +
      'without it, by stopTask(taskId, { abandon: true }) or open({ abandonAfterMs })',
    { taskId },
  );
}

/** How a task ends that is given up. */
export function abandoned(task: Subject, why: string): Outcome {
  const stopReason = cutText(`abandoned ${why} (it ran ${task.outOfReach?.where})`, MAX_TEXT_BYTES);
  return { ending: 'abandoned', endedAt: task.clock.now(), stopReason };
}
