/* A host that registers everything it has in one turn: nothing is refused for want of descriptors, and the event loop goes on turning. */
import { describe, expect, it } from 'vitest';
import { killAllAfterwards, processesWith, within } from '../helpers/faults.js';
import { startHost } from '../helpers/host.js';
import { tempDirectory, until } from '../helpers/wait.js';

function place(): string {
  const directory = tempDirectory('holdfast-burst-');
  killAllAfterwards(directory);
  return directory;
}

/** Descriptors that the host may have open. */
const limited = (descriptors: number) => ['sh', '-c', `ulimit -n ${descriptors} && exec "$@"`, 'sh'];

describe('registrations of one turn, more than there are descriptors', () => {
  it('functions are all accepted, and all settled', async () => {
    const count = 10_000;
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory, fsync: false });
       const told = [];
       manager.on('error', ({ error }) => told.push(error.code + ' ' + error.message));
       const registered = Array.from({ length: ${count} }, (_, n) =>
         manager.registerTask({ kind: 'function', description: 'work', run: () => n }));
       const refused = (await Promise.allSettled(registered)).filter(({ status }) => status === 'rejected');
       await manager.waitForIdle();
       say({ refused: refused.length, why: String(refused[0]?.reason), told, terminal: manager.status().terminal });
       await manager.close();`,
      place(),
      {},
      limited(1_024),
    );
    expect(await within('the burst', host.next(), 300_000)).toEqual({
      refused: 0,
      why: 'undefined',
      told: [],
      terminal: count,
    });
    expect(await host.ended, host.stderr()).toBe(0);
  });

  it('processes are all accepted, too, and begun one in a turn of the event loop', async () => {
    const count = 200;
    const directory = place();
    const host = startHost(
      `import { ChildProcess } from 'node:child_process';
       const spawns = [];
       let turn = 0;
       const spawn = ChildProcess.prototype.spawn;
       ChildProcess.prototype.spawn = function (...args) { spawns.push(turn); return spawn.apply(this, args); };
       const manager = await BackgroundTaskManager.open({ directory, fsync: false });
       const told = [];
       manager.on('error', ({ error }) => told.push(error.code + ' ' + error.message));
       // What waits for this turn's end runs once in each turn.
       const count = () => { turn++; counting = setImmediate(count); };
       let counting = setImmediate(count);
       const registered = Array.from({ length: ${count} }, () =>
         manager.registerTask({ kind: 'process', description: 'work', command: ['sleep', '600'] }));
       const refused = (await Promise.allSettled(registered)).filter(({ status }) => status === 'rejected');
       clearImmediate(counting);
       const turns = new Set(spawns).size;
       say({ refused: refused.length, why: String(refused[0]?.reason), told, spawned: spawns.length, turns, running: manager.status().running });
       await manager.close({ tasks: 'stop', graceMs: 0 });`,
      directory,
      {},
      limited(128),
    );
    expect(await within('the burst', host.next(), 300_000)).toEqual({
      refused: 0,
      why: 'undefined',
      told: [],
      spawned: count,
      turns: count,
      running: count,
    });
    expect(await host.ended, host.stderr()).toBe(0);
    await until(() => processesWith(directory).length === 0);
  });

  it('an outcome does not wait for the registrations that came before it', async () => {
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory, fsync: false });
       let finish;
       await manager.registerTask({ kind: 'function', taskId: 'first', description: 'work', run: () => new Promise((resolve) => { finish = resolve; }) });
       let done = 0;
       const registered = Array.from({ length: 5000 }, () =>
         manager.registerTask({ kind: 'function', description: 'work', run: () => new Promise(() => {}) }).then(() => done++));
       finish();
       await manager.waitForTask('first');
       say(done);
       await Promise.all(registered);
       say(done);
       process.exit(0);`,
      place(),
    );
    expect(await within('the outcome', host.next())).toBeLessThan(1_000);
    expect(await within('the burst', host.next(), 300_000)).toBe(5_000);
    expect(await host.ended, host.stderr()).toBe(0);
  });
});
