// Every example runs to its end against the built package, in a folder of its own. Examples assert what they show.
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { built, type Finished, filesBelow, root, run } from '../helpers/house.js';

const examples = filesBelow('examples', '.ts');
const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
const TIMEOUT_MS = 120_000;

/** Programs that an example cannot do without. */
const needs: Readonly<Record<string, string>> = { 'tmux-kind.ts': 'tmux' };

function missing(file: string): string | undefined {
  const program = needs[basename(file)];
  if (!program) return undefined;
  try {
    execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    return undefined;
  } catch {
    return program;
  }
}

let folder: string;
beforeEach(async () => {
  built('index.js');
  folder = await mkdtemp(join(tmpdir(), 'holdfast-example-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** From a folder without a tsconfig.json: `holdfast` is then the package itself, by its exports. */
function runExample(file: string): Promise<Finished> {
  return run(process.execPath, ['--import', tsx, join(root, file)], { cwd: folder, timeoutMs: TIMEOUT_MS - 5_000 });
}

function output({ stdout, stderr }: Finished): string {
  return `${stdout.slice(-4_000)}\n${stderr.slice(-4_000)}`;
}

describe('examples', () => {
  it('exist', () => {
    expect(examples).toEqual(expect.arrayContaining(['examples/quickstart.ts', 'examples/restart.ts']));
  });

  for (const file of examples.filter((one) => basename(one) !== 'restart.ts')) {
    const program = missing(file);
    it.skipIf(program)(
      `${file} does what it shows${program ? ` (${program} is not installed)` : ''}`,
      async () => {
        const finished = await runExample(file);
        expect(finished.code, output(finished)).toBe(0);
      },
      TIMEOUT_MS,
    );
  }

  it(
    'examples/restart.ts dies in its first run and finishes its task in the second',
    async () => {
      const first = await runExample('examples/restart.ts');
      expect(first.code, output(first)).toBe(null); // killed
      const second = await runExample('examples/restart.ts');
      expect(second.code, output(second)).toBe(0);
      expect(second.stdout).toContain('completed');
      expect(second.stdout).toContain('all green');
    },
    TIMEOUT_MS,
  );
});
