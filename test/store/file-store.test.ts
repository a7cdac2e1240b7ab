import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ownIdentity } from '../../src/store/identity.js';
import { layoutOf, makeRecord, openStore, StoreProcess, tempDir } from '../helpers/store.js';

const mode = (path: string) => statSync(path).mode & 0o777;

describe('opening', () => {
  it('creates the directory with its parents, all private, and says who owns it', async () => {
    const root = tempDir();
    const directory = join(root, 'a', 'b', 'tasks');
    const { store } = await openStore(directory);
    expect(layoutOf(store).directory).toBe(directory);
    for (const path of ['a', 'a/b', 'a/b/tasks', 'a/b/tasks/.run', 'a/b/tasks/.owner']) {
      expect(mode(join(root, path)), path).toBe(0o700);
    }
    expect(store.owner).toMatchObject({ pid: process.pid, startTicks: ownIdentity().startTicks });
    expect(existsSync(layoutOf(store).rejectedDir)).toBe(false);
  });

  it('keeps the rights of a directory that was there, and makes its own folders in it private', async () => {
    const directory = tempDir();
    chmodSync(directory, 0o755);
    mkdirSync(join(directory, '.run'), { mode: 0o777 });
    chmodSync(join(directory, '.run'), 0o777);
    await openStore(directory);
    expect(mode(directory)).toBe(0o755);
    expect(mode(join(directory, '.run'))).toBe(0o700);
    expect(mode(join(directory, '.owner'))).toBe(0o700);
  });

  it('resolves links and accepts a file URL', async () => {
    const root = tempDir();
    mkdirSync(join(root, 'real'));
    symlinkSync('real', join(root, 'link'));
    const { store } = await openStore(pathToFileURL(join(root, 'link')) as never);
    expect(layoutOf(store).directory).toBe(join(root, 'real'));
  });

  it.each([
    ['a file', (root: string) => writeFileSync(join(root, 'x'), 'hello'), 'x', 'ENOTDIR'],
    ['a path through a file', (root: string) => writeFileSync(join(root, 'x'), 'hello'), 'x/y/z', 'ENOTDIR'],
    ['a link loop', (root: string) => symlinkSync('x', join(root, 'x')), 'x', 'ELOOP'],
    ['a path through a link loop', (root: string) => symlinkSync('x', join(root, 'x')), 'x/y', 'ELOOP'],
    ['a link to nothing', (root: string) => symlinkSync('nowhere', join(root, 'x')), 'x', 'ENOENT'],
    ['a name that is too long', () => undefined, `a/${'x'.repeat(300)}`, 'ENAMETOOLONG'],
  ])('refuses %s, names it, and leaves nothing', async (_what, prepare, name, code) => {
    const root = tempDir();
    prepare(root);
    const before = readdirSync(root);
    const failure = openStore(join(root, name));
    await expect(failure).rejects.toMatchObject({ code: 'STORAGE_FAILED', cause: { code } });
    await expect(failure).rejects.toThrow(join(root, name));
    expect(readdirSync(root)).toEqual(before);
  });

  it('refuses a folder of its own that is a link to somewhere else', async () => {
    const root = tempDir();
    mkdirSync(join(root, 'tasks'));
    mkdirSync(join(root, 'elsewhere'));
    symlinkSync('../elsewhere', join(root, 'tasks', '.run'));
    await expect(openStore(join(root, 'tasks'))).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    expect(readdirSync(join(root, 'tasks'))).toEqual(['.run']);
    expect(readdirSync(join(root, 'elsewhere'))).toEqual([]);
  });

  it.each([0o000, 0o077, 0o777])('makes folders 0700 and files 0600 under umask %o', async (mask) => {
    const directory = join(tempDir(), 'tasks');
    const host = new StoreProcess();
    await host.call('umask', mask);
    expect(await host.call('open', directory)).toMatchObject({ ok: true });
    await host.call('put', makeRecord('t-1'));
    await host.call('putResult', 't-1', 'a result');
    writeFileSync(join(directory, 'broken.json'), '{');
    expect(await host.call('load')).toMatchObject({ ok: true, value: { records: 1, rejected: 1 } });
    for (const path of ['', '.run', '.owner', '.owner/epoch-1.lock', '.rejected', 't-1']) {
      expect(mode(join(directory, path)), path).toBe(0o700);
    }
    for (const path of ['t-1.json', 't-1/result.json', '.owner/epoch-1', '.rejected/broken.json.reason']) {
      expect(mode(join(directory, path)), path).toBe(0o600);
    }
  });
});

describe('put and load', () => {
  it('reads back what was put, unknown keys included', async () => {
    const directory = tempDir();
    const { store } = await openStore(directory, { fsync: true });
    const record = { ...makeRecord('t-1'), somebodyElses: { key: [1, null, 'ä😀'] } };
    await store.put(record);
    await store.release();
    const next = await openStore(directory);
    const { records, rejected } = await next.store.load();
    expect(records).toEqual([record]);
    expect(rejected).toEqual([]);
    expect(Object.isFrozen(records[0])).toBe(true);
  });

  it('refuses a record over 1 MiB and keeps the one that was there', async () => {
    const { store } = await openStore(tempDir());
    await store.put(makeRecord('t-1'));
    const before = readFileSync(layoutOf(store).recordPath('t-1'), 'utf8');
    const large = makeRecord('t-1', { description: 'x'.repeat(1024 * 1024) });
    await expect(store.put(large)).rejects.toMatchObject({ code: 'STORAGE_FAILED', taskId: 't-1' });
    expect(readFileSync(layoutOf(store).recordPath('t-1'), 'utf8')).toBe(before);
  });

  it('says STORAGE_FAILED with the cause and the task, and works again afterwards', async () => {
    const { store } = await openStore(tempDir());
    mkdirSync(layoutOf(store).recordPath('t-1'));
    const failure = store.put(makeRecord('t-1'));
    await expect(failure).rejects.toMatchObject({ code: 'STORAGE_FAILED', taskId: 't-1', cause: { code: 'EISDIR' } });
    await store.put(makeRecord('t-2'));
  });

  it('does not write over a record that it could not read', async () => {
    const directory = tempDir();
    const newer = JSON.stringify({ schemaVersion: 9, taskId: 't-1' });
    writeFileSync(join(directory, 't-1.json'), newer);
    const { store } = await openStore(directory);
    await store.load();
    await expect(store.put(makeRecord('t-1'))).rejects.toMatchObject({ code: 'TASK_EXISTS', taskId: 't-1' });
    expect(readFileSync(join(directory, 't-1.json'), 'utf8')).toBe(newer);
  });

  it('refuses to write once the directory was given up, and waits for the writes under way', async () => {
    const directory = tempDir();
    const { store } = await openStore(directory);
    const puts = Array.from({ length: 20 }, (_, i) => store.put(makeRecord(`t-${i}`)));
    await store.release();
    await store.release();
    expect(readdirSync(directory).filter((name) => name.endsWith('.json'))).toHaveLength(20);
    await Promise.all(puts);
    await expect(store.put(makeRecord('late'))).rejects.toMatchObject({ code: 'OWNERSHIP_LOST' });
    await expect(store.remove('t-1')).rejects.toMatchObject({ code: 'OWNERSHIP_LOST' });
    await expect(store.putResult('t-1', 1)).rejects.toMatchObject({ code: 'OWNERSHIP_LOST' });
  });
});

describe('results', () => {
  it('keeps a result in its own file', async () => {
    const { store } = await openStore(tempDir(), { fsync: true });
    expect(await store.getResult('t-1')).toBeUndefined();
    await store.putResult('t-1', { answer: ['ä', 1] });
    await store.putResult('t-1', { answer: 'second' });
    expect(await store.getResult('t-1')).toEqual({ answer: 'second' });
    expect(readdirSync(layoutOf(store).taskDir('t-1'))).toEqual(['result.json']);
  });

  it('says so when a result cannot be read', async () => {
    const { store } = await openStore(tempDir());
    await store.putResult('t-1', 1);
    writeFileSync(layoutOf(store).resultPath('t-1'), '{');
    await expect(store.getResult('t-1')).rejects.toMatchObject({ code: 'STORAGE_FAILED', taskId: 't-1' });
    rmSync(layoutOf(store).resultPath('t-1'));
    symlinkSync('elsewhere', layoutOf(store).resultPath('t-1'));
    await expect(store.getResult('t-1')).rejects.toMatchObject({
      code: 'STORAGE_FAILED',
      message: expect.stringContaining('is not a regular file'),
    });
  });
});

describe('remove', () => {
  async function withFiles(id: string) {
    const opened = await openStore(tempDir(), { fsync: true });
    const layout = layoutOf(opened.store);
    await opened.store.put(makeRecord(id));
    await opened.store.putResult(id, 1);
    writeFileSync(layout.outputPath(id), 'output');
    writeFileSync(layout.pidPath(id), '1');
    writeFileSync(layout.exitPath(id), '0\n');
    return opened;
  }

  it('removes the record and all that belongs to it', async () => {
    const { store } = await withFiles('t-1');
    await store.put(makeRecord('t-10'));
    await store.remove('t-1');
    await store.remove('t-1');
    expect(readdirSync(layoutOf(store).directory).sort()).toEqual(['.owner', '.run', 't-10.json']);
    expect(readdirSync(layoutOf(store).runDir)).toEqual([]);
  });

  it("leaves what is somebody else's in the folder, and the folder with it", async () => {
    const { store } = await withFiles('t-1');
    writeFileSync(join(layoutOf(store).taskDir('t-1'), 'notes.txt'), 'mine');
    mkdirSync(join(layoutOf(store).taskDir('t-1'), 'task.json'));
    await store.remove('t-1');
    expect(readdirSync(layoutOf(store).taskDir('t-1')).sort()).toEqual(['notes.txt', 'task.json']);
    expect(existsSync(layoutOf(store).recordPath('t-1'))).toBe(false);
  });

  it('does not follow a link that stands where the folder was', async () => {
    const { store } = await openStore(tempDir());
    const elsewhere = tempDir();
    writeFileSync(join(elsewhere, 'output.log'), 'not ours');
    await store.put(makeRecord('t-1'));
    symlinkSync(elsewhere, layoutOf(store).taskDir('t-1'));
    await store.remove('t-1');
    expect(readFileSync(join(elsewhere, 'output.log'), 'utf8')).toBe('not ours');
  });

  it('removes the record last: a failure before leaves it there to be removed again', async () => {
    const { store } = await withFiles('t-1');
    const layout = layoutOf(store);
    // The folder of the run files is a file for a while: nothing in it can be removed.
    renameSync(layout.runDir, `${layout.runDir}-away`);
    writeFileSync(layout.runDir, '');
    await expect(store.remove('t-1')).rejects.toMatchObject({ code: 'STORAGE_FAILED', taskId: 't-1' });
    expect(existsSync(layout.recordPath('t-1'))).toBe(true);
    rmSync(layout.runDir);
    renameSync(`${layout.runDir}-away`, layout.runDir);
    await store.remove('t-1');
    expect(existsSync(layout.recordPath('t-1'))).toBe(false);
    expect(existsSync(layout.taskDir('t-1'))).toBe(false);
  });

  it('removes a legacy task, its folder and its old record', async () => {
    const directory = tempDir();
    mkdirSync(join(directory, 'Old-1'));
    writeFileSync(join(directory, 'Old-1', 'task.json'), JSON.stringify({ legacy: 'Old-1' }));
    writeFileSync(join(directory, 'Old-1', 'output.log'), 'said');
    const { store } = await openStore(directory, { fsync: true });
    const { records } = await store.load();
    expect(readFileSync(store.output('old-1').path, 'utf8')).toBe('said');
    await store.put(records[0]!);
    await store.putResult('old-1', 1);
    await store.remove('old-1');
    expect(readdirSync(directory).sort()).toEqual(['.owner', '.run']);
    expect(store.output('old-1').path).toBe(join(directory, 'old-1', 'output.log'));
  });
});
