import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { filesBelow, root } from '../helpers/house.js';
import { findCycles, findViolations, importsOf, partOf } from '../helpers/imports.js';

const files = filesBelow('src', '.ts');
const graph = new Map(files.map((file) => [file, importsOf(file)]));
const text = (file: string): string => readFileSync(join(root, file), 'utf8');
const linesOf = (file: string): number => text(file).trimEnd().split('\n').length;

const LINES_WANTED = 300;
const LINES_ALLOWED = 350;

describe('imports of src', () => {
  it('has no cycle, type imports included', () => {
    expect(findCycles(graph)).toEqual([]);
  });

  it('points one way', () => {
    expect(findViolations(graph)).toEqual([]);
  });

  it('keeps input and output away from task', () => {
    const io = /^(node:)?(fs|child_process|net|http|https|dgram|worker_threads|os)(\/|$)/;
    const found = files.filter((file) => partOf(file) === 'task' && graph.get(file)?.some((name) => io.test(name)));
    expect(found).toEqual([]);
  });

  it('uses every runtime dependency and no other package', () => {
    const { dependencies } = JSON.parse(text('package.json')) as { dependencies: Record<string, string> };
    const used = new Set([...graph.values()].flat().filter((name) => !name.startsWith('node:') && !graph.has(name)));
    expect([...used].sort()).toEqual(Object.keys(dependencies).sort());
  });
});

describe('files of src', () => {
  it(`stay near ${LINES_WANTED} lines, and never pass ${LINES_ALLOWED}`, () => {
    const long = files.filter((file) => linesOf(file) > LINES_WANTED).map((file) => `${file}: ${linesOf(file)}`);
    const tooLong = files.some((file) => linesOf(file) > LINES_ALLOWED);
    expect(tooLong, `files over ${LINES_WANTED} lines:\n${long.join('\n')}`).toBe(false);
  });

  it.each([
    ['console', /\bconsole\./],
    ['a suppressed type error', /@ts-(ignore|nocheck|expect-error)/],
    ['a note to self', /\b(TODO|FIXME|XXX|HACK)\b/],
    ['an empty catch', /catch\s*(\([^)]*\))?\s*\{\s*\}/],
    ['a discarded rejection', /\.catch\(\(\)\s*=>\s*(\{\s*\}|undefined)\)/],
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
      'src/new.ts: "new.ts" has no place in the layers of test/helpers/imports.ts',
    ]);
  });

  it('sees imports, re-exports, import types and dynamic imports', () => {
    expect(importsOf('src/index.ts')).toContain('src/errors.ts');
    expect(importsOf('test/house/imports.test.ts')).toEqual([
      'node:fs',
      'node:path',
      'vitest',
      'test/helpers/house.ts',
      'test/helpers/imports.ts',
    ]);
  });
});
