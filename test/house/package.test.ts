// What a user gets: the files of the package, and what they need to be loaded.
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { importsOf } from '../../scripts/source.js';
import tsup from '../../tsup.config.js';
import { built, filesBelow, root, run } from '../helpers/house.js';
import { existingParts, exportOf, findPartProblems, type Manifest, packageOf, parts } from '../helpers/parts.js';

const text = (file: string): string => readFileSync(join(root, file), 'utf8');
const manifest = JSON.parse(text('package.json')) as Manifest & { scripts: Record<string, string> };
const { entry, noExternal: bundled } = tsup as { entry: Record<string, string>; noExternal: string[] };
const importsOfPart = (name: string): string[] => filesBelow(`src/${name}`, '.ts').flatMap(importsOf);
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

interface Installed {
  readonly name: string;
  readonly license: string;
  /** The text of its LICENSE file. Some packages are published without one. */
  readonly licenceText: string | undefined;
}

/** These packages and all that they depend on, by name. */
function withDependencies(names: readonly string[], found = new Map<string, Installed>()): Installed[] {
  for (const name of names.filter((one) => !found.has(one))) {
    const { license, dependencies = {} } = JSON.parse(text(`node_modules/${name}/package.json`)) as {
      license: string;
      dependencies?: Record<string, string>;
    };
    const file = `node_modules/${name}/LICENSE`;
    found.set(name, { name, license, licenceText: existsSync(join(root, file)) ? text(file).trim() : undefined });
    withDependencies(Object.keys(dependencies), found);
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

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

describe('the checker of parts', () => {
  const part = { peers: ['hono'] };
  const good: Manifest = {
    exports: { './server': exportOf('server') },
    dependencies: { zod: '^4.0.0' },
    devDependencies: { preact: '10.0.0' },
    peerDependencies: { hono: '^4.0.0' },
    peerDependenciesMeta: { hono: { optional: true } },
  };
  const imports = ['src/index.ts', 'node:http', 'zod', 'hono/cors', 'preact'];
  const problems = (manifest: Manifest, more: readonly string[] = []) =>
    findPartProblems('server', [...imports, ...more], manifest, ['preact'], part);

  it('finds nothing where all is declared', () => {
    expect(problems(good)).toEqual([]);
  });

  it('finds an export that is missing or not as it is built', () => {
    expect(problems({ ...good, exports: {} })).toEqual([expect.stringContaining('exports has no "./server"')]);
    expect(problems({ ...good, exports: { './server': './dist/server.js' } })).toHaveLength(1);
  });

  it('finds a peer that is missing or not optional', () => {
    const problem = 'package.json: "hono" is no optional peer, and holdfast/server needs it';
    expect(problems({ ...good, peerDependencies: {} })).toEqual([problem]);
    expect(problems({ ...good, peerDependenciesMeta: { hono: {} } })).toEqual([problem]);
  });

  it.each(['@hono/node-server', 'preact-two', 'ws/lib'])('finds an import of %s, which is declared nowhere', (name) => {
    expect(problems(good, [name])).toEqual([expect.stringContaining(`src/server imports "${packageOf(name)}"`)]);
  });

  it('finds a package that is built in and not installed for it', () => {
    expect(problems({ ...good, devDependencies: {} })).toEqual([expect.stringContaining('"preact"')]);
  });

  it('finds an entry that is no part', () => {
    expect(findPartProblems('store', [], good, [])).toEqual([expect.stringContaining('"store" is no part')]);
  });
});

describe('the package', () => {
  it('holds the build, the README, the licences, and nothing else', () => {
    const always = ['LICENSE', 'README.md', 'THIRD-PARTY-LICENSES', 'package.json'];
    const expected = [
      ...filesBelow('dist', ''),
      ...always,
      ...['CHANGELOG.md'].filter((file) => existsSync(join(root, file))),
    ];
    expect(packed).toEqual(expected.sort());
  });

  it('exports the core and each part that exists, and has every file that its exports name', () => {
    const entries = Object.fromEntries(existingParts().map((name) => [`./${name}`, exportOf(name)]));
    const expected = { '.': exportOf('index'), ...entries, './package.json': './package.json' };
    expect(manifest.exports).toEqual(expected);
    const targets = JSON.stringify(expected).match(/(?<="\.\/)[^"]+(?="[,}])/g) ?? [];
    expect(targets).toHaveLength(5 + 4 * existingParts().length);
    expect(targets.filter((target) => !packed.includes(target))).toEqual([]);
  });

  it('is built from the entries of the core and of each part that exists', () => {
    const entries = Object.fromEntries(existingParts().map((name) => [name, `src/${name}/index.ts`]));
    expect(entry).toEqual({ index: 'src/index.ts', ...entries });
  });

  it('declares what its parts import', () => {
    const problems = existingParts().map((name) => findPartProblems(name, importsOfPart(name), manifest, bundled));
    expect(problems.flat()).toEqual([]);
  });

  it('has no peers that no part needs, and builds no package in that none imports', () => {
    const peers = existingParts().flatMap((name) => parts[name]?.peers ?? []);
    expect(Object.keys(manifest.peerDependencies ?? {}).sort()).toEqual([...new Set(peers)].sort());
    const imported = existingParts().flatMap(importsOfPart).map(packageOf);
    expect(bundled.filter((name) => !imported.includes(name))).toEqual([]);
    expect(bundled.filter((name) => name in manifest.dependencies || peers.includes(name))).toEqual([]);
  });

  it('holds the licence of every package that is built in, with what that package depends on', () => {
    const all = withDependencies(bundled);
    const sections = text('THIRD-PARTY-LICENSES').split(/^## /m).slice(1);
    expect(sections.map((section) => section.slice(0, section.indexOf('\n')))).toEqual(
      all.map(({ name, license }) => `${name} (${license})`),
    );
    const expected = all.map(({ licenceText }) => licenceText ?? expect.stringMatching(/^Copyright .*\S/s));
    expect(sections.map((section) => section.slice(section.indexOf('\n')).trim())).toEqual(expected);
  });

  it('declares what the issues ask for, and runs nothing at its installation', () => {
    expect(manifest).toMatchObject({ type: 'module', sideEffects: false, engines: { node: '>=20.19' } });
    const atInstall = ['preinstall', 'install', 'postinstall', 'prepare', 'prepublish'];
    expect(Object.keys(manifest.scripts).filter((name) => atInstall.includes(name))).toEqual([]);
  });

  it('has changesets that changesets can read', () => {
    const unreadable = filesBelow('.changeset', '.md').filter((file) => {
      return !/^---\n'holdfast': (major|minor|patch)\n---\n\n\S/.test(text(file));
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
        const named = [
          ...text(file).matchAll(/(?:\bfrom\s+|\bimport\s*\(\s*|\bimport\s+|<reference\s+\w+=)['"]([^'"]+)['"]/g),
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
