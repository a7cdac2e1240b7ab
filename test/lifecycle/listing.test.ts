import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineTaskKind } from '../../src/index.js';
import { type Row, TaskTable } from '../../src/lifecycle/table.js';
import type { TaskRecord } from '../../src/task/record.js';
import { FakeClock } from '../helpers/clock.js';
import { deferred, next, openManager, scratch } from '../helpers/manager.js';

const ids = (tasks: readonly { taskId: string }[]) => tasks.map(({ taskId }) => taskId);

describe('listTasks', () => {
  const agent = defineTaskKind({ name: 'agent', details: z.object({}) });
  const metadata = { session: 's1', tags: ['a', { deep: [1] }], nothing: null };

  async function mixed() {
    const manager = await openManager({ kinds: [agent], maxRunningTasks: 2, whenFull: 'queue', hooks: {} });
    const end = deferred<unknown>();
    const fails = () => Promise.reject(new Error('no'));
    await manager.registerTask({ kind: 'function', taskId: 'done', description: 'work', group: 'g', run: () => 1 });
    await manager.waitForTask('done');
    await manager.registerTask({ kind: 'function', taskId: 'failed', description: 'work', metadata, run: fails });
    await manager.waitForTask('failed');
    await manager.registerTask({
      kind: 'agent',
      taskId: 'runs',
      description: 'work',
      details: {},
      run: () => end.promise as never,
    });
    const asks = async ({ requestInput }: any) => requestInput('?');
    await manager.registerTask({
      kind: 'function',
      taskId: 'waits',
      description: 'work',
      group: 'g',
      metadata: { session: 's1' },
      run: asks,
    });
    await next(manager, 'task:waiting', 'waits');
    await manager.registerTask({ kind: 'function', taskId: 'queued', description: 'work', run: () => 1 });
    await manager.registerTask({
      kind: 'function',
      taskId: 'shown',
      description: 'work',
      detached: false,
      run: () => end.promise,
    });
    return manager;
  }

  it('gives the tasks a filter means, newest first, without foreground ones', async () => {
    const manager = await mixed();
    const list = (filter?: object) => ids(manager.listTasks(filter as never));
    expect(list()).toEqual(['queued', 'waits', 'runs', 'failed', 'done']);
    expect(list({ includeForeground: true })).toEqual(['shown', 'queued', 'waits', 'runs', 'failed', 'done']);
    expect(list({ includeForeground: false, active: undefined })).toEqual(list());
    expect(list({ active: true })).toEqual(['queued', 'waits', 'runs']);
    expect(list({ active: true, includeForeground: true })).toEqual(['shown', 'queued', 'waits', 'runs']);
    expect(list({ active: false })).toEqual(['failed', 'done']);
    expect(list({ status: 'waiting' })).toEqual(['waits']);
    expect(list({ status: ['failed', 'running'] })).toEqual(['runs', 'failed']);
    expect(list({ status: [] })).toEqual([]);
    expect(list({ status: 'running', active: false })).toEqual([]);
    expect(list({ kind: 'agent' })).toEqual(['runs']);
    expect(list({ kind: ['agent', 'function'], active: true })).toEqual(['queued', 'waits', 'runs']);
    expect(list({ kind: 'nobody' })).toEqual([]);
    expect(list({ group: 'g' })).toEqual(['waits', 'done']);
    expect(list({ group: 'h' })).toEqual([]);
    expect(list({ limit: 2 })).toEqual(['queued', 'waits']);
    expect(list({ limit: 0 })).toEqual([]);
    expect(list({ limit: 1, group: 'g', active: false })).toEqual(['done']);
  });

  it('compares metadata by value', async () => {
    const manager = await mixed();
    const list = (wanted: object) => ids(manager.listTasks({ metadata: wanted }));
    expect(list({ session: 's1' })).toEqual(['waits', 'failed']);
    expect(list({ session: 's1', tags: ['a', { deep: [1] }] })).toEqual(['failed']);
    expect(list({ tags: ['a', { deep: [2] }] })).toEqual([]);
    expect(list({ nothing: null })).toEqual(['failed']);
    expect(list({ session: 's1', nothing: undefined })).toEqual(['waits', 'failed']);
    expect(list({ toString: 'x' })).toEqual([]);
    expect(list({})).toEqual(['queued', 'waits', 'runs', 'failed', 'done']);
  });

  it.each([
    { status: 'done' },
    { kind: 7 },
    { limit: -1 },
    { limit: 1.5 },
    { after: 7 },
    { active: 'yes' },
    { metadata: 's1' },
    { statuses: ['running'] },
    'running',
  ])('refuses %j', async (filter) => {
    const manager = await openManager();
    expect(() => manager.listTasks(filter as never)).toThrow(expect.objectContaining({ code: 'INVALID_SPEC' }));
  });

  it('lists what was there before in the order of its registration', async () => {
    const directory = await scratch();
    const clock = new FakeClock();
    const first = await openManager({ directory, reconcileIntervalMs: 0 }, clock);
    for (const taskId of ['c', 'a', 'b']) {
      await first.registerTask({ kind: 'function', taskId, description: 'work', run: () => 1 });
      await clock.advance(1);
    }
    await first.waitForIdle();
    const before = first.listTasks();
    await first.close();
    const again = await openManager({ directory });
    expect(again.listTasks()).toEqual(before);
    await again.registerTask({ kind: 'function', taskId: 'd', description: 'work', run: () => 1 });
    expect(ids(again.listTasks())).toEqual(['d', 'b', 'a', 'c']);
  });

  it('shows a record of a newer version as far as it can be read', async () => {
    const directory = await scratch();
    const newer = {
      schemaVersion: 2,
      taskId: 'n',
      kind: 'process',
      status: 'running',
      wheels: 4,
      createdAt: 'yesterday',
    };
    await writeFile(join(directory, 'n.json'), JSON.stringify(newer));
    const manager = await openManager({ directory });
    expect(manager.listTasks()).toMatchObject([{ taskId: 'n', status: 'running', wheels: 4 }]);
  });
});

describe('a page', () => {
  it('begins after the last task of the page before, while tasks come and go', async () => {
    const manager = await openManager();
    const register = async (taskId: string, group = 'g') => {
      await manager.registerTask({ kind: 'function', taskId, description: 'work', group, run: () => 1 });
    };
    for (let n = 0; n < 7; n++) await register(`t${n}`, n === 2 ? 'old' : 'g');
    await manager.waitForIdle();
    expect(ids(manager.listTasks({ limit: 3 }))).toEqual(['t6', 't5', 't4']);
    await register('t7');
    await manager.waitForIdle();
    expect(await manager.pruneTasks({ filter: { group: 'old' } })).toEqual(['t2']);
    expect(ids(manager.listTasks({ limit: 2, after: 't4' }))).toEqual(['t3', 't1']);
    expect(ids(manager.listTasks({ limit: 2, after: 't1' }))).toEqual(['t0']);
    expect(manager.listTasks({ limit: 2, after: 't0' })).toEqual([]);
  });

  it('after a task that is gone is TASK_NOT_FOUND', async () => {
    const manager = await openManager();
    await manager.registerTask({ kind: 'function', taskId: 'a', description: 'work', run: () => 1 });
    await manager.waitForIdle();
    await manager.pruneTasks();
    for (const after of ['a', 'never-there']) {
      expect(() => manager.listTasks({ after })).toThrow(
        expect.objectContaining({ code: 'TASK_NOT_FOUND', taskId: after }),
      );
    }
  });

  it('of active tasks may begin after one that has ended', async () => {
    const manager = await openManager();
    const ends = ['a', 'b', 'c'].map((taskId) => ({ taskId, end: deferred() }));
    for (const { taskId, end } of ends) {
      await manager.registerTask({ kind: 'function', taskId, description: 'work', run: () => end.promise });
    }
    expect(ids(manager.listTasks({ active: true, limit: 1 }))).toEqual(['c']);
    ends[2]!.end.resolve();
    await manager.waitForTask('c');
    expect(ids(manager.listTasks({ active: true, limit: 1, after: 'c' }))).toEqual(['b']);
    for (const { end } of ends) end.resolve();
    await manager.waitForIdle();
  });
});

/** A task as the table knows it. */
class Listed implements Row {
  readonly taskId: string;
  readonly seq: number;
  readonly kind = undefined;
  record: TaskRecord;
  /** How often it was looked at. */
  looks = 0;

  constructor(record: TaskRecord, seq: number) {
    this.record = record;
    this.taskId = record.taskId;
    this.seq = seq;
  }
  get view(): TaskRecord {
    this.looks++;
    return this.record;
  }
  get isActive(): boolean {
    this.looks++;
    return ['queued', 'running', 'waiting'].includes(this.record.status);
  }
}

const recordOf = (taskId: string, status: string): TaskRecord =>
  ({
    taskId,
    status,
    kind: 'function',
    detached: true,
    metadata: {},
    hooks: {},
    createdAt: 0,
  }) as unknown as TaskRecord;

describe('the cost of a list', () => {
  function table(total: number, active: readonly number[]) {
    const tasks = new TaskTable<Listed>();
    const entries = Array.from({ length: total }, (_, n) => {
      const entry = new Listed(recordOf(`t${n}`, active.includes(n) ? 'running' : 'completed'), tasks.nextSeq());
      tasks.put(entry);
      return entry;
    });
    for (const entry of entries) entry.looks = 0;
    return { tasks, entries };
  }
  const looks = (entries: readonly Listed[]) => entries.reduce((sum, { looks }) => sum + looks, 0);

  it.each([{ active: true }, { status: 'running' as const }, { status: ['waiting', 'running'] as const }])(
    'of active tasks (%j) follows their number, not that of all tasks ever',
    (filter) => {
      const active = [5, 7_000, 19_999];
      const { tasks, entries } = table(20_000, active);
      expect(ids(tasks.list(filter, Number.POSITIVE_INFINITY, undefined))).toEqual(['t19999', 't7000', 't5']);
      expect(looks(entries)).toBeLessThanOrEqual(4 * active.length);
      expect(looks(entries.filter((_, n) => !active.includes(n)))).toBe(0);
      expect(ids(tasks.list(filter, 1, 't15000'))).toEqual(['t7000']);
    },
  );

  it('of a page follows the page, wherever it is', () => {
    const { tasks, entries } = table(20_000, []);
    for (const after of [undefined, 't19000', 't10000', 't100']) {
      for (const entry of entries) entry.looks = 0;
      expect(tasks.list({}, 50, after)).toHaveLength(50);
      expect(looks(entries)).toBeLessThanOrEqual(4 * 50);
    }
  });
});

it('gives every task exactly once, in pages of any size, while others come and go', () => {
  const step = fc.oneof(
    { weight: 3, arbitrary: fc.constant({ do: 'add' as const }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('remove' as const), at: fc.nat(100) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('end' as const), at: fc.nat(100) }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('page' as const), size: fc.integer({ min: 1, max: 5 }) }) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), fc.boolean(), (steps, onlyActive) => {
      const tasks = new TaskTable<Listed>();
      const there: Listed[] = [];
      /** Since the first page: what was there then and is there still must have come exactly once at the end. */
      let begun: Set<Listed> | undefined;
      const got: string[] = [];
      let cursor: string | undefined;
      const filter = onlyActive ? { active: true } : {};
      const page = (size: number) => {
        begun ??= new Set(there);
        if (cursor !== undefined && !tasks.get(cursor)) {
          expect(() => tasks.list(filter, size, cursor)).toThrow(expect.objectContaining({ code: 'TASK_NOT_FOUND' }));
          return false;
        }
        const found = ids(tasks.list(filter, size, cursor));
        got.push(...found);
        cursor = found.at(-1) ?? cursor;
        return found.length === size;
      };
      for (const one of steps) {
        if (one.do === 'add') {
          const entry = new Listed(recordOf(`t${tasks.nextSeq()}`, 'running'), tasks.nextSeq());
          tasks.put(entry);
          there.push(entry);
        } else if (one.do === 'page') page(one.size);
        else if (there.length > 0) {
          const at = one.at % there.length;
          const entry = there[at]!;
          if (one.do === 'end') {
            entry.record = recordOf(entry.taskId, 'completed');
            tasks.put(entry);
          } else {
            tasks.remove(entry);
            there.splice(at, 1);
          }
        }
      }
      while (page(3));
      expect(new Set(got).size).toBe(got.length);
      const order = got.map((id) => Number(id.slice(1)));
      expect(order).toEqual([...order].sort((a, b) => b - a));
      if (cursor === undefined || tasks.get(cursor)) {
        const stayed = there.filter((entry) => begun?.has(entry) && (!onlyActive || entry.isActive));
        expect(got).toEqual(expect.arrayContaining(ids(stayed)));
      }
    }),
    { numRuns: 300 },
  );
});
