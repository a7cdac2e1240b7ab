import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { BackgroundTaskManager, defineTaskKind } from '../src/index.js';
import { openManager, scratch } from './helpers/manager.js';

const bad: [string, Record<string, unknown>, string][] = [
  ['no directory', { directory: undefined }, 'directory'],
  ['an empty directory', { directory: '' }, 'directory'],
  ['a directory with a NUL byte', { directory: 'a\0b' }, 'directory'],
  ['a directory that is no file URL', { directory: new URL('https://example.com') }, 'directory'],
  [
    'maxRunningTasks 0',
    { maxRunningTasks: 0 },
    'maxRunningTasks: expected a whole number of at least 1, or Infinity, got 0',
  ],
  ['maxRunningTasks 1.5', { maxRunningTasks: 1.5 }, 'maxRunningTasks'],
  ['maxRunningTasks as a text', { maxRunningTasks: '8' }, 'maxRunningTasks'],
  ['maxRunningTasksPerGroup -1', { maxRunningTasksPerGroup: -1 }, 'maxRunningTasksPerGroup'],
  ['an unknown whenFull', { whenFull: 'wait' }, 'whenFull'],
  ['a negative interval', { reconcileIntervalMs: -1 }, 'reconcileIntervalMs'],
  ['an infinite interval', { reconcileIntervalMs: Number.POSITIVE_INFINITY }, 'reconcileIntervalMs'],
  ['NaN as a grace', { stopGraceMs: Number.NaN }, 'stopGraceMs'],
  ['maxOutputBytes 0', { maxOutputBytes: 0 }, 'maxOutputBytes'],
  ['a maxResultBytes that no record holds', { maxResultBytes: 1_000_000 }, 'maxResultBytes'],
  ['fsync as a text', { fsync: 'yes' }, 'fsync'],
  ['an unknown field of retention', { retention: { maxAge: 1 } }, 'retention'],
  ['a negative retention', { retention: { maxTasks: -1 } }, 'retention.maxTasks'],
  ['a kind that is none', { kinds: [{ name: 'x' }] }, 'kinds.0'],
  ['hooks that are none', { hooks: { a: 1 } }, 'a'],
  ['a shape that is none', { legacyShapes: [{ name: 'x' }] }, 'legacyShapes.0'],
  ['a misspelt option', { maxRunningTask: 3 }, 'maxRunningTask'],
  ['a negative foreignOwnerTimeoutMs', { foreignOwnerTimeoutMs: -1 }, 'foreignOwnerTimeoutMs'],
];

describe('open refuses', () => {
  it.each(bad)('%s, before anything was touched', async (_, options, message) => {
    const parent = await scratch();
    const opening = BackgroundTaskManager.open({ directory: join(parent, 'tasks'), ...options } as never);
    await expect(opening).rejects.toMatchObject({ code: 'INVALID_OPTIONS', message: expect.stringContaining(message) });
    expect(await readdir(parent)).toEqual([]);
  });

  it('two kinds of one name', async () => {
    const kind = () => defineTaskKind({ name: 'twin', details: z.object({}) });
    await expect(
      BackgroundTaskManager.open({ directory: await scratch(), kinds: [kind(), kind()] }),
    ).rejects.toMatchObject({ code: 'INVALID_OPTIONS' });
    expect(() => defineTaskKind({ name: 'Not A Name', details: z.object({}) })).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTIONS' }),
    );
    expect(() => defineTaskKind({ name: 'x', details: 1 as never })).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTIONS' }),
    );
    const process = defineTaskKind({ name: 'process', details: z.object({}) });
    await expect(
      BackgroundTaskManager.open({ directory: await scratch(), kinds: [process] as never }),
    ).rejects.toMatchObject({ code: 'INVALID_OPTIONS' });
  });

  it('a file, and a link loop, as its directory', async () => {
    const parent = await scratch();
    await writeFile(join(parent, 'file'), 'not a folder');
    await symlink(join(parent, 'loop'), join(parent, 'loop'));
    for (const name of ['file', 'loop', 'file/below']) {
      await expect(BackgroundTaskManager.open({ directory: join(parent, name) })).rejects.toMatchObject({
        code: 'STORAGE_FAILED',
      });
    }
    expect((await readdir(parent)).sort()).toEqual(['file', 'loop']);
  });
});

describe('open takes', () => {
  it('undefined for every option, and a URL', async () => {
    const directory = join(await scratch(), 'a', 'b');
    const undefinedOptions = Object.fromEntries(
      [
        'maxRunningTasks',
        'maxRunningTasksPerGroup',
        'whenFull',
        'reconcileIntervalMs',
        'stopGraceMs',
        'maxOutputBytes',
        'maxResultBytes',
        'fsync',
        'retention',
        'kinds',
        'hooks',
        'legacyShapes',
        'foreignOwnerTimeoutMs',
      ].map((name) => [name, undefined]),
    );
    const manager = await openManager({ ...undefinedOptions, directory: pathToFileURL(directory) });
    expect(manager.status()).toMatchObject({
      running: 0,
      slots: { used: 0, limit: Number.POSITIVE_INFINITY },
      lastReconcile: { report: { checked: 0 } },
    });
  });

  it('a link to a folder, by its real path', async () => {
    const parent = await scratch();
    await mkdir(join(parent, 'real'));
    await symlink(join(parent, 'real'), join(parent, 'link'));
    const manager = await openManager({ directory: join(parent, 'link') });
    await expect(BackgroundTaskManager.open({ directory: join(parent, 'real') })).rejects.toMatchObject({
      code: 'DIRECTORY_OWNED',
    });
    expect(manager.status().terminal).toBe(0);
  });
});
