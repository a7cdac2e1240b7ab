import { describe, expect, it } from 'vitest';
import { type ImportTarget, importRecords } from '../../src/legacy/import.js';
import { createParser } from '../../src/legacy/parser.js';
import type { TaskRecord } from '../../src/task/record.js';
import { fixturesOf, shippedRecords, systems } from '../helpers/legacy.js';

const NOW = 1_800_000_000_000;
const parse = createParser([]);
const row = (fields: object = {}) => ({
  task_id: 't-1',
  status: 'success',
  started_at: 1_700_000_000,
  finished_at: 1_700_000_009,
  ...fields,
});

function target(there: readonly string[] = []) {
  const written: TaskRecord[] = [];
  const store: ImportTarget = {
    parse,
    exists: (taskId) => there.includes(taskId) || written.some((record) => record.taskId === taskId),
    write: async (record) => {
      written.push(record);
    },
    now: () => NOW,
  };
  return { store, written };
}

describe('importRecords', () => {
  it('normalises each record and writes it once', async () => {
    const { store, written } = target();
    const report = await importRecords([row(), row({ task_id: 't-2', status: 'cancelled' })], store);
    expect(report).toEqual({ imported: ['t-1', 't-2'], skipped: [], rejected: [] });
    expect(written).toEqual([parse(row()), parse(row({ task_id: 't-2', status: 'cancelled' }))]);
  });

  it('leaves alone what is there already, so that it can be made again', async () => {
    const { store, written } = target(['t-1']);
    const records = [row(), row({ task_id: 't-2' })];
    expect(await importRecords(records, store)).toEqual({ imported: ['t-2'], skipped: ['t-1'], rejected: [] });
    expect(await importRecords(records, store)).toEqual({ imported: [], skipped: ['t-1', 't-2'], rejected: [] });
    expect(written).toHaveLength(1);
  });

  it('says of each bad record which and why, and goes on', async () => {
    const { store } = target();
    const getter = {
      get task_id(): string {
        throw new Error('boom');
      },
    };
    const report = await importRecords([null, row({ task_id: '../x' }), getter, { task_id: 'a' }, row()], store);
    expect(report.imported).toEqual(['t-1']);
    expect(report.rejected.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    expect(report.rejected[1]!.reason).toContain('task_id: expected an id');
    expect(report.rejected[2]!.reason).toBe('boom');
  });

  it('skips the same record again, and rejects another task with the same id', async () => {
    const { store, written } = target();
    const records = [
      row({ task_id: 'T-1' }),
      row({ task_id: 'T-1' }),
      row({ task_id: 't-1' }),
      row({ task_id: 'T-1', issue: 5 }),
    ];
    const report = await importRecords(records, store);
    expect(report).toMatchObject({ imported: ['t-1'], skipped: ['t-1'] });
    expect(report.rejected).toEqual([
      { index: 2, reason: 'taskId: "t-1" is the id of record 0 too, which is another task' },
      { index: 3, reason: 'taskId: "t-1" is the id of record 0 too, which is another task' },
    ]);
    expect(written).toHaveLength(1);
  });

  it("writes what ran as lost, save for kube-coder's", async () => {
    for (const system of systems) {
      for (const { value, name } of fixturesOf(system)) {
        const { store, written } = target();
        await importRecords([value], store);
        const before = parse(JSON.parse(JSON.stringify(value)));
        const active = before.status === 'running' || before.status === 'waiting';
        if (active && system !== 'kube-coder')
          expect(written, name).toEqual([{ ...before, status: 'lost', endedAt: NOW }]);
        else expect(written, name).toEqual([before]);
      }
    }
  });

  it('takes our own records too: what ran is lost, or killed where a stop was on record', async () => {
    const { store, written } = target();
    const own = Object.fromEntries(shippedRecords(1).map(([name, text]) => [name, JSON.parse(text)]));
    const stopping = { ...own['running.json'], taskId: 'process-stopping', stop: { cause: 'user', requestedAt: 1 } };
    await importRecords([own['queued.json'], own['waiting.json'], own['killed.json'], stopping], store);
    expect(written.map(({ taskId, status, endedAt }) => [taskId, status, endedAt])).toEqual([
      ['process-4f9k2m1x', 'lost', NOW],
      ['function-4f9k2m1x', 'lost', NOW],
      ['process-stopping', 'killed', NOW],
    ]);
    expect(written[1]).not.toHaveProperty('waitingFor');
  });

  it('never ends a task before it started', async () => {
    const { store, written } = target();
    await importRecords([row({ status: 'running', started_at: NOW + 5000, finished_at: null })], store);
    expect(written[0]).toMatchObject({ status: 'lost', startedAt: NOW + 5000, endedAt: NOW + 5000 });
  });

  it('writes nothing of a newer version, and nothing that it could not read again', async () => {
    const { store, written } = target();
    const huge = row({ task_id: 't-2', log: 'x'.repeat(1024 * 1024) });
    const report = await importRecords([{ schemaVersion: 2, taskId: 'a', kind: 'b', status: 'lost' }, huge], store);
    expect(report.rejected).toEqual([
      { index: 0, reason: 'written by a newer version' },
      { index: 1, reason: expect.stringMatching(/^has \d+ bytes, more than a record may have$/) },
    ]);
    expect(written).toEqual([]);
  });

  it('passes a failed write on, and keeps what was written', async () => {
    const { store, written } = target();
    const failing = {
      ...store,
      write: (record: TaskRecord) =>
        record.taskId === 't-2' ? Promise.reject(new Error('ENOSPC')) : store.write(record),
    };
    await expect(importRecords([row(), row({ task_id: 't-2' }), row({ task_id: 't-3' })], failing)).rejects.toThrow(
      'ENOSPC',
    );
    expect(written.map(({ taskId }) => taskId)).toEqual(['t-1']);
  });

  it('refuses what is no list', async () => {
    await expect(importRecords('x' as never, target().store)).rejects.toMatchObject({ code: 'INVALID_SPEC' });
  });

  it('lets the event loop turn', async () => {
    let turns = 0;
    let counting = true;
    const count = () => {
      turns++;
      if (counting) setImmediate(count);
    };
    setImmediate(count);
    const { store } = target(['t-1']);
    await importRecords(
      Array.from({ length: 200 }, () => row()),
      store,
    );
    counting = false;
    expect(turns).toBeGreaterThanOrEqual(9);
  });
});
