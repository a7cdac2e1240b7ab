import { setImmediate } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Looks } from '../../src/lifecycle/task/looks.js';
import type { LookResult } from '../../src/lifecycle/task/subject.js';
import { FakeClock } from '../helpers/clock.js';
import { deferred } from '../helpers/manager.js';

function hinted() {
  const clock = new FakeClock();
  const looks: ReturnType<typeof deferred<LookResult>>[] = [];
  const task = {
    lookNow: () => {
      looks.push(deferred<LookResult>());
      return looks.at(-1)!.promise;
    },
    launchOver: async () => undefined,
    lookFailed: () => undefined,
  };
  return { clock, looks, under: new Looks(clock, task) };
}

it('looks again after a hint that found the work still there, and twice at most', async () => {
  const { clock, looks, under } = hinted();
  under.hint();
  for (const pause of [100, 1_000]) {
    await setImmediate();
    looks.at(-1)!.resolve('active');
    await setImmediate();
    expect(clock.nextTimerIn).toBe(pause);
    await clock.advance(pause);
  }
  looks.at(-1)!.resolve('active');
  await setImmediate();
  expect({ looks: looks.length, timers: clock.pendingTimers }).toEqual({ looks: 3, timers: 0 });
});

it('arms nothing when it was cleared during a look', async () => {
  const { clock, looks, under } = hinted();
  under.hint();
  await setImmediate();
  under.clear();
  looks[0]!.resolve('active');
  await setImmediate();
  expect(clock.pendingTimers).toBe(0);
});
