/*
 * The stages of a stop. Each reaches the supervisor's group in one moment, where there is one, and the other processes
 * of the tree one by one, scanning again for those that were born or left the group meanwhile. Where this process
 * itself is in the group, all are signalled one by one, and it and its ancestors are left out.
 */
import type { Clock } from '../../clock.js';
import { Slices } from '../../util/slices.js';
import { keyOf } from '../table/process-table.js';
import type { ProcessTree } from './process-tree.js';

/** A tree that still grows after this long will meet the next call. */
const ROUNDS_MS = 5_000;

/** Asks all processes to end. One that is stopped (SIGSTOP) is continued, or it could not. */
export async function terminate(tree: ProcessTree, clock: Clock): Promise<void> {
  const asked = new Set<string>();
  const slices = new Slices(clock);
  // Twice, for processes that left the group while the first scan went on. Not more often: later ones may be there to
  // clean up.
  let group = await tree.signalGroup('SIGTERM', 'SIGCONT');
  for (const round of [1, 2]) {
    if (round === 2) group &&= await tree.supervisorLives();
    for (const row of await tree.members()) {
      if ((group && row.pgid === tree.pid) || asked.has(keyOf(row))) continue;
      asked.add(keyOf(row));
      await slices.pause();
      await tree.signal(row, 'SIGTERM');
      await tree.signal(row, 'SIGCONT');
    }
  }
}

/**
 * Ends all processes but the supervisor, until a scan finds no new one. The supervisor stands still meanwhile, and with
 * it its group, so that nothing is born there any more; then it may write down how the command ended.
 */
export async function kill(tree: ProcessTree, clock: Clock): Promise<void> {
  const supervised = (await tree.signalGroup('SIGSTOP')) || (await tree.signalSupervisor('SIGSTOP'));
  try {
    const killed = new Set<string>();
    const slices = new Slices(clock);
    const over = clock.monotonic() + ROUNDS_MS;
    for (let found = 1; found > 0 && clock.monotonic() < over; ) {
      found = 0;
      for (const row of await tree.members()) {
        if ((supervised && row.pid === tree.pid) || killed.has(keyOf(row))) continue;
        killed.add(keyOf(row));
        found++;
        await slices.pause();
        await tree.signal(row, 'SIGKILL');
      }
    }
  } finally {
    await tree.signalSupervisor('SIGCONT');
  }
}

/** Ends the supervisor too, and what is left of its group: it could not write its record, or did not end. */
export async function killSupervisor(tree: ProcessTree): Promise<void> {
  if (!(await tree.signalGroup('SIGKILL'))) await tree.signalSupervisor('SIGKILL');
}

/** Makes all processes stand still, but for this process and its ancestors. */
export async function freeze(tree: ProcessTree, clock: Clock): Promise<void> {
  let group = await tree.signalGroup('SIGSTOP');
  const frozen = new Set<string>();
  const slices = new Slices(clock);
  const over = clock.monotonic() + ROUNDS_MS;
  for (let found = 1; found > 0 && clock.monotonic() < over; ) {
    found = 0;
    group &&= await tree.supervisorLives();
    for (const row of await tree.members()) {
      if ((group && row.pgid === tree.pid) || frozen.has(keyOf(row))) continue;
      frozen.add(keyOf(row));
      found++;
      await slices.pause();
      await tree.signal(row, 'SIGSTOP');
    }
  }
}

/** Continues the processes that stand still. */
export async function thaw(tree: ProcessTree, clock: Clock): Promise<void> {
  const group = await tree.signalGroup('SIGCONT');
  const slices = new Slices(clock);
  for (const row of await tree.members()) {
    if ((group && row.pgid === tree.pid) || !row.isStopped) continue;
    await slices.pause();
    await tree.signal(row, 'SIGCONT');
  }
}
