import { expect, it } from 'vitest';
import { systemClock } from '../../src/clock.js';
import { Entry } from '../../src/lifecycle/entry.js';
import { Ledger } from '../../src/lifecycle/ledger.js';
import type { TaskStore } from '../../src/store/contract.js';
import { parseCurrentRecord, type TaskRecord } from '../../src/task/record.js';

const task = (): TaskRecord =>
  parseCurrentRecord({
    schemaVersion: 1,
    taskId: 'job-1',
    kind: 'job',
    description: 'work',
    status: 'running',
    detached: true,
    createdAt: 1,
    startedAt: 1,
    endedAt: null,
    attempt: 1,
    owner: null,
    details: { place: 'here' },
    metadata: {},
    hooks: {},
  });

it('announces what was written, though more was learnt while it was', async () => {
  const entry = new Entry(task(), 0, undefined);
  const disk: TaskRecord[] = [];
  const announced: TaskRecord[] = [];
  const put = async (record: TaskRecord) => {
    disk.push(record);
    if (disk.length === 1) entry.note({ details: { place: 'here', ref: 'learnt' } });
  };
  const ledger = new Ledger({ put } as unknown as TaskStore, systemClock, { written: () => {}, announced: () => {} });
  const describe = (description: string) =>
    ledger.change(
      entry,
      (record) => ({ ...record, description }),
      (record) => announced.push(record),
    );
  expect(await describe('first')).toMatchObject({ description: 'first', details: { ref: 'learnt' } });
  await describe('second');
  expect(announced).toEqual(disk);
  expect(disk[1]).toMatchObject({ details: { ref: 'learnt' } });
});

it('counts the writes and says when each was made, and only those that succeeded', async () => {
  let now = 1_000;
  let refused = false;
  const entry = new Entry(task(), 0, undefined);
  const disk: TaskRecord[] = [];
  const put = async (record: TaskRecord) => {
    if (refused) throw new Error('the disk refused');
    disk.push(record);
  };
  const clock = { ...systemClock, now: () => now };
  const ledger = new Ledger({ put } as unknown as TaskStore, clock, { written: () => {}, announced: () => {} });
  const announced: TaskRecord[] = [];
  const write = () =>
    ledger.change(
      entry,
      // Neither is for whoever asks for the change to say.
      (record) => ({ ...record, revision: 77, updatedAt: 77 }),
      (record) => announced.push(record),
    );
  expect(entry.record).toMatchObject({ revision: 0, updatedAt: 1 });
  expect(await write()).toMatchObject({ revision: 1, updatedAt: 1_000 });
  now = 2_000;
  refused = true;
  await expect(write()).rejects.toThrow('refused');
  expect(entry.view).toMatchObject({ revision: 1, updatedAt: 1_000 });
  refused = false;
  await ledger.change(entry, () => undefined);
  await Promise.all([write(), write()]);
  expect(disk.map(({ revision, updatedAt }) => [revision, updatedAt])).toEqual([
    [1, 1_000],
    [2, 2_000],
    [3, 2_000],
  ]);
  expect(announced).toEqual(disk);
});
