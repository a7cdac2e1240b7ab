import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineTaskKind } from '../../src/index.js';
import { openManager, scratch } from '../helpers/manager.js';

const run = () => 1;
const fn = { kind: 'function', description: 'work', run };
const proc = { kind: 'process', description: 'work', command: 'true' };
const circular: Record<string, unknown> = {};
circular.self = circular;

const bad: [string, unknown, string, string][] = [
  ['nothing', undefined, 'INVALID_SPEC', 'expected a task spec, got undefined'],
  ['no kind', { description: 'work', run }, 'INVALID_SPEC', 'kind'],
  [
    'an unknown kind',
    { ...fn, kind: 'agnet' },
    'UNKNOWN_KIND',
    'expected one of process, function, agent, got "agnet"',
  ],
  ['no description', { kind: 'function', run }, 'INVALID_SPEC', 'description'],
  ['no run', { kind: 'function', description: 'work' }, 'INVALID_SPEC', 'run: is missing; expected a function'],
  ['an id with a path', { ...fn, taskId: '../x' }, 'INVALID_TASK_ID', '"../x"'],
  ['an empty id', { ...fn, taskId: '' }, 'INVALID_TASK_ID', '""'],
  ['an id of 65 characters', { ...fn, taskId: 'x'.repeat(65) }, 'INVALID_TASK_ID', '64'],
  ['an id in capitals', { ...fn, taskId: 'Task' }, 'INVALID_TASK_ID', '"Task"'],
  ['a negative timeout', { ...fn, timeoutMs: -1 }, 'INVALID_SPEC', 'timeoutMs'],
  ['an infinite timeout', { ...fn, timeoutMs: Number.POSITIVE_INFINITY }, 'INVALID_SPEC', 'timeoutMs'],
  ['a timeout as a text', { ...fn, timeoutMs: '5' }, 'INVALID_SPEC', 'timeoutMs'],
  ['a queueTimeoutMs that is NaN', { ...fn, queueTimeoutMs: Number.NaN }, 'INVALID_SPEC', 'queueTimeoutMs'],
  ['an empty group', { ...fn, group: '' }, 'INVALID_SPEC', 'group'],
  ['an empty key', { ...fn, idempotencyKey: '' }, 'INVALID_SPEC', 'idempotencyKey'],
  ['metadata that is a list', { ...fn, metadata: [1] }, 'INVALID_SPEC', 'metadata'],
  ['metadata that is no JSON', { ...fn, metadata: { f: run } }, 'INVALID_SPEC', 'metadata.f is a function'],
  ['metadata with a cycle', { ...fn, metadata: circular }, 'INVALID_SPEC', 'metadata.self'],
  ['a hook that is not there', { ...fn, hooks: ['nobody'] }, 'UNKNOWN_HOOK', 'nobody'],
  ['hooks as a text', { ...fn, hooks: 'conversation' }, 'INVALID_SPEC', 'hooks'],
  ['an odd whenFull', { ...fn, whenFull: 'wait' }, 'INVALID_SPEC', 'whenFull'],
  ['a signal that is none', { ...fn, detached: false, signal: {} }, 'INVALID_SPEC', 'signal'],
  ['a slot that is none', { ...fn, slot: {} }, 'INVALID_SPEC', 'slot'],
  ['a misspelt field', { ...proc, comand: 'x' }, 'INVALID_SPEC', 'comand'],
  ['a process with run', { ...proc, run }, 'INVALID_SPEC', 'run'],
  ['a blank command', { ...proc, command: '  ' }, 'INVALID_SPEC', 'command'],
  ['an empty argument vector', { ...proc, command: [] }, 'INVALID_SPEC', 'command'],
  ['a NUL byte in a command', { ...proc, command: 'a\0b' }, 'INVALID_SPEC', 'NUL'],
  ['a NUL byte in an argument', { ...proc, command: ['echo', 'a\0b'] }, 'INVALID_SPEC', 'NUL'],
  ['a NUL byte in cwd', { ...proc, cwd: 'a\0b' }, 'INVALID_SPEC', 'cwd'],
  ['a NUL byte in the environment', { ...proc, env: { A: 'secret\0value' } }, 'INVALID_SPEC', 'NUL'],
  ['a variable name with "="', { ...proc, env: { 'A=B': 'x' } }, 'INVALID_SPEC', 'env'],
  ['maxOutputBytes 0', { ...proc, maxOutputBytes: 0 }, 'INVALID_SPEC', 'maxOutputBytes'],
  [
    'details that do not fit',
    { kind: 'agent', description: 'work', details: { agentId: 1 }, run },
    'INVALID_SPEC',
    'agentId',
  ],
  ['a spec over 512 KiB', { ...fn, metadata: { text: 'x'.repeat(600_000) } }, 'INVALID_SPEC', '524288 bytes'],
];

const agent = defineTaskKind({ name: 'agent', details: z.object({ agentId: z.string() }) });

describe('registerTask refuses', () => {
  it.each(bad)('%s', async (_, spec, code, message) => {
    const directory = await scratch();
    const manager = await openManager({ directory, kinds: [agent], maxRunningTasks: 1 });
    const refused = await manager.registerTask(spec as never).then(
      () => undefined,
      (error) => error,
    );
    expect(refused).toMatchObject({ name: 'BackgroundTaskError', code, message: expect.stringContaining(message) });
    expect(refused.message).not.toContain('secret');
    expect(manager.status()).toMatchObject({ running: 0, slots: { used: 0 } });
    expect((await readdir(directory)).filter((name) => !name.startsWith('.'))).toEqual([]);
  });

  it('an id that is taken, also by a registration under way', async () => {
    const manager = await openManager();
    const first = manager.registerTask({ kind: 'function', taskId: 't', description: 'first', run });
    await expect(
      manager.registerTask({ kind: 'function', taskId: 't', description: 'second', run }),
    ).rejects.toMatchObject({ code: 'TASK_EXISTS', taskId: 't' });
    await first;
    await manager.waitForTask('t');
    await expect(
      manager.registerTask({ kind: 'function', taskId: 't', description: 'third', run }),
    ).rejects.toMatchObject({ code: 'TASK_EXISTS' });
    expect(manager.getTask('t')?.description).toBe('first');
  });
});

describe('a registered task', () => {
  it('is on disk before its work begins', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    let atStart: unknown;
    const { taskId } = await manager.registerTask({
      kind: 'function',
      description: 'look',
      metadata: { sessionId: 's1', nothing: undefined },
      run: async (context) => {
        atStart = JSON.parse(await readFile(join(directory, `${context.taskId}.json`), 'utf8'));
      },
    });
    await manager.waitForTask(taskId);
    expect(taskId).toMatch(/^function-[0-9a-z]{8}$/);
    expect(atStart).toMatchObject({
      schemaVersion: 1,
      taskId,
      status: 'running',
      description: 'look',
      metadata: { sessionId: 's1' },
      endedAt: null,
    });
  });

  it('is a frozen snapshot that later changes do not touch', async () => {
    const manager = await openManager();
    const metadata = { list: [1] };
    const task = await manager.registerTask({ kind: 'function', description: 'work', metadata, run });
    metadata.list.push(2);
    expect(task.metadata).toEqual({ list: [1] });
    expect(Object.isFrozen(task)).toBe(true);
    expect(Object.isFrozen(task.metadata.list)).toBe(true);
    expect((await manager.waitForTask(task.taskId)).status).toBe('completed');
    expect(task.status).toBe('running');
  });

  it('is the one that is there already when its key is registered again', async () => {
    const manager = await openManager({ kinds: [agent] });
    const spec = { kind: 'function', description: 'work', idempotencyKey: 'call_9', run } as const;
    const [one, two] = await Promise.all([manager.registerTask(spec), manager.registerTask(spec)]);
    expect(two.taskId).toBe(one.taskId);
    expect(manager.listTasks()).toHaveLength(1);
    await expect(
      manager.registerTask({
        kind: 'agent',
        description: 'work',
        details: { agentId: 'a' },
        idempotencyKey: 'call_9',
        run,
      }),
    ).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });
});
