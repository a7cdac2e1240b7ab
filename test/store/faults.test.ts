/*
 * A scripted run over the whole store, once for every file system call it makes: that call fails, once or from then on
 * for ever. Whatever fails, what was acknowledged is there afterwards, nothing is half there, and the next owner can go
 * on.
 */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { BackgroundTaskError } from '../../src/errors.js';
import type { FileStore } from '../../src/store/file-store.js';
import type { TaskRecord } from '../../src/task/record.js';
import { heldClaims, makeRecord, openStore, snapshot, tempDir } from '../helpers/store.js';
import { Faults } from '../helpers/store-faults.js';

/** Two by default, for time; the code makes no difference between most of them. */
const CODES = (process.env.HOLDFAST_FAULT_CODES ?? 'ENOSPC,EIO').split(',');

let faults: Faults | undefined;
afterEach(() => {
  faults?.restore();
  faults = undefined;
});

interface Ledger {
  /** The last version that was acknowledged; `null`: its removal was. */
  readonly acknowledged: Map<string, TaskRecord | null>;
  /** Versions whose write or removal failed since. */
  readonly doubtful: Map<string, (TaskRecord | null)[]>;
  readonly failures: BackgroundTaskError[];
}

async function attempt(ledger: Ledger, id: string, version: TaskRecord | null, work: Promise<unknown>): Promise<void> {
  try {
    await work;
    ledger.acknowledged.set(id, version);
    ledger.doubtful.delete(id);
  } catch (error) {
    expect(error).toBeInstanceOf(BackgroundTaskError);
    ledger.failures.push(error as BackgroundTaskError);
    ledger.doubtful.set(id, [...(ledger.doubtful.get(id) ?? []), version]);
  }
}

async function scriptedWrites(store: FileStore, ledger: Ledger): Promise<void> {
  const [a1, a2] = [makeRecord('a', { status: 'running', endedAt: null }), makeRecord('a')];
  const [b1, c1] = [makeRecord('b'), makeRecord('c')];
  await attempt(ledger, 'a', a1, store.put(a1));
  await attempt(ledger, 'b', b1, store.put(b1));
  await attempt(ledger, 'result', null, store.putResult('a', 'result'));
  await attempt(ledger, 'a', a2, store.put(a2));
  await attempt(ledger, 'b', null, store.remove('b'));
  await attempt(ledger, 'c', c1, store.put(c1));
}

/** One run on a fresh directory; answers whether any call failed. */
async function runWithFault(code: string, position: number, howLong: 'once' | 'for ever'): Promise<boolean> {
  const root = tempDir();
  const directory = join(root, 'tasks');
  faults = await Faults.install(root);
  faults.arm(code, (index) => (howLong === 'once' ? index === position : index >= position));
  const ledger: Ledger = { acknowledged: new Map(), doubtful: new Map(), failures: [] };
  const opened = await openStore(directory, { fsync: true }).catch((error: unknown) => {
    expect(error).toMatchObject({ code: 'STORAGE_FAILED', cause: { code } });
    return null;
  });
  if (opened) {
    await scriptedWrites(opened.store, ledger);
    await opened.store.release().catch((error: unknown) => ledger.failures.push(error as BackgroundTaskError));
  }
  const { fired } = faults;
  faults.disarm();
  if (!opened && howLong === 'once') expect(existsSync(directory), fired.join()).toBe(false);
  for (const failure of ledger.failures) expect(failure).toMatchObject({ code: 'STORAGE_FAILED', cause: { code } });
  await checkAfterwards(directory, ledger, `${code} ${howLong} at ${position}: ${fired[0]}`);
  faults.restore();
  return fired.length > 0;
}

async function checkAfterwards(directory: string, ledger: Ledger, where: string): Promise<void> {
  const { store, errors } = await openStore(directory, { fsync: true });
  const { records, rejected } = await store.load();
  expect([rejected, errors], where).toEqual([[], []]);
  const found = new Map(records.map((record) => [record.taskId, record]));
  for (const id of ['a', 'b', 'c']) {
    const legal = [ledger.acknowledged.get(id) ?? null, ...(ledger.doubtful.get(id) ?? [])];
    expect(legal, `${where}: ${id}`).toContainEqual(found.get(id) ?? null);
  }
  if (ledger.acknowledged.has('result')) expect(await store.getResult('a'), where).toBe('result');
  const names = readdirSync(directory).filter(
    (name) => !['a.json', 'b.json', 'c.json', 'a', 'b', '.owner', '.run'].includes(name),
  );
  expect(names, where).toEqual([]);
  expect(heldClaims(directory), where).toHaveLength(1);
  await store.put(makeRecord('later'));
  await store.release();
}

describe.each(CODES)('%s at every call of a run', (code) => {
  it.each(['once', 'for ever'] as const)('%s', { timeout: 240_000 }, async (howLong) => {
    let position = 0;
    while (await runWithFault(code, position, howLong)) position++;
    expect(position).toBeGreaterThan(60);
  });
});

describe('a refused write', () => {
  it('of a new record leaves nothing at all, wherever it fails', async () => {
    for (let position = 0; ; position++) {
      const root = tempDir();
      faults = await Faults.install(root);
      const { store } = await openStore(join(root, 'tasks'), { fsync: true });
      const before = snapshot(root);
      const start = faults.calls.length;
      faults.arm('EIO', (index) => index === start + position);
      const outcome = await store.put(makeRecord('a')).catch((error: unknown) => error);
      faults.disarm();
      const { fired } = faults;
      faults.restore();
      if (fired.length === 0) {
        expect(position).toBeGreaterThan(8);
        return;
      }
      if (outcome !== undefined) {
        expect(outcome, fired[0]).toMatchObject({ code: 'STORAGE_FAILED', taskId: 'a' });
        expect(snapshot(root), fired[0]).toEqual(before);
      }
      await store.put(makeRecord('a'));
      await store.release();
    }
  });
});

describe.each(['EIO', 'EMFILE', 'ENFILE', 'EACCES'])('%s at every call of a load', (code) => {
  it('drops nothing and destroys nothing', { timeout: 240_000 }, async () => {
    for (let position = 0; ; position++) {
      const root = tempDir();
      for (const id of ['a', 'b']) writeFileSync(join(root, `${id}.json`), JSON.stringify(makeRecord(id)));
      writeFileSync(join(root, 'bad.json'), '{');
      writeFileSync(join(root, 'x.json.next'), 'left over');
      mkdirSync(join(root, 'Old'));
      writeFileSync(join(root, 'Old', 'task.json'), '{"legacy":"Old"}');
      faults = await Faults.install(root);
      const { store } = await openStore(root);
      const start = faults.calls.length;
      faults.arm(code, (index) => index === start + position);
      const outcome = await store.load().catch((error: unknown) => error as Error);
      faults.disarm();
      const { fired } = faults;
      const where = `${code} at ${position}: ${fired[0]}`;
      faults.restore();
      if (fired.length === 0) {
        expect(position).toBeGreaterThan(15);
        return;
      }
      if (outcome instanceof Error) expect(outcome, where).toMatchObject({ code: 'STORAGE_FAILED', cause: { code } });
      else expect(outcome.records.length + outcome.rejected.length, where).toBe(4);
      const found = Object.entries(snapshot(root)).filter(([path]) => !path.startsWith('.owner'));
      for (const text of ['"a"', '"b"', '"legacy":"Old"']) {
        expect(
          found.filter(([path, content]) => !path.startsWith('.') && content.includes(text)),
          where,
        ).toHaveLength(1);
      }
      expect(
        found.filter(([, content]) => content === '{'),
        where,
      ).toHaveLength(1);
      await store.release();
    }
  });
});
