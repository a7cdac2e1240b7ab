import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { mutations } from './list.js';

const project = fileURLToPath(new URL('../../..', import.meta.url));
const read = (path: string) => readFileSync(join(project, path), 'utf8');

describe('the mutations', () => {
  it('break every row', () => {
    expect(new Set(mutations.map(({ row }) => row))).toEqual(
      new Set(Array.from({ length: 20 }, (_, index) => index + 1)),
    );
  });

  it.each(mutations.flatMap(({ row, broken, edits }) => edits.map((edit) => [row, broken, edit] as const)))(
    'of row %i still have their place: %s',
    (_row, _broken, { file, find, replace }) => {
      expect(read(file).split(find), find).toHaveLength(2);
      expect(replace).not.toBe(find);
    },
  );

  it('are listed in the README of the lab', () => {
    const rows = read('test/lab/README.md').matchAll(/^\| (\d+) +\| (.*?) +\|$/gm);
    expect([...rows].map(([, row, broken]) => `${row} ${broken}`)).toEqual(
      mutations.map(({ row, broken }) => `${row} ${broken}`),
    );
  });
});
