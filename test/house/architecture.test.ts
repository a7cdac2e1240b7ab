// The pictures of the sources say what the sources say. `npm run docs` draws them anew.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { arrows, draw, withTable } from '../../scripts/architecture.js';
import { root } from '../../scripts/source.js';

const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const document = read('ARCHITECTURE.md');

describe('ARCHITECTURE.md', () => {
  it('has a picture and a table of the parts as they are (npm run docs)', () => {
    expect(read('docs/architecture.svg')).toBe(draw());
    expect(document).toBe(withTable(document));
  });

  it('names only files and folders that exist', () => {
    const named = [...document.matchAll(/`((?:[\w-]+\/)+[\w-]+(?:\.\w+)*|[\w-]+\.ts)`/g)].map(([, file]) => file!);
    expect(named.length).toBeGreaterThan(40);
    expect(named.filter((file) => !existsSync(join(root, 'src', file)) && !existsSync(join(root, file)))).toEqual([]);
  });
});

describe('the arrows', () => {
  it('leave out what follows from others', () => {
    const imports = new Map([
      ['top', ['middle', 'bottom', 'aside']],
      ['middle', ['bottom']],
      ['bottom', []],
      ['aside', []],
    ]);
    expect(arrows(imports).map(({ from, to }) => `${from} > ${to}`)).toEqual([
      'top > middle',
      'top > aside',
      'middle > bottom',
    ]);
  });

  it('keep both of two that import each other', () => {
    const imports = new Map([
      ['top', ['one', 'other']],
      ['one', ['other']],
      ['other', ['one']],
    ]);
    expect(arrows(imports)).toHaveLength(4);
  });
});
