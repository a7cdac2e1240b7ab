import { existsSync, readdirSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { BackgroundTaskManager } from '../../src/index.js';
import { FakeClock } from '../helpers/clock.js';
import { deferred, openManager, record, scratch } from '../helpers/manager.js';
import { until } from '../helpers/wait.js';
import { afterKill } from '../helpers/world.js';

const DAY = 86_400_000;
const ids = (tasks: readonly { taskId: string }[]) => tasks.map(({ taskId }) => taskId);

/** Runs a task that leaves output, to its end. */
async function done(manager: BackgroundTaskManager<any>, taskId: string, spec: object = {}): Promise<void> {
  const run = ({ appendOutput }: any) => appendOutput(`${taskId}\n`);
  await manager.registerTask({ kind: 'function', taskId, description: 'work', run, ...spec } as never);
  await manager.waitForTask(taskId);
}

/** What is on disk of tasks: records and folders. */
const files = (directory: string) =>
  readdirSync(directory)
    .filter((name) => !name.startsWith('.'))
    .sort();

async function pruned(manager: BackgroundTaskManager<any>, ...taskIds: string[]): Promise<void> {
  await until(() => taskIds.every((taskId) => manager.getTask(taskId) === undefined));
}

describe('pruneTasks', () => {
  it('removes ended tasks with their output, tells of each, and leaves active ones alone', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    const end = deferred();
    await manager.registerTask({ kind: 'function', taskId: 'runs', description: 'work', run: () => end.promise });
    await done(manager, 'a');
    await done(manager, 'b', { run: () => 'x'.repeat(300_000) });
    expect(files(directory)).toEqual(['a', 'a.json', 'b', 'b.json', 'runs.json']);
    const heard = record(manager);
    const whenHeard: string[][] = [];
    manager.on('task:pruned', () => void whenHeard.push(files(directory)));
    expect([...(await manager.pruneTasks())].sort()).toEqual(['a', 'b']);
    expect(files(directory)).toEqual(['runs.json']);
    expect(heard.sort()).toEqual(['task:pruned a', 'task:pruned b']);
    for (const names of whenHeard) expect(names.length).toBeLessThan(5);
    expect(ids(manager.listTasks())).toEqual(['runs']);
    expect(manager.getTask('a')).toBeUndefined();
    await expect(manager.readOutput('a')).rejects.toMatchObject({ code: 'TASK_NOT_FOUND' });
    end.resolve();
    await manager.waitForTask('runs');
  });

  it('by age counts from the true end', async () => {
    const clock = new FakeClock();
    const manager = await openManager({ reconcileIntervalMs: 0 }, clock);
    const end = deferred();
    await manager.registerTask({ kind: 'function', taskId: 'long', description: 'work', run: () => end.promise });
    await done(manager, 'old');
    await clock.advance(DAY);
    end.resolve();
    await manager.waitForTask('long');
    await done(manager, 'new');
    expect(await manager.pruneTasks({ olderThanMs: DAY + 1 })).toEqual([]);
    expect(await manager.pruneTasks({ olderThanMs: DAY })).toEqual(['old']);
    expect(ids(manager.listTasks())).toEqual(['new', 'long']);
  });

  it('by count keeps the newest ended ones, foreground and owed ones counted', async () => {
    const clock = new FakeClock();
    const manager = await openManager({ reconcileIntervalMs: 0, hooks: { inbox: 'pull' } }, clock);
    const specs = { a: { hooks: [] }, owed: {}, c: { hooks: [] }, shown: { detached: false }, e: { hooks: [] } };
    for (const [taskId, spec] of Object.entries(specs)) {
      await done(manager, taskId, spec);
      await clock.advance(1_000);
    }
    expect(await manager.pruneTasks({ keep: 5 })).toEqual([]);
    expect(await manager.pruneTasks({ keep: 3 })).toEqual(['a']);
    expect(ids(manager.listTasks({ includeForeground: true }))).toEqual(['e', 'shown', 'c', 'owed']);
    expect([...(await manager.pruneTasks({ keep: 1 }))].sort()).toEqual(['c', 'shown']);
    expect(ids(manager.listTasks({ includeForeground: true }))).toEqual(['e', 'owed']);
  });

  it('removes only what the filter means', async () => {
    const manager = await openManager();
    await done(manager, 'a', { group: 'g' });
    await done(manager, 'b', { metadata: { session: 's1' } });
    await done(manager, 'c', { detached: false });
    expect(await manager.pruneTasks({ filter: { group: 'g' } })).toEqual(['a']);
    expect(await manager.pruneTasks({ filter: { includeForeground: false } })).toEqual(['b']);
    expect(await manager.pruneTasks({ filter: { status: 'failed' } })).toEqual([]);
    expect(await manager.pruneTasks({ filter: { kind: 'function', status: ['completed'] } })).toEqual(['c']);
  });

  it('never removes a task with an owed or failed hook, until it is delivered, skipped or acknowledged', async () => {
    let works = false;
    const manager = await openManager({
      hooks: {
        inbox: 'pull',
        webhook: {
          deliver: () => {
            if (!works) throw new Error('down');
          },
          maxAttempts: 1,
        },
      },
    });
    await done(manager, 'owed', { hooks: ['inbox'] });
    await done(manager, 'failed', { hooks: ['webhook'] });
    await until(() => manager.getTask('failed')?.hooks.webhook?.state === 'failed');
    expect(await manager.pruneTasks()).toEqual([]);
    await manager.acknowledge('owed', 'inbox');
    expect(await manager.pruneTasks()).toEqual(['owed']);
    works = true;
    await manager.redeliver('failed');
    await until(() => manager.getTask('failed')?.hooks.webhook?.state === 'delivered');
    expect(await manager.pruneTasks()).toEqual(['failed']);
  });

  it('asked twice at once removes each task once', async () => {
    const manager = await openManager();
    for (let n = 0; n < 10; n++) await done(manager, `t${n}`);
    const heard = record(manager);
    const [one, two] = await Promise.all([manager.pruneTasks(), manager.pruneTasks()]);
    expect([...one, ...two].sort()).toEqual(Array.from({ length: 10 }, (_, n) => `t${n}`));
    expect(heard).toHaveLength(10);
  });

  it('frees the id and the idempotency key', async () => {
    const manager = await openManager();
    await done(manager, 'a', { idempotencyKey: 'k' });
    await manager.pruneTasks();
    await done(manager, 'a', { idempotencyKey: 'k', description: 'another one' });
    expect(manager.getTask('a')?.description).toBe('another one');
    expect((await manager.readOutput('a')).text).toBe('a\n');
  });

  it('removes what a process left', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    await manager.registerTask({ kind: 'process', taskId: 'p', description: 'work', command: 'echo hello' });
    await manager.waitForTask('p');
    await manager.pruneTasks();
    expect(files(directory)).toEqual([]);
    expect(readdirSync(join(directory, '.run'))).toEqual([]);
  });

  it('is about the task, not about what a stranger put beside it', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    await done(manager, 'a');
    await writeFile(join(directory, 'a', 'notes.txt'), 'mine');
    expect(await manager.pruneTasks()).toEqual(['a']);
    expect(readdirSync(join(directory, 'a'))).toEqual(['notes.txt']);
  });

  it.each([{ olderThanMs: -1 }, { keep: -1 }, { keep: 1.5 }, { age: 1 }, { filter: { state: 'x' } }])(
    'refuses %j',
    async (options) => {
      const manager = await openManager();
      await done(manager, 'a');
      await expect(manager.pruneTasks(options as never)).rejects.toMatchObject({ code: 'INVALID_SPEC' });
      expect(ids(manager.listTasks())).toEqual(['a']);
    },
  );
});

describe('retention', () => {
  it('keeps every detached task by default', async () => {
    const manager = await openManager();
    for (let n = 0; n < 5; n++) await done(manager, `t${n}`);
    await manager.reconcile();
    expect(manager.listTasks()).toHaveLength(5);
  });

  it('keeps the hundred newest foreground tasks by default', async () => {
    const manager = await openManager();
    for (let n = 0; n < 103; n++) await done(manager, `f${n}`, { detached: false, run: () => n });
    await pruned(manager, 'f0', 'f1', 'f2');
    await manager.reconcile();
    const left = ids(manager.listTasks({ includeForeground: true }));
    expect(left).toHaveLength(100);
    expect(left.at(-1)).toBe('f3');
  });

  it('by count keeps the tasks that ended last, each sort by itself', async () => {
    const clock = new FakeClock();
    const directory = await scratch();
    const retention = { maxTasks: 2, maxForegroundTasks: 1 };
    const manager = await openManager({ directory, reconcileIntervalMs: 0, retention }, clock);
    const heard = record(manager);
    const end = deferred();
    await manager.registerTask({ kind: 'function', taskId: 'long', description: 'work', run: () => end.promise });
    for (const taskId of ['a', 'b']) {
      await done(manager, taskId);
      await done(manager, `${taskId}f`, { detached: false });
      await clock.advance(1_000);
    }
    await pruned(manager, 'af');
    end.resolve();
    await pruned(manager, 'a');
    await manager.reconcile();
    expect(ids(manager.listTasks({ includeForeground: true })).sort()).toEqual(['b', 'bf', 'long']);
    expect(heard.filter((event) => event.startsWith('task:pruned'))).toEqual(['task:pruned af', 'task:pruned a']);
    expect(files(directory)).not.toContain('a');
  });

  it('by count means the same after a restart: what ended last stays', async () => {
    const clock = new FakeClock();
    const directory = await scratch();
    const first = await openManager({ directory, reconcileIntervalMs: 0 }, clock);
    const end = deferred();
    await first.registerTask({ kind: 'function', taskId: 'long', description: 'work', run: () => end.promise });
    await clock.advance(1_000);
    await done(first, 'short');
    await clock.advance(1_000);
    end.resolve();
    await first.waitForTask('long');
    await first.close();
    const again = await openManager({ directory, reconcileIntervalMs: 0, retention: { maxTasks: 1 } }, clock);
    await until(() => again.listTasks().length === 1);
    expect(ids(again.listTasks())).toEqual(['long']);
  });

  it('by age removes what grew old while nobody looked, at open and at the next pass', async () => {
    const clock = new FakeClock();
    const directory = await scratch();
    const options = { directory, reconcileIntervalMs: 0, retention: { maxAgeMs: DAY } };
    const first = await openManager(options, clock);
    await done(first, 'a');
    await clock.advance(DAY / 2);
    await done(first, 'b');
    await first.close();
    await clock.advance(DAY / 2);
    const manager = await openManager(options, clock);
    const heard = record(manager);
    await pruned(manager, 'a');
    await until(() => heard.length > 0);
    expect(heard).toEqual(['task:pruned a']);
    expect(ids(manager.listTasks())).toEqual(['b']);
    await clock.advance(DAY / 2);
    await manager.reconcile();
    await pruned(manager, 'b');
    expect(files(directory)).toEqual([]);
  });

  it('never removes a task with an owed hook, and catches up once it is delivered', async () => {
    const manager = await openManager({ hooks: { inbox: 'pull' }, retention: { maxTasks: 0 } });
    await done(manager, 'a');
    await manager.reconcile();
    expect(ids(manager.listTasks())).toEqual(['a']);
    await manager.acknowledge('a', 'inbox');
    await manager.reconcile();
    await pruned(manager, 'a');
  });

  it('does not let an owed task push out others that may stay', async () => {
    const clock = new FakeClock();
    const manager = await openManager(
      { reconcileIntervalMs: 0, hooks: { inbox: 'pull' }, retention: { maxTasks: 2 } },
      clock,
    );
    await done(manager, 'owed');
    await clock.advance(1);
    await done(manager, 'b', { hooks: [] });
    await clock.advance(1);
    await done(manager, 'c', { hooks: [] });
    await manager.reconcile();
    expect(ids(manager.listTasks())).toEqual(['c', 'b', 'owed']);
    await clock.advance(1);
    await done(manager, 'd', { hooks: [] });
    await pruned(manager, 'b');
    await manager.reconcile();
    expect(ids(manager.listTasks())).toEqual(['d', 'c', 'owed']);
  });

  it('is applied when the last debt of a task is paid', async () => {
    const manager = await openManager({ hooks: { inbox: 'pull' }, retention: { maxTasks: 1 } });
    await done(manager, 'owed');
    await done(manager, 'b', { hooks: [] });
    await manager.acknowledge('owed', 'inbox');
    await pruned(manager, 'owed');
    expect(ids(manager.listTasks())).toEqual(['b']);
  });

  it('never takes a task whose delivery is owed again', async () => {
    const manager = await openManager({ hooks: { inbox: 'pull' } });
    await done(manager, 'a');
    await manager.acknowledge('a', 'inbox');
    const [task, gone] = await Promise.all([manager.redeliver('a', 'inbox'), manager.pruneTasks()]);
    expect(task.hooks.inbox?.state).toBe('pending');
    expect(gone).toEqual([]);
    expect(manager.listDeliveries({ state: 'pending' })).toHaveLength(1);
  });

  it('that cannot remove a task tells once, keeps it, and goes on with the others', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, retention: { maxTasks: 1 } });
    const errors: unknown[] = [];
    manager.on('error', ({ taskId }) => void errors.push(taskId));
    await done(manager, 'a', { run: () => 1 });
    // A folder where the output file should be cannot be removed as one.
    await rm(join(directory, 'a'), { recursive: true, force: true });
    await mkdir(join(directory, 'a'), { recursive: true });
    await rm(join(directory, 'a.json'));
    await mkdir(join(directory, 'a.json'));
    await done(manager, 'b');
    await done(manager, 'c');
    await pruned(manager, 'b');
    await manager.reconcile();
    await manager.reconcile();
    expect(manager.getTask('a')?.status).toBe('completed');
    expect(errors).toEqual(['a']);
    await rm(join(directory, 'a.json'), { recursive: true });
    await manager.reconcile();
    await pruned(manager, 'a');
  });
});

describe('a host killed in the middle of a removal', () => {
  it.each([
    ['before the output is gone', async () => undefined],
    ['between the output and its folder', (at: string) => rm(join(at, 'a', 'output.log'))],
    ['between the output and the record', (at: string) => rm(join(at, 'a'), { recursive: true })],
  ])('%s leaves a task that is there and can be removed again', async (_, kill) => {
    const directory = await scratch();
    const first = await openManager({ directory });
    await done(first, 'a');
    const left = await afterKill(directory);
    await kill(left);
    const manager = await openManager({ directory: left });
    expect(manager.getTask('a')?.status).toBe('completed');
    expect(['', 'a\n']).toContain((await manager.readOutput('a')).text);
    expect(await manager.pruneTasks()).toEqual(['a']);
    expect(files(left)).toEqual([]);
  });

  it('leaves no output without its record: the record goes last', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    for (let n = 0; n < 20; n++) await done(manager, `t${n}`);
    const pruning = manager.pruneTasks();
    const seen: string[][] = [];
    for (let over = false; !over; ) {
      const names = files(directory);
      seen.push(names.filter((name) => !name.endsWith('.json') && !names.includes(`${name}.json`)));
      over = await Promise.race([
        pruning.then(() => true),
        new Promise<boolean>((go) => setImmediate(() => go(false))),
      ]);
    }
    expect(seen.flat()).toEqual([]);
    expect(existsSync(join(directory, 't0.json'))).toBe(false);
  });
});
