/* Kills hosts. When, is counted in what they have acknowledged: a moment by the clock means something else on every machine. */
import { statSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { filesOf } from './aftermath.js';
import type { Host } from './host.js';
import type { Trial } from './lab.js';
import { until } from './until.js';

/** Lets the host acknowledge up to `bytes`, chosen at random, and kills it a few milliseconds later. */
export async function killSometime(trial: Trial, host: Host, bytes: number): Promise<void> {
  const { acknowledged } = filesOf(trial);
  const enough = sizeOf(acknowledged) + trial.random.int(0, bytes);
  let over = false;
  void host.ended.then(() => {
    over = true;
  });
  await until(() => over || sizeOf(acknowledged) >= enough, `${enough} bytes of promises`);
  await pause(trial.random.int(0, 5));
  await host.kill();
  await checkEnd(trial, host);
}

/** It was killed, or had nothing more to do. Anything else is a crash. */
export async function checkEnd(trial: Trial, host: Host): Promise<void> {
  const end = await host.ended;
  trial.check(end === 'SIGKILL' || end === 0, `the host ended with ${end}: ${host.stderr.slice(-1_000)}`);
}

const sizeOf = (path: string) => statSync(path, { throwIfNoEntry: false })?.size ?? 0;
