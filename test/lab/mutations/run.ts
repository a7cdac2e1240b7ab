/* Applies each mutation to a copy of this project, builds it, runs the row that should notice, and says whether it did. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { range } from '../lab.js';
import { markdown } from '../report.js';
import { type Edit, type Mutation, mutations } from './list.js';

const project = fileURLToPath(new URL('../../..', import.meta.url));
const COPIED = ['src', 'test/lab', 'package.json', 'tsup.config.ts', 'tsconfig.json'];

/** A quick row is a small sample: it has so many seeds, one after the other, to notice. */
const CHANCES = 3;

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
  const control = await runMutated([], rows, seed);
  if (!control.passed) throw new Error(`the rows do not pass before anything is broken: ${control.words}`);
  print('the rows pass before anything is broken');
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

/** Noticed is what the row itself says: not a library that cannot be built, not a lab that breaks. */
async function tryMutation({ row, edits }: Mutation, seed: number): Promise<Finding> {
  try {
    let words = '';
    for (const chance of range(CHANCES)) {
      const found = await runMutated(edits, [{ row }], seed + chance);
      if (found.failed) return { noticed: true, words: found.words };
      words = found.words;
    }
    return { noticed: false, words };
  } catch (error) {
    return { noticed: false, words: String(error) };
  }
}

async function runMutated(
  edits: readonly Edit[],
  rows: readonly { readonly row: number }[],
  seed: number,
): Promise<{ readonly passed: boolean; readonly failed: boolean; readonly words: string }> {
  const copy = mkdtempSync(join(tmpdir(), 'holdfast-mutation-'));
  try {
    for (const name of COPIED) cpSync(join(project, name), join(copy, name), { recursive: true });
    symlinkSync(join(project, 'node_modules'), join(copy, 'node_modules'));
    for (const edit of edits) apply(copy, edit);
    await run(copy, 'tsup', ['--no-dts', '--silent']);
    if (!existsSync(join(copy, 'dist/index.js'))) throw new Error('the mutated library does not build');
    const only = rows.map(({ row }) => row).join();
    const { code, output } = await run(copy, 'tsx', [
      'test/lab/main.ts',
      '--quick',
      '--only',
      only,
      '--seed',
      `${seed}`,
    ]);
    const failed = code === 1 && /\b[1-9]\d* failed$/.test(output.trimEnd());
    return { passed: code === 0, failed, words: failed ? firstViolation(output) : lastLine(output) };
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
