import type { RunFiles } from '../../store/run-files.js';
import type { OutOfReach } from '../../task/kind-runtime.js';
import type { OwnerIdentity, ProcessTask } from '../../task/types.js';
import { describeHome, homeOnRecord, namespaceHere } from './home.js';
import { neverBegan, type ProcessProbe } from './outcome.js';

/**
 * How a task goes whose supervisor lives where it can be neither seen nor signalled: nothing but an exit record will
 * tell how it ends. Unless it never began: that can be made certain from anywhere, by taking its right to run.
 */
export async function probeElsewhere(
  task: ProcessTask,
  files: RunFiles,
  owner: OwnerIdentity,
): Promise<ProcessProbe | (ProcessProbe & OutOfReach)> {
  if (task.details.pid === null) {
    const claim = await files.readClaim();
    // On another machine a power cut may have made the disk forget that it began.
    const nothingLives = namespaceHere(task, owner) === undefined ? { state: 'gone' as const } : neverBegan;
    if (claim === 'void' || (claim === undefined && (await files.claimVoid()))) return nothingLives;
  }
  return { state: 'running', details: homeOnRecord(task), outOfReach: describeHome(task, owner) };
}
