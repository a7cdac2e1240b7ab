/* What one pid namespace can tell of another, on process tables made of files. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { systemClock } from '../../../src/clock.js';
import { INITIAL_NAMESPACE, PidNamespaces } from '../../../src/process/table/pid-namespaces.js';
import { tempDirectory } from '../../helpers/wait.js';

const other = 'pid:[4026532001]';

/** A table: of each pid its namespace (`null`: hidden, and then its status), as /proc shows it. */
function table(rows: Record<string, { ns?: string | undefined; status?: string }>): string {
  const root = tempDirectory();
  for (const [pid, { ns, status }] of Object.entries(rows)) {
    mkdirSync(join(root, pid));
    if (status !== undefined) writeFileSync(join(root, pid, 'status'), status);
    // What may not be read: no link at all would be a process that has ended.
    if (ns === undefined) writeFileSync(join(root, pid, 'ns'), '');
    else {
      mkdirSync(join(root, pid, 'ns'));
      symlinkSync(ns, join(root, pid, 'ns', 'pid'));
    }
  }
  return root;
}

const init = { ns: INITIAL_NAMESPACE };
const state = (rows: Parameters<typeof table>[0], own = INITIAL_NAMESPACE, asked = other) =>
  new PidNamespaces(own, systemClock, table(rows)).state(asked);

it.each([
  ['no process is in it', { 1: init, 7: init }, 'gone'],
  ['a process is in it', { 1: init, 7: { ns: other } }, 'seen'],
  ['one of another user is in our own', { 1: init, 7: { status: 'Name:\tx\nNSpid:\t7\n' } }, 'gone'],
  ['one of another user may be in it', { 1: init, 7: { status: 'NSpid:\t7\t1\n' } }, 'unknown'],
  ['nothing is known of one', { 1: init, 7: {} }, 'unknown'],
  ['the first process is hidden, and others may be', { 7: init }, 'unknown'],
] as const)('in the initial namespace, where %s', async (_, rows, expected) => {
  expect(await state(rows)).toBe(expected);
});

it('from any other namespace only those below can be seen, and none is called gone', async () => {
  const own = 'pid:[4026532002]';
  expect(await state({ 1: { ns: own } }, own)).toBe('unknown');
  expect(await state({ 1: { ns: own }, 7: { ns: other } }, own)).toBe('seen');
});

it('a host without a /proc of its own knows nothing, and nothing is known of one', async () => {
  expect(await state({ 1: init }, `${INITIAL_NAMESPACE} without its own /proc, x`)).toBe('unknown');
  expect(await state({ 1: init }, INITIAL_NAMESPACE, `${other} without its own /proc, x`)).toBe('unknown');
});
