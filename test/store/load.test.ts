import { execFileSync } from 'node:child_process';
import fs, {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { createServer } from 'node:net';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { readRecords } from '../../src/store/load.js';
import { canRun, defer, makeRecord, openStore, parse, snapshot, tempDir } from '../helpers/store.js';

let directory: string;
beforeEach(() => {
  directory = tempDir();
});
afterEach(() => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
});

const at = (...names: string[]) => join(directory, ...names);
const write = (name: string, value: unknown) =>
  writeFileSync(at(name), typeof value === 'string' || Buffer.isBuffer(value) ? value : JSON.stringify(value));

async function load() {
  const opened = await openStore(directory);
  return { ...opened, ...(await opened.store.load()) };
}

describe('entries that are no records', () => {
  const cases: [string, string | Buffer | object, RegExp][] = [
    ['an empty file', '', /empty/],
    ['broken JSON', '{"schemaVersion":1,', /not valid JSON/],
    ['invalid UTF-8', Buffer.from('{"a":"\xff\xfe"}', 'latin1'), /UTF-8/],
    ['a file over 1 MiB', `"${'x'.repeat(1024 * 1024)}"`, /more than/],
    ['a number', '17', /not a task record/],
    ['an unknown status', { ...makeRecord('bad'), status: 'sleeping' }, /status/],
    ['a wrong type', { ...makeRecord('bad'), createdAt: 'yesterday' }, /createdAt/],
    ["another file's id", makeRecord('other'), /holds the task "other"/],
    ['deep nesting', `{"metadata":${'['.repeat(100_000)}${']'.repeat(100_000)}}`, /not/],
  ];

  it.each(cases)('moves %s aside untouched, says why, and reads the rest', async (_what, value, reason) => {
    write('bad.json', value);
    write('good.json', makeRecord('good'));
    const before = readFileSync(at('bad.json'));
    const { mtimeMs } = statSync(at('bad.json'));
    const { records, rejected } = await load();
    expect(records.map((record) => record.taskId)).toEqual(['good']);
    expect(rejected).toEqual([
      { path: at('bad.json'), movedTo: at('.rejected', 'bad.json'), reason: expect.stringMatching(reason) },
    ]);
    expect(existsSync(at('bad.json'))).toBe(false);
    expect(readFileSync(at('.rejected', 'bad.json')).equals(before)).toBe(true);
    expect(statSync(at('.rejected', 'bad.json')).mtimeMs).toBe(mtimeMs);
    expect(readFileSync(at('.rejected', 'bad.json.reason'), 'utf8')).toBe(`${rejected[0]!.reason}\n`);
  });

  it('moves folders, links, FIFOs, sockets and devices aside without opening them', async () => {
    mkdirSync(at('folder.json'));
    writeFileSync(at('folder.json', 'inside'), 'kept');
    write('target', makeRecord('link'));
    symlinkSync('target', at('link.json'));
    symlinkSync('nowhere', at('dangling.json'));
    execFileSync('mkfifo', [at('fifo.json')]);
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(at('socket.json'), resolve));
    defer(() => server.close());
    const hasDevice = canRun('mknod', at('device.json'), 'c', '1', '3');
    const { records, rejected } = await load();
    expect(records).toEqual([]);
    const reasons = Object.fromEntries(rejected.map(({ path, reason }) => [path.slice(directory.length + 1), reason]));
    expect(reasons).toEqual({
      'folder.json': expect.stringContaining('a folder'),
      'link.json': expect.stringContaining('a symbolic link'),
      'dangling.json': expect.stringContaining('a symbolic link'),
      'fifo.json': expect.stringContaining('a FIFO'),
      'socket.json': expect.stringContaining('a socket'),
      ...(hasDevice ? { 'device.json': expect.stringContaining('a device') } : {}),
    });
    for (const { path, movedTo } of rejected) {
      expect(existsSync(path)).toBe(false);
      expect(fs.lstatSync(movedTo!, { throwIfNoEntry: false })).toBeDefined();
    }
    expect(readFileSync(at('.rejected', 'folder.json', 'inside'), 'utf8')).toBe('kept');
    expect(fs.readlinkSync(at('.rejected', 'link.json'))).toBe('target');
  });

  it('never overwrites what was set aside before, not even half of it', async () => {
    mkdirSync(at('.rejected'));
    writeFileSync(at('.rejected', 'x.json'), 'first');
    writeFileSync(at('.rejected', 'x.json.1.reason'), 'an orphan');
    write('x.json', 'third');
    mkdirSync(at('y.json'));
    writeFileSync(at('.rejected', 'y.json'), 'a file');
    const { rejected } = await load();
    expect(rejected.map(({ movedTo }) => movedTo).sort()).toEqual([
      at('.rejected', 'x.json.2'),
      at('.rejected', 'y.json.1'),
    ]);
    expect(snapshot(at('.rejected'))).toMatchObject({
      'x.json': 'first',
      'x.json.1.reason': 'an orphan',
      'x.json.2': 'third',
      'y.json': 'a file',
      'y.json.1': 'not a file',
    });
  });

  it('leaves and reports what cannot be moved', async () => {
    writeFileSync(at('.rejected'), 'a file where the folder should be');
    write('x.json', '{');
    write('good.json', makeRecord('good'));
    const { store, records, rejected } = await load();
    expect(records).toHaveLength(1);
    expect(rejected).toEqual([
      { path: at('x.json'), movedTo: null, reason: expect.stringContaining('could not be moved') },
    ]);
    expect(readFileSync(at('x.json'), 'utf8')).toBe('{');
    await expect(store.put(makeRecord('x'))).rejects.toMatchObject({ code: 'TASK_EXISTS' });
  });

  it('leaves one of a newer version in place, readable or not', async () => {
    write('newer.json', { ...makeRecord('newer'), schemaVersion: 2, novel: true });
    write('newest.json', { schemaVersion: 3, taskId: 'newest' });
    const { records, rejected } = await load();
    expect(records).toMatchObject([{ taskId: 'newer', schemaVersion: 2, novel: true }]);
    expect(rejected).toEqual([
      { path: at('newest.json'), movedTo: null, reason: expect.stringContaining('newer version') },
    ]);
    expect(readdirSync(directory)).toContain('newest.json');
  });

  it('leaves hidden names and other names alone', async () => {
    write('.hidden.json', '{');
    write('notes.txt', 'x');
    write('x.JSON', 'x');
    write('x.json.1', 'a backup');
    write('x.json.bak', 'x');
    mkdirSync(at('a folder with spaces'));
    writeFileSync(at('a folder with spaces', 'task.json'), '{');
    mkdirSync(at('some-folder'));
    const before = snapshot(directory);
    const { records, rejected } = await load();
    expect([records, rejected]).toEqual([[], []]);
    expect(snapshot(directory)).toMatchObject(before);
  });

  it('reports a name that is not UTF-8', async () => {
    writeFileSync(Buffer.concat([Buffer.from(`${directory}/`), Buffer.from([0xff]), Buffer.from('.json')]), '{');
    const { rejected } = await load();
    expect(rejected).toEqual([{ path: expect.any(String), movedTo: null, reason: expect.stringContaining('UTF-8') }]);
  });
});

describe('failures that may pass', () => {
  /** Makes opening this path for reading fail `times` times. */
  function failOpens(path: string, code: string, times: number): void {
    const openSync = fs.openSync;
    let left = times;
    vi.spyOn(fs, 'openSync').mockImplementation((file, ...rest) => {
      if (file === path && left-- > 0) throw Object.assign(new Error(`${code}: made up, open`), { code });
      return openSync(file, ...rest);
    });
    syncBuiltinESMExports();
  }

  it.each(['EMFILE', 'ENFILE', 'EIO'])('reads a record after a passing %s', async (code) => {
    write('a.json', makeRecord('a'));
    failOpens(at('a.json'), code, 2);
    const { records, rejected } = await load();
    expect(records).toHaveLength(1);
    expect(rejected).toEqual([]);
  });

  it.each([
    ['EIO', Number.POSITIVE_INFINITY, /EIO/],
    ['EACCES', 1, /no permission/],
  ])('leaves a record with a lasting %s in place, and reads the rest', async (code, times, reason) => {
    write('a.json', makeRecord('a', { status: 'running' }));
    write('b.json', makeRecord('b'));
    mkdirSync(at('.run'));
    writeFileSync(at('.run', 'a.pid'), '1');
    failOpens(at('a.json'), code, times);
    const { records, rejected } = await load();
    expect(records.map((record) => record.taskId)).toEqual(['b']);
    expect(rejected).toEqual([{ path: at('a.json'), movedTo: null, reason: expect.stringMatching(reason) }]);
    expect(readdirSync(at('.run'))).toEqual(['a.pid']);
  });

  it('reads the directory after a passing EMFILE, and throws one that lasts', async () => {
    write('a.json', makeRecord('a'));
    const { store } = await openStore(directory);
    const opendirSync = fs.opendirSync;
    const failures = [1, Number.POSITIVE_INFINITY];
    for (const times of failures) {
      let left = times;
      vi.spyOn(fs, 'opendirSync').mockImplementation((path, ...rest) => {
        if (path === directory && left-- > 0) throw Object.assign(new Error('EMFILE'), { code: 'EMFILE' });
        return opendirSync(path, ...rest);
      });
      syncBuiltinESMExports();
      if (times === 1) expect((await store.load()).records).toHaveLength(1);
      else await expect(store.load()).rejects.toMatchObject({ code: 'STORAGE_FAILED', cause: { code: 'EMFILE' } });
    }
  });
});

describe('legacy folders', () => {
  const folder = (name: string, value: unknown) => {
    mkdirSync(at(name), { recursive: true });
    writeFileSync(at(name, 'task.json'), typeof value === 'string' ? value : JSON.stringify(value));
  };

  it('reads <name>/task.json where there is no <name>.json, and finds its output', async () => {
    folder('one', { legacy: 'one' });
    folder('Two', { legacy: 'Two' });
    const { store, records, rejected } = await load();
    expect(rejected).toEqual([]);
    expect(records.map(({ taskId, kind }) => [taskId, kind]).sort()).toEqual([
      ['one', 'legacy'],
      ['two', 'legacy'],
    ]);
    expect(store.output('one').path).toBe(at('one', 'output.log'));
    expect(store.output('two').path).toBe(at('Two', 'output.log'));
    await store.putResult('two', 1);
    expect(existsSync(at('two', 'result.json'))).toBe(true);
  });

  it('lets <id>.json win, and still finds the output in the old folder', async () => {
    write('one.json', makeRecord('one'));
    folder('one', { legacy: 'one' });
    write('two.json', makeRecord('two'));
    folder('Two', 'no record any more');
    write('three.json', makeRecord('three'));
    mkdirSync(at('Three'));
    const { store, records, rejected } = await load();
    expect(rejected).toEqual([]);
    expect(records.every((record) => record.kind === 'function')).toBe(true);
    expect(store.output('two').path).toBe(at('Two', 'output.log'));
    expect(store.output('three').path).toBe(at('three', 'output.log'));
    expect(readFileSync(at('Two', 'task.json'), 'utf8')).toBe('no record any more');
  });

  it('rejects the second of two ids that collide in lower case, always the same one', async () => {
    folder('AB', { legacy: 'AB' });
    folder('Ab', { legacy: 'Ab' });
    const { store, records, rejected } = await load();
    expect(records).toHaveLength(1);
    expect(store.output('ab').path).toBe(at('AB', 'output.log'));
    expect(rejected).toMatchObject([{ path: at('Ab', 'task.json'), movedTo: at('.rejected', 'Ab.json') }]);
    expect(rejected[0]!.reason).toMatch(/taken/);
  });

  it('moves a broken task.json aside and leaves its output where it is', async () => {
    folder('one', '{');
    writeFileSync(at('one', 'output.log'), 'said');
    folder('bad__id', { legacy: 'another' });
    const { records, rejected } = await load();
    expect(records).toEqual([]);
    expect(rejected.map(({ movedTo }) => movedTo).sort()).toEqual([
      at('.rejected', 'bad__id.json'),
      at('.rejected', 'one.json'),
    ]);
    expect(readdirSync(at('one'))).toEqual(['output.log']);
  });

  it('leaves a task.json that is no regular file, and a linked folder, alone', async () => {
    mkdirSync(at('one', 'task.json'), { recursive: true });
    folder('.real', { legacy: 'linked' });
    symlinkSync('.real', at('linked'));
    const { records, rejected } = await load();
    expect([records, rejected]).toEqual([[], []]);
  });
});

describe('sweeping', () => {
  it('removes what dead owners left, and nothing else', async () => {
    write('done.json', makeRecord('done'));
    write('live.json', makeRecord('live', { status: 'running', endedAt: null }));
    write('broken.json', '{');
    mkdirSync(at('.run'));
    mkdirSync(at('live'));
    mkdirSync(at('done'));
    const gone = ['t.json.next', 't.json.next.123456', 'live/result.json.next', 'live/result.json.next.77'];
    const goneRun = ['done.pid', 'done.exit', 'nobody.pid', 'nobody.exit', 'live.void'].map((name) => `.run/${name}`);
    const kept = [
      'T.json.next',
      'x.json.next.old',
      'live/notes',
      'live/result.json',
      't.json.12345',
      'done/output.log',
    ];
    const keptRun = ['live.pid', 'live.exit', 'broken.pid', 'other.txt', 'UPPER.pid'].map((name) => `.run/${name}`);
    for (const name of [...gone, ...goneRun, ...kept, ...keptRun]) writeFileSync(at(name), '1');
    mkdirSync(at('u.json.next'));
    mkdirSync(at('.run', 'folder.pid'));
    const { errors } = await load();
    for (const name of [...gone, ...goneRun]) expect(existsSync(at(name)), name).toBe(false);
    for (const name of [...kept, ...keptRun, 'u.json.next', '.run/folder.pid'])
      expect(existsSync(at(name)), name).toBe(true);
    expect(errors).toEqual([]);
  });

  it('keeps a void claim for as long as its record is there', async () => {
    write('done.json', makeRecord('done', { status: 'lost' }));
    mkdirSync(at('.run'));
    writeFileSync(at('.run', 'done.pid'), 'void\n');
    writeFileSync(at('.run', 'gone.pid'), 'void\n');
    const { store } = await load();
    expect(readdirSync(at('.run'))).toEqual(['done.pid']);
    await store.remove('done');
    expect(readdirSync(at('.run'))).toEqual([]);
  });

  it('keeps the run files of a record that was set aside, for the day it is repaired', async () => {
    write('a.json', 'broken');
    mkdirSync(at('.run'));
    writeFileSync(at('.run', 'a.exit'), '3\n');
    const first = await load();
    await first.store.release();
    const second = await load();
    expect(readFileSync(at('.run', 'a.exit'), 'utf8')).toBe('3\n');
    await second.store.release();
    writeFileSync(at('.rejected', 'a.json'), JSON.stringify(makeRecord('a', { status: 'running', endedAt: null })));
    renameSync(at('.rejected', 'a.json'), at('a.json'));
    expect((await load()).records).toHaveLength(1);
    expect(existsSync(at('.run', 'a.exit'))).toBe(true);
  });
});

describe('arbitrary files', () => {
  const id = fc.stringMatching(/^[a-z0-9]{1,6}$/);
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array)),
    fc.json().map((text) => Buffer.from(text)),
    id.map((taskId) => Buffer.from(JSON.stringify(makeRecord(taskId)))),
    fc.tuple(id, fc.nat(400)).map(([taskId, cut]) => Buffer.from(JSON.stringify(makeRecord(taskId))).subarray(0, cut)),
    fc
      .tuple(id, fc.constantFrom(...Object.keys(makeRecord('x'))), fc.jsonValue())
      .map(([taskId, key, value]) => Buffer.from(JSON.stringify({ ...makeRecord(taskId), [key]: value }))),
  );

  it('are read or set aside untouched: none is dropped, none stops the rest', async () => {
    await fc.assert(
      fc.asyncProperty(fc.dictionary(id, bytes, { maxKeys: 12 }), async (files) => {
        directory = tempDir();
        for (const [name, content] of Object.entries(files)) write(`${name}.json`, content);
        write('zzzzzzz.json', makeRecord('zzzzzzz'));
        const seen = await readRecords(directory, parse);
        const { store, records, rejected } = await load();
        expect(records).toEqual(expect.arrayContaining([expect.objectContaining({ taskId: 'zzzzzzz' })]));
        expect(records.length + rejected.length).toBe(Object.keys(files).length + 1);
        expect([seen.records.length, seen.rejected.length]).toEqual([records.length, rejected.length]);
        for (const { path, movedTo, reason } of rejected) {
          const original = files[path.slice(directory.length + 1, -'.json'.length)]!;
          expect(readFileSync(movedTo ?? path).equals(original)).toBe(true);
          expect(reason).not.toBe('');
        }
        for (const { taskId } of records) {
          if (taskId !== 'zzzzzzz') expect(readFileSync(at(`${taskId}.json`)).equals(files[taskId]!)).toBe(true);
        }
        await store.release();
      }),
      { numRuns: Number(process.env.HOLDFAST_PROPERTY_RUNS ?? 100) },
    );
  });
});

describe('a huge file', () => {
  it('is rejected by its size without being read', async () => {
    write('huge.json', '');
    truncateSync(at('huge.json'), 8 * 1024 ** 3);
    const { rejected } = await load();
    expect(rejected[0]!.reason).toMatch(/8589934592 bytes/);
  });
});
