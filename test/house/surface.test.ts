// What hosts rely on by name. A change here is a change of the contract: it belongs into a changeset.
import { join } from 'node:path';
import type ts from 'typescript';
import { beforeAll, describe, expect, it } from 'vitest';
import { built, compilerOptions, createProgram, exportsOf, root, run } from '../helpers/house.js';

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
  'readTask',
  'readTaskOutput',
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
  let exported: ReadonlyMap<string, ts.Symbol>;
  beforeAll(() => {
    const program = createProgram([built('index.d.ts')], compilerOptions(join(root, 'test/house/types/tsconfig.json')));
    checker = program.getTypeChecker();
    exported = exportsOf(program, built('index.d.ts'));
  });

  function typeNamed(name: string): ts.Type {
    const symbol = exported.get(name);
    if (!symbol) throw new Error(`${name} is not exported`);
    return checker.getDeclaredTypeOfSymbol(symbol);
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
