// What a user gets: the files of the package, and what they need to be loaded.
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { built, filesBelow, root, run } from '../helpers/house.js';

interface Manifest {
  version: string;
  type: string;
  sideEffects: boolean;
  engines: { node: string };
  scripts: Record<string, string>;
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
  exports: Record<string, string | Record<string, Record<string, string>>>;
}

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest;
let folder: string;
let packed: string[];

beforeAll(async () => {
  built('index.js');
  folder = await mkdtemp(join(tmpdir(), 'holdfast-package-'));
  const { stdout, stderr, code } = await run('npm', [
    'pack',
    '--json',
    '--ignore-scripts',
    '--pack-destination',
    folder,
  ]);
  if (code !== 0) throw new Error(stderr);
  const [tarball] = JSON.parse(stdout) as { filename: string; files: { path: string }[] }[];
  packed = tarball?.files.map(({ path }) => path).sort() ?? [];
  // As npm would install it, with the dependencies that were installed here.
  const modules = join(folder, 'node_modules');
  await mkdir(modules);
  const extracted = await run('tar', ['-xf', join(folder, tarball?.filename ?? ''), '-C', folder]);
  if (extracted.code !== 0) throw new Error(extracted.stderr);
  await run('mv', [join(folder, 'package'), join(modules, 'holdfast')]);
  for (const name of Object.keys(manifest.dependencies)) {
    await symlink(join(root, 'node_modules', name), join(modules, name));
  }
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Runs a script where the package is installed, and gives what it printed as JSON. */
async function consumer(name: string, source: string): Promise<unknown> {
  await writeFile(join(folder, name), source);
  const { stdout, stderr, code } = await run(process.execPath, [join(folder, name)], { cwd: folder });
  expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
  return JSON.parse(stdout);
}

/** Loads both entries, runs a task, and has a webhook refuse an address. */
const useIt = `
const { mkdtempSync, rmSync } = process.getBuiltinModule('node:fs');
const directory = mkdtempSync(${JSON.stringify(join(tmpdir(), 'holdfast-consumer-'))});
const report = {};
async function main() {
  const attempts = [];
  const deliver = (_task, { attempt }) => {
    attempts.push(attempt);
    if (attempt === 1) throw new TypeError('not yet');
  };
  const manager = await holdfast.BackgroundTaskManager.open({ directory, hooks: { say: { deliver, minDelayMs: 1 } } });
  const delivered = new Promise((resolve) => manager.once('hook:delivered', resolve));
  const { taskId } = await manager.registerTask({ kind: 'process', description: 'say', command: 'echo hello' });
  report.status = (await manager.waitForTask(taskId)).status;
  report.text = (await manager.readOutput(taskId)).text;
  const hook = webhook.webhookHook({ url: 'http://127.0.0.1:9/', payload: () => ({}) });
  const delivery = { deliveryId: 'd', attempt: 1, signal: new AbortController().signal, readOutput: async () => ({ text: '' }) };
  const refusal = await hook(manager.getTask(taskId), delivery).then(() => undefined, (error) => error);
  report.oneClass = refusal instanceof holdfast.PermanentDeliveryError;
  await delivered;
  report.attempts = attempts;
  await manager.close();
  rmSync(directory, { recursive: true });
  console.log(JSON.stringify(report));
}
main();
`;

const used = { status: 'completed', text: 'hello\n', oneClass: true, attempts: [1, 2] };

describe('the package', () => {
  it('holds the build, the README, the licence, and nothing else', () => {
    const expected = [
      ...filesBelow('dist', ''),
      ...['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json'].filter((file) => existsSync(join(root, file))),
    ];
    expect(packed).toEqual(expected.sort());
    expect(packed).toEqual(expect.arrayContaining(['LICENSE', 'README.md']));
  });

  it('has every file that its exports name', () => {
    const targets = Object.values(manifest.exports).flatMap((entry) =>
      typeof entry === 'string' ? [entry] : Object.values(entry).flatMap((condition) => Object.values(condition)),
    );
    expect(targets.map((target) => target.replace('./', '')).filter((target) => !packed.includes(target))).toEqual([]);
    expect(targets).toHaveLength(9);
  });

  it('declares what the issues ask for, and runs nothing at its installation', () => {
    expect(manifest).toMatchObject({ type: 'module', sideEffects: false, engines: { node: '>=20.19' } });
    const atInstall = ['preinstall', 'install', 'postinstall', 'prepare', 'prepublish'];
    expect(Object.keys(manifest.scripts).filter((name) => atInstall.includes(name))).toEqual([]);
  });

  it('has changesets that changesets can read', () => {
    const unreadable = filesBelow('.changeset', '.md').filter((file) => {
      return !/^---\n'holdfast': (major|minor|patch)\n---\n\n\S/.test(readFileSync(join(root, file), 'utf8'));
    });
    expect(unreadable).toEqual([]);
  });

  it('pins development dependencies and gives ranges for the others', () => {
    expect(Object.values(manifest.devDependencies).filter((version) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
    expect(Object.values(manifest.dependencies).filter((version) => !/^\^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
    expect(existsSync(join(root, 'package-lock.json'))).toBe(false);
  });

  it('needs no types but those of Node and its own', () => {
    const foreign = filesBelow('dist', 'ts')
      .filter((file) => /\.d\.c?ts$/.test(file))
      .flatMap((file) => {
        const text = readFileSync(join(root, file), 'utf8');
        const named = [
          ...text.matchAll(/(?:\bfrom\s+|\bimport\s*\(\s*|\bimport\s+|<reference\s+\w+=)['"]([^'"]+)['"]/g),
        ];
        return named.map(([, name = '']) => name).filter((name) => !/^(\.|node:|node$)/.test(name));
      });
    expect(foreign).toEqual([]);
  });

  it('works in ES modules, with one set of classes in both entries', async () => {
    const source = `import * as holdfast from 'holdfast';\nimport * as webhook from 'holdfast/webhook';\n${useIt}`;
    expect(await consumer('consumer.mjs', source)).toEqual(used);
  });

  it('works in CommonJS, with one set of classes in both entries', async () => {
    const source = `const holdfast = require('holdfast');\nconst webhook = require('holdfast/webhook');\n${useIt}`;
    expect(await consumer('consumer.cjs', source)).toEqual(used);
  });

  it('does nothing when it is loaded, and holds nobody', async () => {
    const source = `
      import { setImmediate as turn } from 'node:timers/promises';
      void [process.stdout, process.stderr]; // made when they are first looked at, which some dependency does
      await turn();
      const before = process.getActiveResourcesInfo();
      await import('holdfast');
      await import('holdfast/webhook');
      await turn();
      console.log(JSON.stringify({ before, after: process.getActiveResourcesInfo() }));`;
    const { before, after } = (await consumer('load.mjs', source)) as Record<'before' | 'after', string[]>;
    expect(after).toEqual(before);
  });
});
