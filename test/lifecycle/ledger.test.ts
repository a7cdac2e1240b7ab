import { describe, expect, it } from 'vitest';
import { systemClock } from '../../src/clock.js';
import type { Finding } from '../../src/lifecycle/decide/finding.js';
import { Lifetime } from '../../src/lifecycle/lifetime.js';
import type { News } from '../../src/lifecycle/news.js';
import { Ledger } from '../../src/lifecycle/task/ledger.js';
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

/** A ledger on a disk that is a list, and all that it told. */
function setUp(put: (record: TaskRecord) => Promise<void>, now = systemClock.now) {
  const told: TaskRecord[] = [];
  const lifetime = new Lifetime((error) => {
    throw error;
  });
  const news = { emit: (_event: string, payload: { task: TaskRecord }) => told.push(payload.task) };
  const listener = { written: () => {}, apply: () => {}, changed: () => {} };
  const shared = {
    clock: { ...systemClock, now },
    store: { put } as unknown as TaskStore,
    news: news as unknown as News,
    lifetime,
  };
  return { ledger: new Ledger(shared, task(), listener), told, lifetime };
}

const described = (description: string): Finding => ({ is: 'described', description, metadata: {} });

it('tells of what was written, though more was learnt while it was', async () => {
  const disk: TaskRecord[] = [];
  const { ledger, told } = setUp(async (record) => {
    disk.push(record);
    if (disk.length === 1) ledger.note({ details: { place: 'here', ref: 'learnt' } });
  });
  expect(await ledger.post(described('first'))).toMatchObject({
    description: 'first',
    details: { ref: 'learnt' },
  });
  await ledger.post(described('second'));
  expect(told).toEqual(disk);
  expect(disk[1]).toMatchObject({ details: { ref: 'learnt' } });
});

it('counts the writes and says when each was made, and only those that succeeded', async () => {
  let now = 1_000;
  let refused = false;
  const disk: TaskRecord[] = [];
  const { ledger, told } = setUp(
    async (record) => {
      if (refused) throw new Error('the disk refused');
      disk.push(record);
    },
    () => now,
  );
  // Neither is for a finding to say.
  const next = (record: TaskRecord) => ({ ...record, revision: 77, updatedAt: 77 });
  const write = () => ledger.post({ is: 'delivered', next });
  expect(ledger.record).toMatchObject({ revision: 0, updatedAt: 1 });
  expect(await write()).toMatchObject({ revision: 1, updatedAt: 1_000 });
  now = 2_000;
  refused = true;
  await expect(write()).rejects.toThrow('refused');
  expect(ledger.view).toMatchObject({ revision: 1, updatedAt: 1_000 });
  refused = false;
  await ledger.post({ is: 'delivered', next: () => undefined });
  await Promise.all([write(), ledger.post(described('second'))]);
  expect(disk.map(({ revision, updatedAt }) => [revision, updatedAt])).toEqual([
    [1, 1_000],
    [2, 2_000],
    [3, 2_000],
  ]);
  expect(told).toEqual(disk.slice(2));
});

describe('a message', () => {
  it('that is posted while the task decides is an error, and nothing is left waiting', async () => {
    const { ledger } = setUp(async () => {});
    const reenters = ledger.post({
      is: 'delivered',
      next: (record) => {
        void ledger.post(described('from within'));
        return record;
      },
    });
    await expect(reenters).rejects.toThrow('nothing can be posted to it meanwhile');
    expect(await ledger.post(described('later'))).toMatchObject({ description: 'later', revision: 1 });
  });

  it('is handled after those before it, whatever comes of them', async () => {
    const disk: string[] = [];
    const { ledger } = setUp(async ({ description }) => {
      await Promise.resolve();
      if (description === 'second') throw new Error('the disk refused');
      disk.push(description);
    });
    const posted = ['first', 'second', 'third'].map((description) => ledger.post(described(description)));
    expect((await Promise.allSettled(posted)).map(({ status }) => status)).toEqual([
      'fulfilled',
      'rejected',
      'fulfilled',
    ]);
    expect(disk).toEqual(['first', 'third']);
    expect(ledger.record).toMatchObject({ description: 'third', revision: 2 });
  });

  it('is refused once nothing is written any more, and once the task was removed', async () => {
    const { ledger, lifetime } = setUp(async () => {});
    lifetime.refuse(Object.assign(new Error('closed')) as never);
    expect(await ledger.post(described('while it closes'))).toMatchObject({ revision: 1 });
    lifetime.end();
    await expect(ledger.post(described('too late'))).rejects.toThrow('closed');
  });
});
