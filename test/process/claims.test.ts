/* The right to run, taken away: by a host that may be killed, or stand before a full disk, at every step. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { expect, it, onTestFinished } from 'vitest';
import { RunFiles } from '../../src/store/run-files.js';
import { installFaults } from '../helpers/faults.js';
import { ProcessLab } from '../helpers/process.js';

/** A task that no supervisor has come for, and a disk on which no word can be written. */
async function withoutWords(code: string) {
  const lab = new ProcessLab();
  const task = lab.task();
  const { faults, restore } = await installFaults(lab.layout.directory);
  onTestFinished(restore);
  faults.arm(code, (_index, name) => name === 'writeFile');
  return { lab, task, pidPath: lab.layout.pidPath(task.taskId) };
}

it('a claim that could not be written is none: an empty one would say that something may have run', async () => {
  const { lab, task, pidPath } = await withoutWords('EIO');
  await expect(lab.probe(task)).rejects.toMatchObject({ code: 'EIO' });
  expect(existsSync(pidPath)).toBe(false);
  expect(readdirSync(lab.layout.runDir)).toEqual([]);
});

it('on a full disk the name alone is the claim, and the host that made it knows that nothing ran', async () => {
  const { lab, task, pidPath } = await withoutWords('ENOSPC');
  for (const _look of [1, 2]) expect(await lab.probe(task)).toMatchObject({ state: 'gone', neverBegan: true });
  expect(readFileSync(pidPath, 'utf8')).toBe('');
});

it('what a host left that was killed on the way to its claim is in no one’s way', async () => {
  const { layout } = new ProcessLab();
  writeFileSync(layout.voidDraftPath('t'), 'vo');
  const files = new RunFiles(layout, 't');
  expect(await files.claimVoid()).toBe(true);
  expect(await files.claimVoid()).toBe(false);
  expect(readFileSync(layout.pidPath('t'), 'utf8')).toBe('void\n');
  expect(readdirSync(layout.runDir)).toEqual(['t.pid']);
});
