// The README is compiled, linked and counted: its examples are the files of examples/, and what it names exists.
// `npx vitest run test/house/readme.test.ts -u` writes the examples into it.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { root } from '../helpers/house.js';

const readme = readFileSync(join(root, 'README.md'), 'utf8');
const prose = readme.replace(/^```[\s\S]*?^```$/gm, '').replace(/<!--[\s\S]*?-->/g, '');
const marked = /(<!-- example: (\S+?)#(\S+) -->\n+```(?:ts|js)\n)[\s\S]*?(^```$)/gm;

/** The lines between `// #region <name>` and `// #endregion`, without their common indentation. */
function region(source: string, name: string): string {
  const lines = source.split('\n');
  const start = lines.findIndex((line) => line.trim() === `// #region ${name}`);
  const length = lines.slice(start + 1).findIndex((line) => line.trim().startsWith('// #endregion'));
  if (start < 0 || length < 0) throw new Error(`no "// #region ${name}" that is closed by "// #endregion"`);
  const inner = lines.slice(start + 1, start + 1 + length);
  const indents = inner.filter((line) => line.trim() !== '').map((line) => line.length - line.trimStart().length);
  return inner.map((line) => line.slice(Math.min(...indents))).join('\n');
}

/** As GitHub makes them. */
function anchor(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replace(/\s/g, '-');
}

const headings = new Set([...prose.matchAll(/^#+\s+(.*)$/gm)].map(([, heading = '']) => anchor(heading)));

describe('README.md', () => {
  it('shows the examples as they are in their files', async () => {
    const written = readme.replace(marked, (_block, opening: string, file: string, name: string, closing: string) => {
      return `${opening}${region(readFileSync(join(root, file), 'utf8'), name)}\n${closing}`;
    });
    await expect(written).toMatchFileSnapshot(join(root, 'README.md'));
  });

  it('marks each of its examples in a way that is understood', () => {
    expect([...readme.matchAll(marked)].length).toBe(readme.match(/<!--\s*example/g)?.length ?? 0);
    expect([...readme.matchAll(marked)].length).toBeGreaterThan(0);
  });

  it('has a first example of at most 20 lines', () => {
    const [first] = [...readme.matchAll(marked)];
    const source = readFileSync(join(root, first?.[2] ?? ''), 'utf8');
    const lines = region(source, first?.[3] ?? '').split('\n');
    expect(lines.filter((line) => line.trim() !== '').length).toBeLessThanOrEqual(20);
  });

  it('names the two commands', () => {
    expect(readme).toContain('npm install && npm run quickstart');
    expect(readme).toContain('npm install && npm test');
  });

  it('links to files and headings that exist', () => {
    const links = [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = '']) => link);
    const broken = links.filter((link) => {
      if (/^[a-z]+:/.test(link)) return false;
      const [path, heading] = link.split('#');
      if (path) return !existsSync(join(root, path));
      return !headings.has(heading ?? '');
    });
    expect(broken).toEqual([]);
    expect(links.length).toBeGreaterThan(0);
  });

  it('names files of this repository that exist', () => {
    const named = [...prose.matchAll(/`((?:src|test|examples|\.ci|\.changeset)\/[\w./-]*)`/g)].map(
      ([, path = '']) => path,
    );
    expect(named.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });

  it('names scripts that exist', () => {
    const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      scripts: Record<string, string>;
    };
    const named = [...readme.matchAll(/npm run ([\w:-]+)/g)].map(([, name = '']) => name);
    expect(named.filter((name) => !(name in scripts))).toEqual([]);
  });
});

describe('the reader of regions', () => {
  it('takes the indentation away', () => {
    const source = 'a\n  // #region x\n  if (b) {\n    c;\n\n  }\n  // #endregion\nd';
    expect(region(source, 'x')).toBe('if (b) {\n  c;\n\n}');
  });

  it('says which region is missing', () => {
    expect(() => region('// #region x\n', 'x')).toThrow('#region x');
    expect(() => region('', 'y')).toThrow('#region y');
  });
});
