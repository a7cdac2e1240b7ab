// Records as hosts and other tools find them on disk. A change here is a change of the contract: it belongs into a changeset.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineTaskKind } from '../../src/index.js';
import { deferred, openManager, scratch } from '../helpers/manager.js';

/** A record as it is on disk, with what differs from run to run replaced by its type. */
async function recordOnDisk(directory: string, taskId: string): Promise<unknown> {
  const text = await readFile(join(directory, `${taskId}.json`), 'utf8');
  return JSON.parse(text, (key, value: unknown) => {
    if (/At$/.test(key) && typeof value === 'number') return '<time>';
    if (['pid', 'startTicks', 'instanceId', 'hostname', 'bootId', 'pidNamespace', 'cwd'].includes(key))
      return `<${key}>`;
    return value;
  });
}

const owner = {
  instanceId: '<instanceId>',
  hostname: '<hostname>',
  bootId: '<bootId>',
  pidNamespace: '<pidNamespace>',
  pid: '<pid>',
  startTicks: '<startTicks>',
};

describe('records on disk', () => {
  it('of a process', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    await manager.registerTask({
      kind: 'process',
      taskId: 'shell',
      description: 'say and fail',
      command: ['sh', '-c', 'echo said; exit 3'],
      timeoutMs: 60_000,
      maxOutputBytes: 1_000,
      group: 'g',
      idempotencyKey: 'key',
      metadata: { sessionId: 's1' },
    });
    await manager.waitForTask('shell');
    expect(await recordOnDisk(directory, 'shell')).toEqual({
      schemaVersion: 1,
      taskId: 'shell',
      kind: 'process',
      description: 'say and fail',
      status: 'failed',
      detached: true,
      createdAt: '<time>',
      startedAt: '<time>',
      endedAt: '<time>',
      timeoutMs: 60_000,
      deadlineAt: '<time>',
      group: 'g',
      idempotencyKey: 'key',
      registeredDetails: { command: expect.any(String), cwd: expect.any(String) },
      attempt: 1,
      revision: expect.any(Number),
      updatedAt: '<time>',
      maxOutputBytes: 1_000,
      owner,
      error: expect.objectContaining({ name: expect.any(String), message: expect.any(String) }),
      details: { command: ['sh', '-c', 'echo said; exit 3'], cwd: '<cwd>', pid: '<pid>', exitCode: 3, signal: null },
      metadata: { sessionId: 's1' },
      hooks: {},
    });
  });

  it('of a function', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, hooks: { inbox: 'pull' } });
    await manager.registerTask({ kind: 'function', taskId: 'sum', description: 'add up', run: () => ({ sum: 4 }) });
    await manager.waitForTask('sum');
    expect(await recordOnDisk(directory, 'sum')).toEqual({
      schemaVersion: 1,
      taskId: 'sum',
      kind: 'function',
      description: 'add up',
      status: 'completed',
      detached: true,
      createdAt: '<time>',
      startedAt: '<time>',
      endedAt: '<time>',
      attempt: 1,
      revision: expect.any(Number),
      updatedAt: '<time>',
      owner,
      result: { sum: 4 },
      details: {},
      metadata: {},
      hooks: { inbox: { state: 'pending', attempts: 0 } },
    });
  });

  it('of a kind of the host, running, waiting and stopped', async () => {
    const agent = defineTaskKind({ name: 'agent', details: z.object({ agentId: z.string() }) });
    const directory = await scratch();
    const manager = await openManager({ directory, kinds: [agent] });
    const asked = deferred();
    manager.once('task:waiting', () => asked.resolve());
    await manager.registerTask({
      kind: 'agent',
      taskId: 'agent-1',
      description: 'ask',
      details: { agentId: 'a7' },
      run: async ({ requestInput }) => requestInput('Deploy?', { data: { to: 'production' } }),
    });
    await asked.promise;
    const common = {
      schemaVersion: 1,
      taskId: 'agent-1',
      kind: 'agent',
      description: 'ask',
      detached: true,
      createdAt: '<time>',
      startedAt: '<time>',
      attempt: 1,
      revision: expect.any(Number),
      updatedAt: '<time>',
      owner,
      details: { agentId: 'a7' },
      metadata: {},
      hooks: {},
    };
    expect(await recordOnDisk(directory, 'agent-1')).toEqual({
      ...common,
      status: 'waiting',
      endedAt: null,
      waitingFor: { prompt: 'Deploy?', data: { to: 'production' }, requestedAt: '<time>' },
    });
    await manager.stopTask('agent-1', { reason: 'not today' });
    expect(await recordOnDisk(directory, 'agent-1')).toEqual({
      ...common,
      status: 'killed',
      endedAt: '<time>',
      stop: { cause: 'user', reason: 'not today', requestedAt: '<time>' },
      stopReason: 'not today',
    });
  });

  it('of a kind that outlives the host', async () => {
    let state: 'running' | 'completed' = 'running';
    const remote = defineTaskKind({
      name: 'remote',
      idPrefix: 'job',
      details: z.object({ job: z.string(), step: z.number().optional() }),
      start: async (_context, _input: { token: string }) => ({ step: 1 }),
      probe: async () => ({ state }),
    });
    const directory = await scratch();
    const manager = await openManager({ directory, kinds: [remote] });
    const secret = 'a secret that no record holds';
    const { taskId } = await manager.registerTask({
      kind: 'remote',
      description: 'train',
      details: { job: 'j1' },
      input: { token: secret },
    });
    expect(taskId).toMatch(/^job-[0-9a-z]{8}$/);
    state = 'completed';
    await manager.reconcile();
    await manager.waitForTask(taskId);
    expect(await recordOnDisk(directory, taskId)).toEqual({
      schemaVersion: 1,
      taskId,
      kind: 'remote',
      description: 'train',
      status: 'completed',
      detached: true,
      createdAt: '<time>',
      startedAt: '<time>',
      endedAt: '<time>',
      hasInput: true,
      attempt: 1,
      revision: expect.any(Number),
      updatedAt: '<time>',
      owner,
      details: { job: 'j1', step: 1 },
      metadata: {},
      hooks: {},
    });
    expect(await readFile(join(directory, `${taskId}.json`), 'utf8')).not.toContain(secret);
  });
});
