import { describe, expect, it } from 'vitest';
import { delay } from '../../src/clock.js';
import { FakeClock } from './clock.js';

describe('FakeClock', () => {
  it('fires in the order in which timers are due, each at its own time', async () => {
    const clock = new FakeClock(1_000);
    const fired: [string, number, number][] = [];
    const note = (name: string) => () => fired.push([name, clock.now(), clock.monotonic()]);
    clock.after(30, note('c'));
    clock.after(10, note('a'));
    clock.after(10, note('b'));
    clock.after(31, note('later'));
    clock.after(20, note('cleared')).clear();
    await clock.advance(30);
    expect(fired).toEqual([
      ['a', 1_010, 10],
      ['b', 1_010, 10],
      ['c', 1_030, 30],
    ]);
    expect([clock.pendingTimers, clock.nextTimerIn]).toEqual([1, 1]);
  });

  it('fires what is armed on the way, by timers and by what awaits them', async () => {
    const clock = new FakeClock();
    let ended = false;
    const work = async () => {
      for (let step = 0; step < 5; step++) await delay(clock, 100);
      ended = true;
    };
    const done = work();
    await clock.advance(499);
    expect(ended).toBe(false);
    await clock.advance(1);
    expect(ended).toBe(true);
    await done;
  });

  it('jumps with the wall clock alone', async () => {
    const clock = new FakeClock(1_000);
    let fired = false;
    clock.after(10, () => {
      fired = true;
    });
    clock.jump(3_600_000);
    await clock.advance(9);
    clock.jump(-7_200_000);
    expect([fired, clock.now(), clock.monotonic()]).toEqual([false, 1_009 - 3_600_000, 9]);
    await expect(clock.advance(-1)).rejects.toThrow(RangeError);
  });
});
