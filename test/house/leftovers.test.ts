// What is left of tasks: nothing that they needed to run once they have ended, nothing at all once they are pruned, nothing of a closed manager.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { run } from '../helpers/house.js';

const COUNT = 1_000;

/** What the host found: see leftovers-host.ts. */
let found: any;

beforeAll(async () => {
  const host = fileURLToPath(new URL('./leftovers-host.ts', import.meta.url));
  const directory = await mkdtemp(join(tmpdir(), 'holdfast-test-'));
  try {
    const args = ['--no-warnings', '--import', 'tsx', host, directory, String(COUNT)];
    const { code, stdout, stderr } = await run(process.execPath, args, { timeoutMs: 120_000 });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    found = JSON.parse(stdout);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

describe(`of ${COUNT} tasks of every sort`, () => {
  it('each comes to its end', () => {
    expect(found.statuses).toEqual(['completed', 'failed', 'killed', 'timed_out']);
    expect(found.ended.status).toEqual({ active: 0, terminal: COUNT, slots: 0 });
  });

  it('nothing is left that they needed to run, while they are kept', () => {
    expect(found.ended.held).toEqual({});
    expect(found.ended.listeners).toBe(0);
    expect(found.ended.timers, 'one for all times to live').toBe(1);
    expect(found.ended.handles).toEqual(found.opened.handles);
    expect(found.ended.tasks).toEqual({ Task: COUNT, Ledger: COUNT, Memory: COUNT });
  });

  it('nothing is left at all, once they are pruned', () => {
    expect(found.pruned).toBe(COUNT);
    expect(found.afterwards).toEqual(found.opened);
  });

  it('nothing is left of their manager, once it is closed', () => {
    expect(found.closed).toEqual({ listeners: 0, timers: 0 });
    expect(found.left).toEqual({ objects: {}, handles: found.before });
  });
});
