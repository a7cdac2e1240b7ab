import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { filesBelow, importsOf, placeOf, root } from '../../scripts/source.js';
import { findCycles, findViolations } from '../helpers/imports.js';
import { packageOf, parts } from '../helpers/parts.js';

const files = filesBelow('src', '.ts');
const graph = new Map(files.map((file) => [file, importsOf(file)]));
const text = (file: string): string => readFileSync(join(root, file), 'utf8');

const MOST_LINES = 300;

/** Rejections that are discarded without a word about why that is right, on the line or in the three above. */
function unexplained(file: string): string[] {
  const lines = text(file).split('\n');
  return lines.flatMap((line, index) => {
    if (!/\.catch\(\(\)\s*=>\s*(\{\s*\}|undefined)\)/.test(line)) return [];
    const near = lines.slice(Math.max(0, index - 3), index + 1);
    return near.some((one) => /\/\/|\*\//.test(one)) ? [] : [`${file}:${index + 1}`];
  });
}

describe('imports of src', () => {
  it('has no cycle, type imports included', () => {
    expect(findCycles(graph)).toEqual([]);
  });

  it('points one way', () => {
    expect(findViolations(graph)).toEqual([]);
  });

  it('keeps input and output away from task', () => {
    const io = /^(node:)?(fs|child_process|net|http|https|dgram|worker_threads|os)(\/|$)/;
    const found = files.filter((file) => placeOf(file) === 'task' && graph.get(file)?.some((name) => io.test(name)));
    expect(found).toEqual([]);
  });

  it('leaves the paths of a directory to the store', () => {
    // What they join is the caller's: the folder and the program of a command.
    const ofCommands = ['src/process/process-spec.ts', 'src/process/supervisor/exec-failure.ts'];
    const outside = files.filter(
      (file) => !['store', 'legacy', 'output', ...Object.keys(parts)].includes(placeOf(file)),
    );
    const importing = (name: string) => outside.filter((file) => graph.get(file)?.includes(name));
    expect(importing('src/store/layout.ts')).toEqual([]);
    expect(importing('node:path')).toEqual(ofCommands);
  });

  it('uses every runtime dependency in the core, and no other package there', () => {
    const { dependencies } = JSON.parse(text('package.json')) as { dependencies: Record<string, string> };
    const core = [...graph].filter(([file]) => !Object.hasOwn(parts, placeOf(file)));
    const used = new Set(core.flatMap(([, imports]) => imports.map(packageOf)).filter((name) => name !== undefined));
    expect([...used].sort()).toEqual(Object.keys(dependencies).sort());
  });
});

describe('files of src', () => {
  it(`have at most ${MOST_LINES} lines`, () => {
    const counted = files.map((file) => ({ file, lines: text(file).trimEnd().split('\n').length }));
    expect(counted.filter(({ lines }) => lines > MOST_LINES)).toEqual([]);
  });

  it('say why, wherever a rejection is discarded', () => {
    expect(files.flatMap(unexplained)).toEqual([]);
  });

  it.each([
    ['console', /\bconsole\./],
    ['a suppressed type error', /@ts-(ignore|nocheck|expect-error)/],
    ['a note to self', /\b(TODO|FIXME|XXX|HACK)\b/],
    ['an empty catch', /catch\s*(\([^)]*\))?\s*\{\s*\}/],
  ])('contain no trace of %s', (_what, pattern) => {
    expect(files.filter((file) => pattern.test(text(file)))).toEqual([]);
  });
});

describe('the checker itself', () => {
  it('finds a cycle', () => {
    const cyclic = new Map([
      ['src/task/a.ts', ['src/task/b.ts']],
      ['src/task/b.ts', ['src/task/c.ts', 'zod']],
      ['src/task/c.ts', ['src/task/a.ts']],
    ]);
    expect(findCycles(cyclic)).toEqual(['src/task/a.ts > src/task/b.ts > src/task/c.ts > src/task/a.ts']);
  });

  it('finds an import that goes up, sideways, or into a part without a place', () => {
    const wrong = new Map([
      ['src/task/a.ts', ['src/store/a.ts', 'src/errors.ts']],
      ['src/store/a.ts', ['src/task/a.ts']],
      ['src/hooks/a.ts', ['src/process/a.ts', 'src/output/a.ts']],
      ['src/process/a.ts', []],
      ['src/output/a.ts', []],
      ['src/errors.ts', []],
      ['src/new.ts', []],
    ]);
    expect(findViolations(wrong)).toEqual([
      'src/task/a.ts must not import src/store/a.ts',
      'src/hooks/a.ts must not import src/process/a.ts',
      'src/new.ts: "new.ts" is neither in the layers of scripts/source.ts nor a part',
    ]);
  });

  const names = Object.keys(parts);

  it.each(names)('lets %s import itself, what the core shows, and nothing else of the core', (name) => {
    const graph = new Map([
      [`src/${name}/index.ts`, [`src/${name}/a.ts`, 'src/index.ts', 'zod']],
      [`src/${name}/a.ts`, ['src/internal.ts', 'src/manager.ts', 'src/task/a.ts']],
      ['src/index.ts', ['src/manager.ts', 'src/task/a.ts']],
      ['src/internal.ts', ['src/task/a.ts']],
      ['src/manager.ts', ['src/task/a.ts']],
      ['src/task/a.ts', []],
    ]);
    expect(findViolations(graph)).toEqual([
      `src/${name}/a.ts must not import src/manager.ts`,
      `src/${name}/a.ts must not import src/task/a.ts`,
    ]);
  });

  it.each(names)('does not let the core import %s, nor what is for parts only', (name) => {
    const core = ['src/index.ts', 'src/manager.ts', 'src/lifecycle/a.ts', 'src/task/a.ts', 'src/errors.ts'];
    const wrong = [`src/${name}/index.ts`, 'src/internal.ts'];
    const graph = new Map([
      ...core.map((file): [string, string[]] => [file, wrong]),
      ...wrong.map((file): [string, string[]] => [file, []]),
    ]);
    expect(findViolations(graph)).toEqual(
      core.flatMap((file) => wrong.map((target) => `${file} must not import ${target}`)),
    );
  });

  it.each(names)('lets %s import the entries of the parts that it uses, and no other file of a part', (name) => {
    const others = names.filter((other) => other !== name);
    const targets = others.flatMap((other) => [`src/${other}/index.ts`, `src/${other}/a.ts`]);
    const graph = new Map([[`src/${name}/a.ts`, targets], ...targets.map((file): [string, string[]] => [file, []])]);
    const { uses = [] } = parts[name] ?? {};
    expect(uses.filter((used) => !others.includes(used))).toEqual([]);
    const refused = targets.filter((target) => !uses.some((used) => target === `src/${used}/index.ts`));
    expect(findViolations(graph)).toEqual(refused.map((target) => `src/${name}/a.ts must not import ${target}`));
  });

  it('knows no parts that use each other in a circle', () => {
    const graph = new Map(names.map((name) => [name, parts[name]?.uses ?? []]));
    expect(findCycles(graph)).toEqual([]);
  });

  it('sees imports, re-exports, import types and dynamic imports', () => {
    expect(importsOf('src/index.ts')).toContain('src/errors.ts');
    expect(importsOf('test/house/imports.test.ts')).toEqual([
      'node:fs',
      'node:path',
      'vitest',
      'scripts/source.ts',
      'test/helpers/imports.ts',
      'test/helpers/parts.ts',
    ]);
  });
});
