/*
 * The stages of a stop. Each reaches the supervisor's group in one moment, where there is one, and everybody else of the tree one by one,
 * scanning again for those that were born or went their own way meanwhile. Where this process itself is in the group, all go one by one, and
 * it and its ancestors are left out.
 */
import type { Clock } from '../clock.js';
import { Slices } from '../util/slices.js';
import { keyOf } from './process-table.js';
import type { Work } from './work.js';

/** A tree that still grows after this long will meet the next call. */
const ROUNDS_MS = 5_000;

/** Asks everybody to end. Who is stopped (SIGSTOP) goes on, or it could not. */
export async function terminate(work: Work, clock: Clock): Promise<void> {
  const asked = new Set<string>();
  const slices = new Slices(clock);
  // Twice, for who left the group while the first scan went on. Not for longer: what comes then may be there to clean up.
  let group = await work.signalGroup('SIGTERM', 'SIGCONT');
  for (const round of [1, 2]) {
    if (round === 2) group &&= await work.supervisorLives();
    for (const row of await work.members()) {
      if ((group && row.pgid === work.pid) || asked.has(keyOf(row))) continue;
      asked.add(keyOf(row));
      await slices.pause();
      await work.signal(row, 'SIGTERM');
      await work.signal(row, 'SIGCONT');
    }
  }
}

/**
 * Ends everybody but the supervisor, until a scan finds nobody new. The supervisor stands still meanwhile, and with it its group, so that
 * nothing is born there any more; then it may write down how the command ended.
 */
export async function kill(work: Work, clock: Clock): Promise<void> {
  const supervised = (await work.signalGroup('SIGSTOP')) || (await work.signalSupervisor('SIGSTOP'));
  try {
    const killed = new Set<string>();
    const slices = new Slices(clock);
    const over = clock.monotonic() + ROUNDS_MS;
    for (let found = 1; found > 0 && clock.monotonic() < over; ) {
      found = 0;
      for (const row of await work.members()) {
        if ((supervised && row.pid === work.pid) || killed.has(keyOf(row))) continue;
        killed.add(keyOf(row));
        found++;
        await slices.pause();
        await work.signal(row, 'SIGKILL');
      }
    }
  } finally {
    await work.signalSupervisor('SIGCONT');
  }
}

/** Ends the supervisor too, and whatever is left with it: it could not write its record, or would not go. */
export async function killSupervisor(work: Work): Promise<void> {
  if (!(await work.signalGroup('SIGKILL'))) await work.signalSupervisor('SIGKILL');
}

/** Makes everybody stand still where they are, but for this process and its ancestors. */
export async function freeze(work: Work, clock: Clock): Promise<void> {
  let group = await work.signalGroup('SIGSTOP');
  const frozen = new Set<string>();
  const slices = new Slices(clock);
  const over = clock.monotonic() + ROUNDS_MS;
  for (let found = 1; found > 0 && clock.monotonic() < over; ) {
    found = 0;
    group &&= await work.supervisorLives();
    for (const row of await work.members()) {
      if ((group && row.pgid === work.pid) || frozen.has(keyOf(row))) continue;
      frozen.add(keyOf(row));
      found++;
      await slices.pause();
      await work.signal(row, 'SIGSTOP');
    }
  }
}

/** Lets everybody who stands still go on. */
export async function thaw(work: Work, clock: Clock): Promise<void> {
  const group = await work.signalGroup('SIGCONT');
  const slices = new Slices(clock);
  for (const row of await work.members()) {
    if ((group && row.pgid === work.pid) || !row.isStopped) continue;
    await slices.pause();
    await work.signal(row, 'SIGCONT');
  }
}
