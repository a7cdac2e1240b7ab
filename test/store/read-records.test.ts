import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readRecords } from '../../src/store/load.js';
import { makeRecord, openStore, parse, StoreProcess, snapshot, tempDir } from '../helpers/store.js';

describe('readRecords', () => {
  it('reads without owning, moving or making anything', async () => {
    const directory = tempDir();
    writeFileSync(join(directory, 'a.json'), JSON.stringify(makeRecord('a')));
    writeFileSync(join(directory, 'bad.json'), '{');
    writeFileSync(join(directory, 'x.json.next'), 'half');
    mkdirSync(join(directory, 'Old'));
    writeFileSync(join(directory, 'Old', 'task.json'), '{"legacy":"Old"}');
    symlinkSync('a.json', join(directory, 'link.json'));
    const before = snapshot(directory);
    const { records, rejected } = await readRecords(directory, parse);
    expect(records.map((record) => record.taskId).sort()).toEqual(['a', 'old']);
    expect(rejected.map(({ path }) => path).sort()).toEqual([
      join(directory, 'bad.json'),
      join(directory, 'link.json'),
    ]);
    expect(snapshot(directory)).toEqual(before);
  });

  it('says STORAGE_FAILED for a directory that is not there, and for one that is a file', async () => {
    const directory = tempDir();
    await expect(readRecords(join(directory, 'none'), parse)).rejects.toMatchObject({
      code: 'STORAGE_FAILED',
      cause: { code: 'ENOENT' },
    });
    writeFileSync(join(directory, 'file'), '');
    await expect(readRecords(join(directory, 'file'), parse)).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
  });

  it.each([
    ['on disk', () => tempDir()],
    ['in memory', () => join('/dev/shm', `holdfast-${process.pid}-${Math.random().toString(36).slice(2)}`)],
  ])('is never wrong-footed by a writer in another process, %s', async (_where, makeDirectory) => {
    const directory = makeDirectory();
    const { store } = await openStore(directory);
    const ids = Array.from({ length: 60 }, (_, i) => `t-${i}`);
    await Promise.all(ids.map((id) => store.put(makeRecord(id, { metadata: { fill: 'x'.repeat(5_000) } }))));
    await store.release();
    const writer = new StoreProcess();
    await writer.call('open', directory);
    let isWriting = true;
    const writing = (async () => {
      for (let round = 0; isWriting; round++) {
        const size = 1 + ((round * 1_237) % 20_000);
        await Promise.all(
          ids.map((id) => writer.call('put', makeRecord(id, { metadata: { fill: 'y'.repeat(size) } }))),
        );
      }
    })();
    for (let i = 0; i < 150; i++) {
      const { records, rejected } = await readRecords(directory, parse);
      expect(rejected).toEqual([]);
      expect(records).toHaveLength(ids.length);
    }
    isWriting = false;
    await writing;
    await writer.kill();
    rmSync(directory, { recursive: true, force: true });
  });
});
