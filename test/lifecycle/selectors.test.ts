// Which tasks a call means: the order of a list, and conditions of the host's own.
import { describe, expect, it } from 'vitest';
import { isProcessTask } from '../../src/index.js';
import { TaskTable } from '../../src/lifecycle/table.js';
import { deferred, next, openManager, record, scratch } from '../helpers/manager.js';

const ids = (tasks: readonly { taskId: string }[]) => tasks.map(({ taskId }) => taskId);
const broken = new Error('the condition is broken');
const breaks = (): boolean => {
  throw broken;
};
const refused = { code: 'INVALID_SPEC', message: expect.stringContaining('true or false, got a Promise') };

/** Four tasks: one has ended, two run, and one runs in the foreground. */
async function several() {
  const manager = await openManager();
  const ends = new Map<string, ReturnType<typeof deferred<void>>>();
  const register = async (taskId: string, more: object = {}) => {
    const end = deferred();
    ends.set(taskId, end);
    const spec = { kind: 'function', taskId, description: 'work', run: () => end.promise } as const;
    return manager.registerTask({ ...spec, ...more });
  };
  await register('a', { group: 'g' });
  await register('b', { group: 'g', metadata: { n: 1 } });
  await register('c', { metadata: { n: 2 } });
  await register('shown', { detached: false, group: 'g' });
  ends.get('a')!.resolve();
  await manager.waitForTask('a');
  return { manager, register, end: (taskId: string) => ends.get(taskId)!.resolve() };
}

describe('the order of a list', () => {
  it('is by registration, the newest or the oldest first, with pages in that order', async () => {
    const { manager, register } = await several();
    const list = (options: object) => ids(manager.listTasks(options));
    expect(list({ order: 'newest' })).toEqual(['c', 'b', 'a']);
    expect(list({ order: undefined })).toEqual(list({}));
    expect(list({ order: 'oldest' })).toEqual(['a', 'b', 'c']);
    expect(list({ order: 'oldest', includeForeground: true, active: true })).toEqual(['b', 'c', 'shown']);
    expect(list({ order: 'oldest', limit: 2 })).toEqual(['a', 'b']);
    expect(list({ order: 'oldest', limit: 2, after: 'b' })).toEqual(['c']);
    expect(list({ order: 'oldest', active: true, limit: 1, after: 'a' })).toEqual(['b']);
    expect(list({ order: 'oldest', group: 'g', includeForeground: true, after: 'a' })).toEqual(['b', 'shown']);
    expect(list({ order: 'oldest', after: 'c' })).toEqual([]);
    expect(list({ order: 'oldest', limit: 0 })).toEqual([]);
    await register('d');
    expect(list({ order: 'oldest', after: 'c' })).toEqual(['d']);
    await manager.pruneTasks({ taskIds: ['a'] });
    expect(list({ order: 'oldest' })).toEqual(['b', 'c', 'd']);
    expect(() => list({ order: 'oldest', after: 'a' })).toThrow(expect.objectContaining({ code: 'TASK_NOT_FOUND' }));
  });

  it('costs what the page costs, wherever it is', () => {
    let looks = 0;
    const tasks = new TaskTable<any>();
    for (let n = 0; n < 20_000; n++) {
      const row = {
        taskId: `t${n}`,
        seq: tasks.nextSeq(),
        isActive: n === 7_000,
        kind: undefined,
        record: { detached: true, metadata: {}, hooks: {}, status: n === 7_000 ? 'running' : 'completed' },
        get view() {
          looks++;
          return { ...this.record, taskId: this.taskId };
        },
      };
      tasks.put(row);
    }
    for (const after of [undefined, 't100', 't10000', 't19000']) {
      looks = 0;
      expect(tasks.list({}, 50, after, 'oldest')).toHaveLength(50);
      expect(looks).toBeLessThanOrEqual(4 * 50);
    }
    looks = 0;
    expect(ids(tasks.list({ active: true }, 50, 't100', 'oldest'))).toEqual(['t7000']);
    expect(looks).toBeLessThanOrEqual(4);
  });
});

describe('a condition of the host', () => {
  it('that stands alone sees every task, and decides by itself', async () => {
    const { manager } = await several();
    const seen: string[] = [];
    const found = manager.listTasks((task) => {
      seen.push(task.taskId);
      expect(Object.isFrozen(task)).toBe(true);
      return task.group === 'g';
    });
    expect(seen).toEqual(['shown', 'c', 'b', 'a']);
    expect(ids(found)).toEqual(['shown', 'b', 'a']);
    expect(manager.listTasks(isProcessTask)).toEqual([]);
    expect(manager.listTasks(() => undefined as never)).toEqual([]);
  });

  it('combines with the other ones, with an order and with pages', async () => {
    const { manager } = await several();
    const seen: string[] = [];
    const where = (task: { taskId: string }) => {
      seen.push(task.taskId);
      return task.taskId !== 'b';
    };
    const list = (options: object) => ids(manager.listTasks({ ...options, where }));
    expect(list({})).toEqual(['c', 'a']);
    expect(list({ includeForeground: true, order: 'oldest' })).toEqual(['a', 'c', 'shown']);
    expect(list({ order: 'oldest', limit: 1, after: 'a' })).toEqual(['c']);
    seen.length = 0;
    expect(list({ active: true, metadata: { n: 2 } })).toEqual(['c']);
    expect(seen).toEqual(['c']); // it is asked last
    expect(ids(manager.listTasks({ where: undefined }))).toEqual(['c', 'b', 'a']);
  });

  it('says what is stopped, foreground tasks included unless the filter says otherwise', async () => {
    const { manager } = await several();
    const where = ({ group }: { group?: string }) => group === 'g';
    const stopped = await manager.stopAll({ filter: { where, includeForeground: false }, graceMs: 0 });
    expect(ids(stopped)).toEqual(['b']);
    expect(ids(await manager.stopAll({ filter: where, graceMs: 0 }))).toEqual(['shown']);
    expect(manager.status().running).toBe(1);
  });

  it('says what is pruned', async () => {
    const { manager, end } = await several();
    for (const taskId of ['b', 'shown']) end(taskId);
    await Promise.all([manager.waitForTask('b'), manager.waitForTask('shown')]);
    expect(await manager.pruneTasks({ filter: ({ taskId }) => taskId !== 'a' })).toEqual(
      expect.arrayContaining(['b', 'shown']),
    );
    expect(ids(manager.listTasks(() => true))).toEqual(['c', 'a']);
  });

  it('says which tasks a wait is for, those that are being registered too', async () => {
    const { manager, register, end } = await several();
    expect(await manager.waitForIdle({ filter: ({ taskId }) => taskId === 'a' })).toBe(true);
    expect(await manager.waitForIdle({ filter: ({ detached }) => !detached, timeoutMs: 0 })).toBe(false);
    const registered = register('late', { metadata: { deep: { n: 1 } } });
    let isFrozen = false;
    const where = (task: { taskId: string; metadata: any }) => {
      isFrozen ||= task.taskId === 'late' && Object.isFrozen(task.metadata.deep);
      return task.taskId === 'late';
    };
    const idle = manager.waitForIdle({ filter: { where } });
    expect(isFrozen).toBe(true);
    await registered;
    end('late');
    expect(await idle).toBe(true);
  });

  it.each([
    ['throws', breaks, broken],
    ['gives a promise', (async () => breaks()) as never, refused],
  ])('that %s fails its own call, and nothing else', async (_, condition: () => boolean, expected) => {
    const { manager, end } = await several();
    const heard = record(manager);
    const thrown = expected === broken ? broken : expect.objectContaining(refused);
    expect(() => manager.listTasks(condition)).toThrow(thrown);
    expect(() => manager.listTasks({ where: condition })).toThrow(thrown);
    for (const filter of [condition, { where: condition }]) {
      await expect(manager.waitForIdle({ filter })).rejects.toEqual(thrown);
      await expect(manager.stopAll({ filter })).rejects.toEqual(thrown);
      await expect(manager.pruneTasks({ filter })).rejects.toEqual(thrown);
    }
    expect(manager.status()).toMatchObject({ running: 3, terminal: 1 });
    expect(heard).toEqual([]);

    // In the middle of a wait: it is asked again because of a change that others are told of.
    let isBroken = false;
    const other = manager.waitForIdle({ filter: { group: 'none', where: () => true } });
    const pending = manager.waitForIdle({ filter: () => (isBroken ? condition() : true) });
    const failed = expect(pending).rejects.toEqual(thrown);
    const after = manager.waitForTask('b');
    isBroken = true;
    end('b');
    await failed;
    expect(await other).toBe(true);
    expect(await after).toMatchObject({ status: 'completed' });
    expect(heard).toEqual(['task:settled b']);
  });

  it('may call the manager', async () => {
    const { manager } = await several();
    const found = manager.listTasks(({ taskId }) => {
      expect(manager.getTask(taskId)).toBeDefined();
      return manager.listTasks({ where: (task) => task.taskId === taskId }).length === 1;
    });
    expect(ids(found)).toEqual(['c', 'b', 'a']);
  });
});

it('sees what a dead owner left like every other task', async () => {
  const directory = await scratch();
  const first = await openManager({ directory });
  await first.registerTask({ kind: 'function', taskId: 'old', description: 'work', run: () => 1 });
  await first.waitForIdle();
  await first.close();
  const manager = await openManager({ directory });
  await manager.registerTask({ kind: 'function', taskId: 'new', description: 'work', run: () => 1 });
  await next(manager, 'task:settled', 'new');
  expect(ids(manager.listTasks({ order: 'oldest', where: ({ status }) => status === 'completed' }))).toEqual([
    'old',
    'new',
  ]);
});
