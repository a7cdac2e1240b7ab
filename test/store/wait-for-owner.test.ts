import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BackgroundTaskManager, readTasks } from '../../src/index.js';
import { FakeClock } from '../helpers/clock.js';
import { startHost } from '../helpers/host.js';
import { openManager, scratch } from '../helpers/manager.js';
import { identity } from '../helpers/store.js';
import { until } from '../helpers/wait.js';

/** What a promise has come to so far. */
function watched<T>(promise: Promise<T>): { promise: Promise<T>; state: string } {
  const seen = { promise, state: 'pending' };
  promise.then(
    () => (seen.state = 'open'),
    () => (seen.state = 'refused'),
  );
  return seen;
}

describe('open with waitForOwnerMs', () => {
  it('waits until a living owner gives the directory up', async () => {
    const directory = await scratch();
    const clock = new FakeClock();
    const first = await openManager({ directory });
    const second = watched(openManager({ directory, waitForOwnerMs: 60_000 }, clock));
    await until(() => clock.pendingTimers === 1);
    expect(clock.nextTimerIn).toBeLessThanOrEqual(250);
    await clock.advance(clock.nextTimerIn!);
    await until(() => clock.pendingTimers === 1);
    expect(second.state).toBe('pending');
    await first.close();
    await clock.advance(250);
    expect((await second.promise).status().owner.instanceId).not.toBe(first);
  });

  it('says who owns it when the time is up, and at once where it is not to wait', async () => {
    const directory = await scratch();
    const clock = new FakeClock();
    const first = await openManager({ directory });
    const owner = first.status().owner;
    await expect(openManager({ directory })).rejects.toMatchObject({ code: 'DIRECTORY_OWNED', owner });
    await expect(openManager({ directory, waitForOwnerMs: 0 }, clock)).rejects.toMatchObject({
      code: 'DIRECTORY_OWNED',
    });
    const second = watched(openManager({ directory, waitForOwnerMs: 1_000 }, clock));
    for (let spent = 0; spent < 1_000; ) {
      await until(() => clock.pendingTimers === 1);
      expect(second.state).toBe('pending');
      const step = clock.nextTimerIn!;
      expect(step).toBeLessThanOrEqual(250);
      spent += step;
      await clock.advance(step);
    }
    await expect(second.promise).rejects.toMatchObject({ code: 'DIRECTORY_OWNED', owner });
    expect(clock.pendingTimers).toBe(0);
  });

  it('ends with the reason of its signal, and leaves nothing', async () => {
    const directory = await scratch();
    const clock = new FakeClock();
    await openManager({ directory });
    const abort = new AbortController();
    const second = watched(openManager({ directory, waitForOwnerMs: 60_000, signal: abort.signal }, clock));
    await until(() => clock.pendingTimers === 1);
    const reason = new Error('enough');
    abort.abort(reason);
    await expect(second.promise).rejects.toBe(reason);
    expect(clock.pendingTimers).toBe(0);
    const other = join(await scratch(), 'not-made');
    await expect(openManager({ directory: other, signal: abort.signal })).rejects.toBe(reason);
    await expect(readTasks(other)).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
  });

  it('waits for an owner of whom nothing is known, too', async () => {
    const directory = await scratch();
    mkdirSync(join(directory, '.owner'));
    const stranger = identity({ hostname: 'elsewhere', bootId: 'another' });
    writeFileSync(join(directory, '.owner', 'epoch-1'), JSON.stringify(stranger));
    expect((await readTasks(directory)).owner).toEqual({ identity: stranger, alive: 'unknown' });
    const clock = new FakeClock();
    const second = watched(openManager({ directory, waitForOwnerMs: 10_000 }, clock));
    await until(() => clock.pendingTimers === 1);
    writeFileSync(join(directory, '.owner', 'epoch-1.released'), '');
    await clock.advance(250);
    await second.promise;
  });

  it('lets one of many in, and the others wait for that one', async () => {
    const directory = await scratch();
    const first = await openManager({ directory });
    const waiting = Array.from({ length: 3 }, () => openManager({ directory, waitForOwnerMs: 600_000 }));
    await first.close();
    for (let left = waiting; left.length > 0; ) {
      const [manager, promise] = await Promise.race(left.map(async (one) => [await one, one] as const));
      left = left.filter((one) => one !== promise);
      await manager.close();
    }
  });

  it('sees a killed owner, and refuses what is no time and no signal', async () => {
    const directory = await scratch();
    const host = startHost(
      `await BackgroundTaskManager.open({ directory }); say('open'); setInterval(() => {}, 1e6);`,
      directory,
    );
    await host.next();
    expect((await readTasks(directory)).owner).toMatchObject({ alive: true, identity: { pid: host.child.pid } });
    const second = openManager({ directory, waitForOwnerMs: 600_000 });
    await host.kill();
    await second;
    for (const bad of [{ waitForOwnerMs: -1 }, { waitForOwnerMs: '1' }, { signal: {} }]) {
      await expect(BackgroundTaskManager.open({ directory, ...bad } as never)).rejects.toMatchObject({
        code: 'INVALID_OPTIONS',
        message: expect.stringContaining(Object.keys(bad)[0]!),
      });
    }
  });
});
