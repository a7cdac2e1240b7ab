/* Row 15: the machine loses its power. What was acknowledged by then must be there, whatever the disk did with everything not fsynced. */
import { filesOf, reopen } from '../aftermath.js';
import { brokenPromises, complaints, type Json, readAcknowledged, readDisk, removable } from '../checker.js';
import { Host } from '../host.js';
import { checkEnd } from '../killer.js';
import { type Experiment, type Lab, range, type Trial } from '../lab.js';
import type { Random } from '../random.js';
import { type Call, Disk, type Fate } from '../replay.js';
import { mixture, type Step, script } from '../workload.js';

/** Power cuts per recorded run. */
const CUTS = { quick: 12, full: 120 };

export const powerCuts: Experiment = {
  row: 15,
  what: 'power cut, writes that were not fsynced thrown away: an acknowledged record lost',
  async run(lab) {
    await lab.trials(range(lab.size({ quick: 6, full: 60 })), (trial, index) =>
      cutPower(trial, index === 0 ? script() : mixture(trial.random, 'p', 60), lab),
    );
  },
};

async function cutPower(trial: Trial, steps: readonly Step[], lab: Lab): Promise<number> {
  const lines = await recordRun(trial, steps);
  const ends = lines.flatMap((line, index) => (line.task ? [index + 1] : []));
  const chosen = trial.random.shuffle(ends).slice(0, lab.size(CUTS));
  for (const [index, end] of chosen.entries()) {
    await cutAt(trial, lines.slice(0, end), fates(trial.random, index), trial.folderBeside(`cut-${index}`));
  }
  return chosen.length;
}

/** Calls and acknowledgements in one file, in the order in which they happened. */
async function recordRun(trial: Trial, steps: readonly Step[]): Promise<readonly Json[]> {
  const log = trial.beside('log');
  const { directory, launched } = filesOf(trial);
  const plan = { directory, launched, acknowledged: log, steps, afterwards: 'die', options: { fsync: true } };
  await using host = new Host({
    sandbox: trial.sandbox,
    script: 'player.mjs',
    plan,
    fs: { directory, mode: 'record', log },
  });
  await checkEnd(trial, host);
  const lines = readAcknowledged(log);
  trial.violations('before the power cut', complaints(lines));
  return lines;
}

/** Every second time the disk kept nothing that it had not promised to; otherwise some of it. */
function fates(random: Random, index: number): () => Fate {
  if (index % 2 === 0) return () => 'as synced';
  return () => (random.chance(0.5) ? 'as synced' : 'as written');
}

async function cutAt(trial: Trial, lines: readonly Json[], fate: () => Fate, target: string): Promise<void> {
  const disk = new Disk(trial.directory);
  for (const line of lines) if (line.call) disk.feed(line as unknown as Call);
  disk.restore(target, fate);
  const acknowledged = lines.filter((line) => !line.call);
  {
    await using manager = await reopen(target, { fsync: false });
    for (const taskId of resultsInFiles(acknowledged)) {
      const result = manager.getTask(taskId) && (await manager.readResult(taskId));
      trial.check(result !== undefined, `the result of ${taskId} was acknowledged and is gone`);
    }
  }
  const after = readDisk(target);
  trial.violations('after a power cut', after.problems);
  trial.violations('after a power cut', brokenPromises(acknowledged, after.records));
}

/** Completed function tasks without a result in their record have it in a file of its own. */
function resultsInFiles(acknowledged: readonly Json[]): Set<string> {
  const mayBeGone = removable(acknowledged);
  const completed = acknowledged.filter(
    ({ task }) => task?.kind === 'function' && task.status === 'completed' && task.result === undefined,
  );
  return new Set(completed.map(({ task }) => task.taskId).filter((taskId) => !mayBeGone(taskId)));
}
