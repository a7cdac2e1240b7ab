/* Applies each mutation to a copy of this project, builds it, runs the row that should notice, and says whether it did. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { markdown } from '../report.js';
import { type Edit, type Mutation, mutations } from './list.js';

const project = fileURLToPath(new URL('../../..', import.meta.url));
const COPIED = ['src', 'test/lab', 'package.json', 'tsup.config.ts', 'tsconfig.json'];

/** What came of one mutation. */
interface Finding {
  readonly noticed: boolean;
  /** The first violation, or why the row could not be run. */
  readonly words: string;
}

/** Returns the exit code: 0 when every mutation was noticed. */
export async function runMutations(
  rows: readonly { readonly row: number }[],
  seed: number,
  print: (text: string) => void,
): Promise<number> {
  const chosen = mutations.filter(({ row }) => rows.some((one) => one.row === row));
  const lines: string[][] = [];
  let unnoticed = 0;
  for (const mutation of chosen) {
    const { noticed, words } = await tryMutation(mutation, seed);
    if (!noticed) unnoticed++;
    print(`row ${mutation.row}: ${noticed ? 'noticed' : 'NOT NOTICED'}: ${mutation.broken}`);
    if (!noticed) print(`  ${words}`);
    lines.push([`${mutation.row}`, mutation.broken, noticed ? 'yes' : 'NO', words]);
  }
  print(`\n${markdown(['row', 'how the library was broken', 'noticed', 'first violation'], lines)}\n`);
  print(`${chosen.length - unnoticed} passed, ${unnoticed} failed`);
  return unnoticed === 0 ? 0 : 1;
}

async function tryMutation({ row, edits }: Mutation, seed: number): Promise<Finding> {
  const copy = mkdtempSync(join(tmpdir(), 'holdfast-mutation-'));
  try {
    for (const name of COPIED) cpSync(join(project, name), join(copy, name), { recursive: true });
    symlinkSync(join(project, 'node_modules'), join(copy, 'node_modules'));
    for (const edit of edits) apply(copy, edit);
    await run(copy, 'tsup', ['--no-dts', '--silent']);
    if (!existsSync(join(copy, 'dist/index.js')))
      return { noticed: false, words: 'the mutated library does not build' };
    const { code, output } = await run(copy, 'tsx', [
      'test/lab/main.ts',
      '--quick',
      '--only',
      `${row}`,
      '--seed',
      `${seed}`,
    ]);
    const noticed = code === 1 && output.trimEnd().endsWith('0 passed, 1 failed');
    return { noticed, words: noticed ? firstViolation(output) : lastLine(output) };
  } catch (error) {
    return { noticed: false, words: String(error) };
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

function apply(copy: string, { file, find, replace }: Edit): void {
  const path = join(copy, file);
  const parts = readFileSync(path, 'utf8').split(find);
  if (parts.length !== 2) throw new Error(`${file}: expected once, found ${parts.length - 1} times: ${find}`);
  writeFileSync(path, parts.join(replace));
}

async function run(cwd: string, tool: string, args: readonly string[]): Promise<{ code: number; output: string }> {
  const child = spawn(join(cwd, 'node_modules/.bin', tool), args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
  });
  // Process warnings of the broken library: not what this is about.
  child.stderr.resume();
  const [code] = await once(child, 'close');
  return { code, output };
}

const firstViolation = (output: string) => (/^ {2}(.*)$/m.exec(output)?.[1] ?? '').replaceAll('|', '/').slice(0, 120);
const lastLine = (output: string) => output.trimEnd().split('\n').at(-1) ?? '';
