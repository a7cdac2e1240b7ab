/* A disk that is really full: a tmpfs of 64 KiB. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readRecords } from '../../src/store/load.js';
import { canRun, defer, heldClaims, layoutOf, makeRecord, openStore, parse, tempDir } from '../helpers/store.js';

function mount(path: string): void {
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'holdfast-test', path], { stdio: 'ignore' });
}

/** A disk of 16 pages. */
function tinyDisk(): string {
  const path = join(tempDir(), 'disk');
  mkdirSync(path);
  mount(path);
  defer(() => execFileSync('umount', ['--lazy', path]));
  return path;
}

function fill(disk: string): string {
  const path = join(disk, 'filler');
  try {
    for (;;) writeFileSync(path, Buffer.alloc(1024), { flag: 'a' });
  } catch (error) {
    expect(error).toMatchObject({ code: 'ENOSPC' });
  }
  return path;
}

const isPermitted = (() => {
  const path = mkdtempSync(join(tmpdir(), 'holdfast-mount-probe-'));
  const works = process.getuid?.() === 0 && canRun('mount', '-t', 'tmpfs', '-o', 'size=64k', 'holdfast-test', path);
  if (works) execFileSync('umount', [path]);
  rmSync(path, { recursive: true });
  return works;
})();

describe.skipIf(!isPermitted)('a full disk (needs the right to mount)', () => {
  let disk: string;
  const names = () => readdirSync(disk).filter((name) => name.includes('.json'));
  const record = (i: number, size: number) => makeRecord(`t-${i}`, { description: 'x'.repeat(size) });

  it('refuses what does not fit, keeps every record whole, and goes on once there is space', async () => {
    disk = tinyDisk();
    const { store, errors } = await openStore(disk, { fsync: true });
    const written = new Map<string, string>();
    let refused = 0;
    for (let i = 0; refused < 5; i++) {
      const next = record(i, 1 + ((i * 997) % 6000));
      try {
        await store.put(next);
        written.set(next.taskId, `${JSON.stringify(next)}\n`);
      } catch (error) {
        refused++;
        expect(error).toMatchObject({ code: 'STORAGE_FAILED', taskId: next.taskId, cause: { code: 'ENOSPC' } });
      }
    }
    expect(written.size).toBeGreaterThan(3);
    expect(names().sort()).toEqual([...written.keys()].map((id) => `${id}.json`).sort());
    for (const [id, text] of written) expect(readFileSync(layoutOf(store).recordPath(id), 'utf8')).toBe(text);

    await store.remove('t-0');
    await store.remove('t-1');
    await store.put(record(1000, 100));
    await store.release();
    const next = await openStore(disk, { fsync: true });
    const loaded = await next.store.load();
    expect(loaded.records).toHaveLength(written.size - 1);
    expect(loaded.rejected).toEqual([]);
    expect(errors).toEqual([]);
  });

  it.each([0, 1, 2, 3])('never replaces a good record by a short one, with %i pages to spare', async (pages) => {
    disk = tinyDisk();
    const { store } = await openStore(disk);
    await store.put(record(1, 100));
    const good = readFileSync(layoutOf(store).recordPath('t-1'), 'utf8');
    const filler = fill(disk);
    const size = readFileSync(filler).length;
    writeFileSync(filler, Buffer.alloc(Math.max(0, size - pages * 4096)));
    const failure = store.put(record(1, 20_000));
    await expect(failure).rejects.toMatchObject({ code: 'STORAGE_FAILED', cause: { code: 'ENOSPC' } });
    expect(readFileSync(layoutOf(store).recordPath('t-1'), 'utf8')).toBe(good);
    expect(names()).toEqual(['t-1.json']);
    rmSync(filler);
    await store.put(record(1, 20_000));
    expect(readFileSync(layoutOf(store).recordPath('t-1'), 'utf8')).toHaveLength(
      JSON.stringify(record(1, 20_000)).length + 1,
    );
  });

  it('gives up the directory, and reads it, without a byte of space', async () => {
    disk = tinyDisk();
    const { store } = await openStore(disk);
    await store.put(record(1, 100));
    fill(disk);
    await store.release();
    expect(heldClaims(disk)).toEqual([]);
    expect((await readRecords(disk, parse)).records).toHaveLength(1);
  });

  it('leaves no claim where an owner cannot be written, and can be opened later', async () => {
    disk = tinyDisk();
    const filler = fill(disk);
    const directory = join(disk, 'tasks');
    await expect(openStore(directory)).rejects.toMatchObject({ code: 'STORAGE_FAILED', cause: { code: 'ENOSPC' } });
    expect(readdirSync(disk)).toEqual(['filler']);
    rmSync(filler);
    await openStore(directory);
  });

  it('leaves a broken record in place when there is no room to say why', async () => {
    disk = tinyDisk();
    const { store } = await openStore(disk);
    writeFileSync(join(disk, 'bad.json'), '{');
    fill(disk);
    const { rejected } = await store.load();
    expect(rejected).toMatchObject([{ path: join(disk, 'bad.json'), movedTo: null }]);
    expect(readFileSync(join(disk, 'bad.json'), 'utf8')).toBe('{');
    expect(readdirSync(layoutOf(store).rejectedDir)).toEqual([]);
  });
});
