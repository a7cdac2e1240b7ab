import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const project = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string) => readFileSync(join(project, path), 'utf8');

/** Types, numbers, what only gives something back, and what tells of changes that others made. */
const HARMLESS = new Set(['constants', 'closeSync', 'watch', 'readlinkSync']);

it('the shim between a host and its file system knows every call that the library makes', () => {
  const shim = read('test/lab/hosts/fs-shim.cjs');
  const known = new Set([...shim.matchAll(/^ {2}(\w+): \{ paths:/gm)].map(([, name]) => name));
  const sources = readdirSync(join(project, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  const imports = sources.flatMap((name) => [
    ...read(join('src', name)).matchAll(/import (?:\w+, )?\{([^}]*)\} from 'node:fs(?:\/promises)?'/g),
  ]);
  const called = imports
    .flatMap(([, list]) => list!.split(',').map((one) => one.trim()))
    .filter((one) => one !== '' && !one.startsWith('type '));
  expect(called.length).toBeGreaterThan(20);
  expect(called.filter((name) => !HARMLESS.has(name) && !known.has(name.replace(/Sync$/, '')))).toEqual([]);
});
