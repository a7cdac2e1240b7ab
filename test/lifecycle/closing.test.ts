import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { BackgroundTaskManager, defineTaskKind } from '../../src/index.js';
import { deferred, next, openManager, record, scratch } from '../helpers/manager.js';
import { onDisk } from '../helpers/world.js';

/** Turns of the event loop until it is so. */
async function state(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setImmediate(resolve));
}

const forever = () => new Promise<never>(() => undefined);
const closed = expect.objectContaining({ code: 'MANAGER_CLOSED' });

describe('close', () => {
  it('ends what lives in the host, as killed with the cause shutdown, and gives the directory up', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, stopGraceMs: 0 });
    const { taskId } = await manager.registerTask({ kind: 'function', description: 'work', run: forever });
    const wait = manager.waitForTask(taskId);
    await manager.close();
    expect(await wait).toMatchObject({ status: 'killed', stop: { cause: 'shutdown' } });
    const again = await openManager({ directory });
    expect(again.getTask(taskId)).toMatchObject({ status: 'killed', stopReason: 'the manager was closed' });
    expect((await readdir(directory)).sort()).toEqual(expect.arrayContaining([`${taskId}.json`]));
  });

  it('is idempotent, also while it is under way', async () => {
    const manager = await openManager();
    await manager.registerTask({
      kind: 'function',
      description: 'work',
      run: ({ signal }) => new Promise((_, no) => signal.addEventListener('abort', no)),
    });
    await Promise.all([manager.close(), manager.close(), manager[Symbol.asyncDispose]()]);
    await manager.close();
  });

  it('waits for a registration under way, and judges what it launched', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, stopGraceMs: 0 });
    const registered = manager.registerTask({ kind: 'function', taskId: 'f', description: 'work', run: forever });
    await manager.close();
    expect(await registered).toMatchObject({ taskId: 'f' });
    const again = await openManager({ directory });
    expect(again.getTask('f')).toMatchObject({ status: 'killed' });
  });

  it('waits for a queued task that is being launched, and leaves what it launched', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, maxRunningTasks: 1, whenFull: 'queue' });
    const end = deferred();
    await manager.registerTask({ kind: 'function', taskId: 'first', description: 'work', run: () => end.promise });
    await manager.registerTask({ kind: 'process', taskId: 'next', description: 'work', command: 'sleep 600' });
    const errors: unknown[] = [];
    manager.on('error', ({ error }) => void errors.push(error));
    end.resolve();
    // On record as running, and not begun yet.
    await state(() => manager.getTask('next')?.status === 'running');
    await manager.close();
    const again = await openManager({ directory });
    expect(again.getTask('next')).toMatchObject({ status: 'running', details: { pid: expect.any(Number) } });
    expect(errors).toEqual([]);
  });

  it('leaves a queued task whose launch gives up because of it queued: the next host launches it', async () => {
    const directory = await scratch();
    const kind = defineTaskKind({
      name: 'remote',
      details: z.object({}),
      start: ({ signal }) => {
        if (launches++ > 0) return;
        return new Promise<never>((_, no) => {
          if (signal.aborted) no(signal.reason);
          signal.addEventListener('abort', () => no(signal.reason));
        });
      },
      probe: () => ({ state: stopped ? ('gone' as const) : ('running' as const) }),
      stop: () => {
        stopped = true;
      },
    });
    let launches = 0;
    let stopped = false;
    const manager = await openManager({ directory, maxRunningTasks: 1, whenFull: 'queue', kinds: [kind] });
    const end = deferred();
    await manager.registerTask({ kind: 'function', taskId: 'first', description: 'work', run: () => end.promise });
    await manager.registerTask({ kind: 'remote', taskId: 'next', description: 'work', details: {} });
    const errors: unknown[] = [];
    manager.on('error', ({ error }) => void errors.push(error));
    end.resolve();
    await state(() => manager.getTask('next')?.status === 'running');
    await manager.close();
    expect(onDisk(directory, 'next')).toMatchObject({ status: 'queued', startedAt: null, attempt: 1 });
    const again = await openManager({ directory, kinds: [kind] });
    await state(() => launches === 2);
    expect(again.getTask('next')).toMatchObject({ status: 'running', attempt: 1 });
    expect(errors).toEqual([]);
  });

  it('during a reconcile lets it end', async () => {
    const manager = await openManager();
    const pass = manager.reconcile();
    await manager.close();
    expect((await pass).failures).toEqual([]);
  });

  it('makes every later call say MANAGER_CLOSED', async () => {
    const manager = await openManager();
    await manager.registerTask({ kind: 'function', taskId: 'f', description: 'work', run: () => 1 });
    await manager.waitForTask('f');
    await manager.close();
    const calls: (() => Promise<unknown>)[] = [
      () => manager.registerTask({ kind: 'function', description: 'work', run: () => 1 }),
      () => manager.updateTask('f', {}),
      () => manager.waitForTask('f'),
      () => manager.waitForAny(),
      () => manager.waitForIdle(),
      () => manager.waitForRelease('f'),
      () => manager.detachTask('f'),
      () => manager.stopTask('f'),
      () => manager.stopAll(),
      () => manager.provideInput('f', 1),
      () => manager.readOutput('f'),
      () => manager.readResult('f'),
      () => manager.followOutput('f')[Symbol.asyncIterator]().next(),
      () => manager.redeliver('f'),
      () => manager.skipHook('f', 'h'),
      () => manager.acknowledge('f', 'h'),
      () => manager.reconcile(),
      () => manager.pruneTasks(),
    ];
    for (const call of calls) await expect(call()).rejects.toEqual(closed);
    const now: (() => unknown)[] = [
      () => manager.reserveSlot(),
      () => manager.getTask('f'),
      () => manager.listTasks(),
      () => manager.listDeliveries(),
      () => manager.addHook('h', 'pull'),
      () => manager.status(),
      () => manager.on('error', () => undefined),
      () => manager.once('error', () => undefined),
      () => manager.off('error', () => undefined),
    ];
    for (const call of now) expect(call).toThrow(closed);
  });
});

describe('two managers on one directory', () => {
  it('in one process: the second is refused, until the first is closed', async () => {
    const directory = await scratch();
    const first = await openManager({ directory });
    const { owner } = first.status();
    await expect(BackgroundTaskManager.open({ directory })).rejects.toMatchObject({ code: 'DIRECTORY_OWNED', owner });
    await first.close();
    const second = await openManager({ directory });
    expect(second.status().owner.instanceId).not.toBe(owner.instanceId);
  });
});

describe('the first events', () => {
  it('are heard by listeners attached right after open', async () => {
    const directory = await scratch();
    const first = await openManager({ directory });
    await first.registerTask({ kind: 'function', taskId: 'done', description: 'work', run: () => 1 });
    await first.waitForTask('done');
    await first.close();
    const second = await openManager({ directory });
    const heard: string[] = [];
    second.on('manager:reconciled', () => void heard.push('reconciled'));
    expect(heard).toEqual([]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(heard).toEqual(['reconciled']);
  });

  it('and on together with listTasks misses nothing', async () => {
    const manager = await openManager();
    const heard = record(manager);
    const end = deferred();
    const { taskId } = await manager.registerTask({ kind: 'function', description: 'work', run: () => end.promise });
    const settled = next(manager, 'task:settled', taskId);
    expect(manager.listTasks({ active: true })).toHaveLength(1);
    end.resolve();
    await settled;
    expect(heard).toEqual([`task:started ${taskId}`, `task:settled ${taskId}`]);
  });
});

describe('a takeover while open is under way', () => {
  /** Another owner's claim, one above the one that is there. */
  function takeOver(directory: string): void {
    const claims = readdirSync(join(directory, '.owner')).flatMap((name) => /^epoch-(\d+)/.exec(name)?.[1] ?? []);
    const identity = {
      instanceId: 'other',
      hostname: 'elsewhere',
      bootId: 'b',
      pidNamespace: 'n',
      pid: 7,
      startTicks: '1',
    };
    writeFileSync(join(directory, '.owner', `epoch-${Math.max(...claims.map(Number)) + 1}`), JSON.stringify(identity));
  }

  it.each(['while the records are read', 'in the first pass'])(
    '%s makes it reject with OWNERSHIP_LOST',
    async (when) => {
      const directory = await scratch();
      const first = await openManager({ directory });
      const kind = defineTaskKind({
        name: 'agent',
        details: z.object({}).refine(() => {
          if (when === 'while the records are read' && armed) takeOver(directory);
          armed = armed && when !== 'while the records are read';
          return true;
        }),
        recover: () => {
          if (armed) takeOver(directory);
          armed = false;
          return async () => null;
        },
      });
      let armed = false;
      await first.close();
      const record = {
        ...{
          schemaVersion: 1,
          taskId: 't',
          kind: 'agent',
          description: 'work',
          status: 'running',
          detached: true,
          attempt: 1,
        },
        ...{ createdAt: 1, startedAt: 1, endedAt: null, owner: null, details: {}, metadata: {}, hooks: {} },
      };
      const before = JSON.stringify(record);
      writeFileSync(join(directory, 't.json'), before, { mode: 0o600 });
      armed = true;
      await expect(openManager({ directory, kinds: [kind] })).rejects.toMatchObject({
        code: 'OWNERSHIP_LOST',
        owner: { instanceId: 'other' },
      });
      expect(readFileSync(join(directory, 't.json'), 'utf8')).toBe(before);
    },
  );
});
