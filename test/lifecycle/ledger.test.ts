import { expect, it } from 'vitest';
import { Entry } from '../../src/lifecycle/entry.js';
import { Ledger } from '../../src/lifecycle/ledger.js';
import type { TaskStore } from '../../src/store/contract.js';
import { parseCurrentRecord, type TaskRecord } from '../../src/task/record.js';

const task = (): TaskRecord =>
  parseCurrentRecord({
    schemaVersion: 1,
    taskId: 'job-1',
    kind: 'job',
    description: '',
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
  const ledger = new Ledger({ put } as unknown as TaskStore, { written: () => {}, announced: () => {} });
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
