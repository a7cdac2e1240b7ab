// What hosts rely on by name. A change here is a change of the contract: it belongs into a changeset.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import ts from 'typescript';
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineTaskKind } from '../../src/index.js';
import { built, compilerOptions, createProgram, root, run } from '../helpers/house.js';
import { deferred, openManager, scratch } from '../helpers/manager.js';

const values = [
  'BackgroundTaskError',
  'BackgroundTaskManager',
  'PermanentDeliveryError',
  'defineTaskKind',
  'importTasks',
  'isFailed',
  'isFunctionTask',
  'isProcessTask',
  'isTerminal',
  'isTerminalStatus',
  'isWaiting',
  'parseTaskRecord',
  'readTasks',
];

/** Each export by its name, and by the name that it has itself, as a stack trace or a log shows it. */
async function namesOf(statement: string, file: string): Promise<unknown> {
  const path = JSON.stringify(built(file));
  const { stdout, stderr } = await run(process.execPath, [
    '-e',
    `(async () => console.log(JSON.stringify(Object.entries(${statement}(${path})).map(([key, { name }]) => [key, name]).sort())))()`,
  ]);
  expect(stderr).toBe('');
  return JSON.parse(stdout);
}

describe('runtime exports', () => {
  it.each([
    ['await import', 'index.js', values],
    ['require', 'index.cjs', values],
    ['await import', 'webhook.js', ['webhookHook']],
    ['require', 'webhook.cjs', ['webhookHook']],
  ])('by %s of dist/%s', async (statement, file, names) => {
    expect(await namesOf(statement, file)).toEqual(names.map((name) => [name, name]));
  });
});

describe('names in the declarations', () => {
  let checker: ts.TypeChecker;
  let module: ts.Symbol[];
  beforeAll(() => {
    const program = createProgram([built('index.d.ts')], compilerOptions(join(root, 'test/house/types/tsconfig.json')));
    checker = program.getTypeChecker();
    const source = program.getSourceFile(built('index.d.ts'));
    const symbol = source && checker.getSymbolAtLocation(source);
    module = symbol ? checker.getExportsOfModule(symbol) : [];
  });

  function typeNamed(name: string): ts.Type {
    const exported = module.find((one) => one.name === name);
    if (!exported) throw new Error(`${name} is not exported`);
    const target = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
    return checker.getDeclaredTypeOfSymbol(target);
  }

  function literals(name: string): string[] {
    const type = typeNamed(name);
    const parts = type.isUnion() ? type.types : [type];
    return parts.map((part) => (part.isStringLiteral() ? part.value : checker.typeToString(part))).sort();
  }

  it('are these error codes', () => {
    expect(literals('BackgroundTaskErrorCode')).toEqual([
      'CAPACITY_EXCEEDED',
      'DIRECTORY_OWNED',
      'IDEMPOTENCY_CONFLICT',
      'INVALID_INPUT',
      'INVALID_OPTIONS',
      'INVALID_SPEC',
      'INVALID_TASK_ID',
      'LAUNCH_FAILED',
      'LISTENER_FAILED',
      'MANAGER_CLOSED',
      'OUT_OF_REACH',
      'OWNERSHIP_LOST',
      'RECORD_UNSUPPORTED',
      'STORAGE_FAILED',
      'TASK_EXISTS',
      'TASK_NOT_FOUND',
      'TASK_NOT_WAITING',
      'UNKNOWN_HOOK',
      'UNKNOWN_KIND',
    ]);
  });

  it('are these statuses and states', () => {
    expect(literals('TaskStatus')).toEqual([
      'completed',
      'failed',
      'killed',
      'lost',
      'queued',
      'running',
      'timed_out',
      'waiting',
    ]);
    expect(literals('StopCause')).toEqual(['deadline', 'output_limit', 'shutdown', 'user']);
    expect(literals('HookState')).toEqual(['delivered', 'failed', 'pending', 'skipped']);
  });

  it('are these events', () => {
    const names = typeNamed('BackgroundTaskEvents')
      .getProperties()
      .map((property) => property.name);
    expect(names.sort()).toEqual([
      'error',
      'hook:delivered',
      'hook:failed',
      'hook:retrying',
      'manager:fenced',
      'manager:reconciled',
      'record:rejected',
      'task:adopted',
      'task:detached',
      'task:progress',
      'task:pruned',
      'task:queued',
      'task:resumed',
      'task:settled',
      'task:started',
      'task:stopping',
      'task:updated',
      'task:waiting',
    ]);
  });
});

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
