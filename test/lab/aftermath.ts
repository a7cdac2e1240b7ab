/* What is true after a host died, looked at from outside and then by the next host. */

import { BackgroundTaskManager } from 'holdfast';
import {
  brokenPromises,
  complaints,
  exitProblems,
  hookProblems,
  isTerminal,
  leftOvers,
  notOnce,
  readAcknowledged,
  readDisk,
  readLines,
  removable,
  repeated,
} from './checker.js';
import type { Trial } from './lab.js';
import { supervisors } from './processes.js';
import { until } from './until.js';
import type { Play } from './workload.js';

type Files = Pick<Play, 'directory' | 'acknowledged' | 'launched'>;

/** The files of a trial. */
export function filesOf(trial: Trial): Files {
  return { directory: trial.directory, acknowledged: trial.beside('acknowledged'), launched: trial.beside('launched') };
}

/** Opens a directory with the hooks that hosts/player.mjs knows, neither of which does anything here. */
export function reopen(directory: string, options: object = {}): Promise<BackgroundTaskManager> {
  const hooks = { note: { deliver: () => undefined, minDelayMs: 1 }, inbox: 'pull' } as const;
  return BackgroundTaskManager.open({ directory, hooks, reconcileIntervalMs: 200, ...options });
}

/** The files alone: records whole and legal, promises kept, hooks in their order. Answers how many promises there were. */
export function checkFiles(trial: Trial, when: string, health: 'well' | 'ill' = 'well'): number {
  const { directory, acknowledged } = filesOf(trial);
  const promises = readAcknowledged(acknowledged);
  const disk = readDisk(directory);
  trial.violations(when, disk.problems);
  trial.violations(when, brokenPromises(promises, disk.records));
  trial.violations(when, hookProblems(promises));
  trial.violations(when, exitProblems(disk.records));
  if (health === 'well') trial.violations(when, complaints(promises));
  return promises.length;
}

/**
 * Then the next host: it must open at once, judge everything, sweep, run what was accepted and did not run, and let nothing be begun twice or
 * called lost.
 */
export async function checkRecovery(trial: Trial, where = '', options: object = {}): Promise<void> {
  const { directory, launched } = filesOf(trial);
  checkFiles(trial, `${where}after the kill`);
  const rejected: string[] = [];
  {
    await using manager = await reopen(directory, { fsync: false, ...options });
    manager.on('record:rejected', ({ path, reason }) => void rejected.push(`${path} was rejected: ${reason}`));
    await manager.stopAll({ filter: { metadata: { endless: true } } });
    trial.check(await manager.waitForIdle({ timeoutMs: 20_000 }), `${where}not idle 20 s after reopening`);
    const { slots } = manager.status();
    trial.check(slots.used === 0, `${slots.used} slots are taken while nothing runs`);
  }
  // Who wrote down that its command ended is there for a moment more; then nothing runs that could still begin.
  await until(() => supervisors(directory).length === 0, 'no supervisor is left', 10_000);
  trial.violations(`${where}after reopening`, leftOvers(directory));
  trial.violations(`${where}after reopening`, rejected);
  checkFiles(trial, `${where}after recovery`);
  const begun = readLines(launched);
  trial.violations(`${where}begun twice`, repeated(begun));
  trial.violations(`${where}after recovery`, untrue(filesOf(trial), begun));
}

/** What was accepted ran, once, and has ended; what has no record cannot have run. */
function untrue({ directory, acknowledged }: Files, begun: readonly string[]): string[] {
  const { records } = readDisk(directory);
  const mayBeGone = removable(readAcknowledged(acknowledged));
  const active = [...records.values()].filter((record) => !isTerminal(record));
  const ids = begun.map((line) => line.split('#')[0]!);
  return [
    ...ids.filter((id) => !records.has(id) && !mayBeGone(id)).map((id) => `${id} ran and has no record`),
    ...notOnce(records, begun),
    ...active.map(({ taskId, status }) => `${taskId} is still ${status}`),
  ];
}
