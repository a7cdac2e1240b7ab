import fs, { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { DurableFiles } from '../../src/store/durable-file.js';
import { tempDir } from '../helpers/store.js';

type Callback = (error: Error | null, ...rest: unknown[]) => void;

afterEach(() => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
});

function failing(code: string): Error {
  return Object.assign(new Error(`${code}: made up`), { code });
}

describe('DurableFiles.write', () => {
  it('replaces a file whole, with mode 0600 and nothing beside it', async () => {
    const folder = tempDir();
    const target = join(folder, 'a.json');
    writeFileSync(target, 'old', { mode: 0o644 });
    await new DurableFiles({ fsync: true }).write(target, Buffer.from('new'));
    expect(readFileSync(target, 'utf8')).toBe('new');
    expect(statSync(target).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(['a.json']);
  });

  it('takes a short write for a full disk and leaves the good file alone', async () => {
    const folder = tempDir();
    const target = join(folder, 'a.json');
    writeFileSync(target, 'the good one');
    const write = fs.write;
    vi.spyOn(fs, 'write').mockImplementation(((
      fd: number,
      data: Buffer,
      from: number,
      _length: number,
      at: number,
      done: Callback,
    ) => write(fd, data, from, 3, at, done)) as never);
    const failure = new DurableFiles({ fsync: true }).write(target, Buffer.from('the new one'));
    await expect(failure).rejects.toMatchObject({ code: 'ENOSPC', syscall: 'write' });
    expect(readFileSync(target, 'utf8')).toBe('the good one');
    expect(readdirSync(folder)).toEqual(['a.json']);
  });

  it('leaves no draft behind when the last rename fails', async () => {
    const folder = tempDir();
    mkdirSync(join(folder, 'a.json'));
    const failure = new DurableFiles({ fsync: false }).write(join(folder, 'a.json'), Buffer.from('x'));
    await expect(failure).rejects.toMatchObject({ code: 'EISDIR' });
    expect(readdirSync(folder)).toEqual(['a.json']);
  });

  it('takes a new file back when the fsync of its folder fails, and keeps one that replaced another', async () => {
    const folder = tempDir();
    const files = new DurableFiles({ fsync: true });
    await files.write(join(folder, 'old.json'), Buffer.from('1'));
    const syncs = failFolderSyncs(folder);
    await expect(files.write(join(folder, 'new.json'), Buffer.from('1'))).rejects.toMatchObject({ code: 'EIO' });
    await expect(files.write(join(folder, 'old.json'), Buffer.from('2'))).rejects.toMatchObject({ code: 'EIO' });
    expect(syncs()).toBe(2);
    expect(readdirSync(folder)).toEqual(['old.json']);
    expect(readFileSync(join(folder, 'old.json'), 'utf8')).toBe('2');
  });

  it('shares one fsync of the folder among the renames that wait for it', async () => {
    const folder = tempDir();
    const syncs = countFolderSyncs(folder);
    const files = new DurableFiles({ fsync: true });
    await Promise.all(Array.from({ length: 50 }, (_, i) => files.write(join(folder, `f${i}.json`), Buffer.from('x'))));
    expect(readdirSync(folder)).toHaveLength(50);
    expect(syncs()).toBeGreaterThan(0);
    expect(syncs()).toBeLessThan(50);
  });

  it('syncs nothing at all without fsync', async () => {
    const folder = tempDir();
    const syncs = countFolderSyncs(folder);
    const fsync = vi.spyOn(fs, 'fsync');
    const files = new DurableFiles({ fsync: false });
    await files.write(join(folder, 'a.json'), Buffer.from('x'));
    await files.unlink(join(folder, 'a.json'));
    expect(syncs()).toBe(0);
    expect(fsync).not.toHaveBeenCalled();
  });
});

describe('DurableFiles.unlink', () => {
  it('removes a file, and does not mind one that is not there', async () => {
    const folder = tempDir();
    writeFileSync(join(folder, 'a'), '');
    const files = new DurableFiles({ fsync: true });
    await files.unlink(join(folder, 'a'));
    await files.unlink(join(folder, 'a'));
    expect(readdirSync(folder)).toEqual([]);
  });
});

function countFolderSyncs(folder: string): () => number {
  return spyOnFolderOpens(folder, () => undefined);
}

function failFolderSyncs(folder: string): () => number {
  return spyOnFolderOpens(folder, () => {
    throw failing('EIO');
  });
}

function spyOnFolderOpens(folder: string, then: () => void): () => number {
  let count = 0;
  const open = fs.promises.open;
  vi.spyOn(fs.promises, 'open').mockImplementation(async (path, ...rest) => {
    if (path === folder) {
      count++;
      then();
    }
    return open(path, ...rest);
  });
  syncBuiltinESMExports();
  return () => count;
}
