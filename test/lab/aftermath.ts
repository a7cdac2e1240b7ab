/* What is true after a host died, looked at from outside and then by the next host. */

import { BackgroundTaskManager } from 'holdfast';
import {
  brokenPromises,
  hookProblems,
  isTerminal,
  leftOvers,
  readAcknowledged,
  readDisk,
  readLines,
  repeated,
} from './checker.js';
import type { Trial } from './lab.js';
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

/** The files alone: records whole and legal, promises kept, hooks in their order. */
export function checkFiles(trial: Trial, when: string): void {
  const { directory, acknowledged } = filesOf(trial);
  const promises = readAcknowledged(acknowledged);
  const disk = readDisk(directory);
  trial.violations(when, disk.problems);
  trial.violations(when, brokenPromises(promises, disk.records));
  trial.violations(when, hookProblems(promises));
}

/** Then the next host: it must open at once, judge everything, sweep, and let nothing be begun twice or called lost that ran. */
export async function checkRecovery(trial: Trial): Promise<void> {
  const { directory, launched } = filesOf(trial);
  checkFiles(trial, 'after the kill');
  const rejected: string[] = [];
  {
    await using manager = await reopen(directory, { fsync: false });
    manager.on('record:rejected', ({ path, reason }) => void rejected.push(`${path} was rejected: ${reason}`));
    await manager.stopAll({ filter: { metadata: { endless: true } } });
    trial.check(await manager.waitForIdle({ timeoutMs: 20_000 }), 'not idle 20 s after reopening');
    const { slots } = manager.status();
    trial.check(slots.used === 0, `${slots.used} slots are taken while nothing runs`);
  }
  trial.violations('after reopening', leftOvers(directory));
  trial.violations('after reopening', rejected);
  checkFiles(trial, 'after recovery');
  const begun = readLines(launched);
  trial.violations('begun twice', repeated(begun));
  trial.violations('after recovery', falselyLost(filesOf(trial), begun));
}

/** Processes outlive their host: one that ran cannot be lost, and one without a record cannot have run. */
function falselyLost({ directory, acknowledged }: Files, begun: readonly string[]): string[] {
  const { records } = readDisk(directory);
  const pruning = readAcknowledged(acknowledged).some((line) => line.pruning);
  return begun.flatMap((line) => {
    if (line.includes('#')) return [];
    const record = records.get(line);
    if (!record) return pruning ? [] : [`${line} ran and has no record`];
    if (record.status === 'lost') return [`${line} ran and is called lost`];
    return isTerminal(record) ? [] : [`${line} is still ${record.status}`];
  });
}
