// A directory that a host of the version before left, killed in the middle of its work, opens with everything as it was.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { isTerminalStatus, readTasks } from '../../src/index.js';
import { openManager, scratch } from '../helpers/manager.js';
import { onDisk } from '../helpers/world.js';
import before from './fixtures/version-before.json' with { type: 'json' };

const files: Record<string, string> = before;

async function unpacked(): Promise<string> {
  const directory = await scratch();
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true, mode: 0o700 });
    writeFileSync(join(directory, name), text, { mode: 0o600 });
  }
  return directory;
}

const recordNames = Object.keys(files).filter((name) => /^[^/]+\.json$/.test(name));
const ended = recordNames.filter((name) => isTerminalStatus(JSON.parse(files[name]!).status));

it('opens, and what had ended is as it was, to the byte', async () => {
  const directory = await unpacked();
  const manager = await openManager({ directory, hooks: { inbox: 'pull', broken: 'pull' } });
  await manager.waitForIdle();
  expect(
    manager
      .listTasks({ includeForeground: true })
      .map(({ taskId }) => `${taskId}.json`)
      .sort(),
  ).toEqual(recordNames);
  for (const name of ended) {
    const record = JSON.parse(files[name]!);
    expect(manager.getTask(record.taskId)).toMatchObject({ ...record, revision: 0, updatedAt: record.endedAt });
    expect(readFileSync(join(directory, name), 'utf8')).toBe(files[name]);
  }
  expect((await readTasks(directory)).rejected).toEqual([]);
  expect((await manager.readOutput('broken')).text).toBe('broken\n');
  expect(manager.listDeliveries({ state: 'failed' }).map(({ taskId }) => taskId)).toEqual(['broken']);
  const again = {
    kind: 'process',
    description: 'work',
    command: 'echo done',
    cwd: '/',
    idempotencyKey: 'call_1',
  } as const;
  expect((await manager.registerTask(again)).taskId).toBe('done');
});

it('judges what ended meanwhile by its exit record, and launches what was queued', async () => {
  const directory = await unpacked();
  const manager = await openManager({ directory, hooks: { inbox: 'pull' } });
  await manager.waitForIdle();
  expect(manager.getTask('away')).toMatchObject({ status: 'failed', details: { exitCode: 3 } });
  expect(manager.getTask('inside')).toMatchObject({ status: 'lost' });
  expect(manager.getTask('queued')).toMatchObject({ status: 'completed', attempt: 1 });
  expect((await manager.readOutput('queued')).text).toBe('queued\n');
  expect(onDisk(directory, 'queued')).toMatchObject({
    revision: expect.any(Number),
    hooks: { inbox: { state: 'pending' } },
  });
});
