/*
 * From a record that says `running` to work that runs. The record is on disk before the work begins: a crash in between leaves a
 * `running` task whose kind finds that nothing runs, never work without a record.
 */
import { asError, BackgroundTaskError } from '../../errors.js';
import { describeError } from '../../task/task-error.js';
import { isOver, toTaskError } from '../failures.js';
import type { HeldSlot } from '../slots.js';
import { failure, limited } from '../work/answers.js';
import { Launching } from './launching.js';
import type { Subject } from './subject.js';

/** A task whose launch can be begun and ended. */
export interface Launchable extends Subject {
  launching: Launching | undefined;
  /** It has this slot, or none. */
  hold(slot: HeldSlot | undefined): void;
}

/** The first launch of a new task, awaited by whoever registers it. Throws `LAUNCH_FAILED` once that is on record, too. */
export async function beginNew(task: Launchable, slot: HeldSlot | undefined, input: unknown): Promise<void> {
  task.hold(slot);
  await during(task, async (launching) => {
    await task.post({ is: 'begun', ...now(task) });
    await launch(task, launching, input, true);
  });
}

/** The launch of a task that was queued. `deferred`: its record could not be written, and it waits on. */
export async function beginQueued(
  task: Launchable,
  slot: HeldSlot | undefined,
  input: unknown,
): Promise<'deferred' | 'over'> {
  const { lifetime } = task.shared;
  // A task that was judged while queued (stopped, timed out) must not begin, even if that is not on disk yet.
  if (task.outcome || !task.isActive || lifetime.isClosing) {
    slot?.release();
    return task.isActive && !task.outcome ? 'deferred' : 'over';
  }
  task.hold(slot);
  return during(task, async (launching) => {
    try {
      await task.post({ is: 'begun', ...now(task) });
    } catch (error) {
      task.reportOnce(error);
      task.hold(undefined);
      return 'deferred';
    }
    if (task.record.status !== 'running') await endUnbegun(task);
    // Closed while its record was written: its work never began.
    else if (lifetime.isClosing) await giveUp(task);
    else await launch(task, launching, input, false);
    return 'over';
  });
}

/** Another attempt of a task whose work died with its owner. A launch that hangs goes on, but `open` does not wait for it for ever. */
export async function beginAgain(task: Launchable, input: unknown): Promise<void> {
  let isOnRecord = false;
  const launched = during(task, async (launching) => {
    await task.shared.store.clear(task.taskId);
    await task.post({ is: 'recovered', ...now(task) });
    isOnRecord = true;
    await launch(task, launching, input, false);
  });
  try {
    await limited(task.clock, 'start', launched);
  } catch (error) {
    if (!isOnRecord) throw error;
    task.report(toTaskError(error, 'LAUNCH_FAILED', task.taskId));
  }
}

/** Nobody looks at the task meanwhile: what is being launched can be neither there nor gone. */
async function during<T>(task: Launchable, work: (launching: Launching) => Promise<T>): Promise<T> {
  const launching = new Launching();
  task.launching = launching;
  try {
    return await work(launching);
  } finally {
    task.launching = undefined;
    launching.end();
  }
}

async function launch(task: Launchable, launching: Launching, input: unknown, callerWaits: boolean): Promise<void> {
  const { lifetime, news } = task.shared;
  if (lifetime.isClosing) launching.abort(closing());
  try {
    const learnt = await task.work.launch(input, launching);
    if (learnt) task.note({ details: { ...task.record.details, ...learnt } });
  } catch (error) {
    if (!callerWaits && lifetime.isClosing && asError(error).name === 'AbortError') return giveUp(task);
    throw await failed(task, error, callerWaits);
  }
  try {
    await task.post({ is: 'launched' });
  } catch (error) {
    // The work runs: what it learnt goes on record with the next write.
    if (isOver(error)) throw error;
    task.reportOnce(error);
    news.emit('task:started', { task: task.view });
  }
  task.work.started();
}

/** Why launches under way are aborted when the manager closes. */
export function closing(): DOMException {
  return new DOMException('the manager is closing', 'AbortError');
}

/** The manager closes before this work began: it is queued again, for the next owner. One that is being stopped ends instead. */
async function giveUp(task: Launchable): Promise<void> {
  if (task.working.stop) await endUnbegun(task);
  else await task.post({ is: 'requeued', ...now(task) });
}

async function endUnbegun(task: Launchable): Promise<void> {
  // It was never `running`: its end gives no slot back.
  if (task.record.status === 'queued') task.hold(undefined);
  await task.settle({ ending: 'gone', endedAt: task.clock.now(), neverBegan: 'nobody was told' });
}

async function failed(task: Launchable, error: unknown, callerWaits: boolean): Promise<BackgroundTaskError> {
  await task.settle({
    ...failure(describeError(error)),
    endedAt: task.clock.now(),
    neverBegan: callerWaits ? 'caller was told' : 'nobody was told',
  });
  const message = `could not start "${task.record.description}": ${describeError(error).message}`;
  return new BackgroundTaskError('LAUNCH_FAILED', message, { cause: error, taskId: task.taskId });
}

function now({ clock, shared }: Subject) {
  return { owner: shared.store.owner, now: clock.now() };
}
