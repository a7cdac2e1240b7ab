// A fact that stands in two places: where one of them was forgotten, something here fails. CONTRIBUTING.md says which places there are.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { withRules } from '../../scripts/states.js';
import { errorCodes } from '../../src/errors.js';
import { BackgroundTaskManager, defineTaskKind } from '../../src/index.js';
import { effects, rules } from '../../src/lifecycle/decide/decide.js';
import { builtInKinds } from '../../src/task/built-in.js';
import { eventNames } from '../../src/task/events.js';
import { hookStates, judge, stopCauses, taskStatuses } from '../../src/task/status.js';
import { compileChanged, onlyChecked, onlyNamed } from '../helpers/forgotten.js';
import { compilerOptions, createProgram, exportsOf, filesBelow, root } from '../helpers/house.js';
import { openManager, scratch } from '../helpers/manager.js';

const entry = join(root, 'src/index.ts');
const options = compilerOptions(join(root, 'tsconfig.json'));
const read = (file: string): string => readFileSync(join(root, file), 'utf8');

describe.each([
  ['named only', onlyNamed],
  ['checked only', onlyChecked],
])('the compiler refuses what is %s:', (_, changes) => {
  let said: ReadonlyMap<string, string>;
  beforeAll(() => {
    said = compileChanged(changes);
  });

  it.each(changes)('$what', ({ file, at, problem }) => {
    expect(said.get(join(root, at ?? file))).toMatch(problem);
  });
});

describe('what the sources list', () => {
  let checker: ts.TypeChecker;
  let exported: ReadonlyMap<string, ts.Symbol>;
  let program: ts.Program;
  beforeAll(() => {
    program = createProgram([entry], options);
    checker = program.getTypeChecker();
    exported = exportsOf(program, entry);
  });

  function membersOf(name: string, from = exported): ts.Symbol[] {
    const symbol = from.get(name);
    if (!symbol) throw new Error(`${name} is not exported`);
    return checker.getDeclaredTypeOfSymbol(symbol).getProperties();
  }

  /** Every name that stands in code within a line of the README and of docs. */
  const documented = new Set(
    ['README.md', ...filesBelow('docs', '.md')]
      .map((file) => read(file).replace(/^```[\s\S]*?^```$/gm, ''))
      .flatMap((text) => [...text.matchAll(/`([^`\n]+)`/g)])
      .flatMap(([, code = '']) => code.match(/[\w:]*\w/g) ?? []),
  );
  const undocumented = (names: Iterable<string>): string[] => [...names].filter((name) => !documented.has(name));
  const withoutComment = (members: readonly ts.Symbol[]): string[] =>
    members.filter((one) => one.getDocumentationComment(checker).length === 0).map(({ name }) => name);

  it.each([
    ['status', taskStatuses],
    ['stop cause', stopCauses],
    ['state of a delivery', hookStates],
    ['error code', Object.keys(errorCodes)],
    ['event', eventNames],
    ['built-in kind', builtInKinds],
  ])('is in the README or docs: each %s', (_, names) => {
    expect(names.length).toBeGreaterThan(1);
    expect(undocumented(names)).toEqual([]);
  });

  it('is in the README or docs, and at its declaration: each field of the record', () => {
    const fields = membersOf('TaskRecord', exportsOf(program, join(root, 'src/task/record.ts')));
    expect(fields.length).toBeGreaterThan(30);
    expect(undocumented(fields.map(({ name }) => name))).toEqual([]);
    expect(withoutComment(fields)).toEqual([]);
  });

  it('is in the README or docs: each option of open and of a hook', () => {
    const names = ['OpenOptions', 'HookOptions'].flatMap((name) => membersOf(name)).map(({ name }) => name);
    expect(undocumented(names)).toEqual([]);
  });

  it('is in the README or docs: each call of the manager', () => {
    const members = membersOf('BackgroundTaskManager').map(({ name }) => name);
    const calls = members.filter((name) => /^[a-z]/.test(name));
    expect(calls.length).toBeGreaterThan(20);
    expect(undocumented(calls)).toEqual([]);
  });

  it('is documented at its declaration: each event, error code and the members of each closed type', () => {
    expect(withoutComment(membersOf('BackgroundTaskEvents'))).toEqual([]);
    const codes = exportsOf(program, join(root, 'src/errors.ts')).get('errorCodes');
    expect(withoutComment(codes ? checker.getTypeOfSymbol(codes).getProperties() : [])).toEqual([]);
    const comment = (name: string) => ts.displayPartsToString(exported.get(name)?.getDocumentationComment(checker));
    const unnamed = (name: string, values: readonly string[]) =>
      values.filter((value) => !comment(name).includes(`\`${value}\``));
    expect(unnamed('StopCause', stopCauses)).toEqual([]);
    expect(unnamed('HookState', hookStates)).toEqual([]);
    const of = (type: string) => taskStatuses.filter((status) => comment(type).includes(`\`${status}\``));
    expect([...of('ActiveStatus'), ...of('TerminalStatus')]).toEqual(taskStatuses);
  });

  it('is a kind, a task type, a spec and a guard: each built-in kind', async () => {
    const manager = await openManager();
    const known = builtInKinds.join(', ');
    await expect(manager.registerTask({ kind: 'novel' } as never)).rejects.toThrow(`expected one of ${known}, got`);
    const named = builtInKinds.map((kind) => `${kind[0]?.toUpperCase()}${kind.slice(1)}`);
    const wanted = named.flatMap((name) => [`${name}Task`, `${name}Spec`, `is${name}Task`]);
    expect(wanted.filter((name) => !exported.has(name))).toEqual([]);
  });

  /** The known keys, as the refusal of an unknown one lists them. */
  async function knownKeys(call: () => unknown): Promise<string[]> {
    const refusal = await Promise.resolve()
      .then(call)
      .then(
        () => 'it was not refused',
        (error: Error) => error.message,
      );
    const [, list = refusal] = /is unknown; known are (.*)$/.exec(refusal) ?? [];
    return list.split(', ').sort();
  }
  const names = (...types: readonly string[]) => types.flatMap((type) => membersOf(type).map(({ name }) => name));
  const novel = { '#': 0 };

  it('is accepted, and nothing else: each documented option of open and of a hook', async () => {
    const directory = await scratch();
    const open = (given: object) => BackgroundTaskManager.open({ directory, ...given } as never);
    expect(await knownKeys(() => open(novel))).toEqual(names('OpenOptions').sort());
    const hooks = { one: { deliver: () => undefined, ...novel } };
    expect(await knownKeys(() => open({ hooks }))).toEqual(names('HookOptions').sort());
  });

  it('is accepted, and nothing else: each documented field of a spec', async () => {
    const job = defineTaskKind({
      name: 'job',
      details: z.object({}),
      start: async (_context, _input: string) => ({}),
      probe: async () => ({ state: 'running' }),
    });
    const agent = defineTaskKind({ name: 'agent', details: z.object({}) });
    const manager = await openManager({ kinds: [job, agent] });
    const register = (kind: string) => knownKeys(() => manager.registerTask({ kind, ...novel } as never));
    expect(await register('process')).toEqual(names('ProcessSpec').sort());
    expect(await register('function')).toEqual(names('FunctionSpec').sort());
    expect(await register('job')).toEqual([...names('SpecBase'), 'kind', 'details', 'input'].sort());
    expect(await register('agent')).toEqual([...names('SpecBase'), 'kind', 'details', 'run', 'work'].sort());
  });

  it('is accepted, and nothing else: each documented option of a call', async () => {
    const manager = await openManager();
    const { taskId } = await manager.registerTask({ kind: 'function', description: 'work', run: () => 1 });
    await manager.waitForTask(taskId);
    const known = (call: (options: never) => unknown) => knownKeys(() => call(novel as never));
    expect(await known((given) => manager.listTasks(given))).toEqual(names('TaskFilter', 'ListPage').sort());
    expect(await known((given) => manager.waitForTask(taskId, given))).toEqual(
      [...names('WaitOptions'), 'orWaiting'].sort(),
    );
    expect(await known((given) => manager.stopAll(given))).toEqual([...names('StopOptions'), 'filter'].sort());
    expect(await known((given) => manager.pruneTasks(given))).toEqual(names('PruneOptions').sort());
    expect(await known((given) => manager.close(given))).toEqual(names('CloseOptions').sort());
  });
});

it('the table of verdicts in the documentation says what is judged, for each stop cause', () => {
  const pages = ['README.md', ...filesBelow('docs', '.md')].map(read).join('\n');
  const [, table = ''] = /^\| stop on record \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)/m.exec(pages) ?? [];
  const codes = (cell = '') => [...cell.matchAll(/`(\w+)`/g)].map(([, code]) => code);
  const written = table.split('\n').flatMap((row) => {
    const [, stops, ...endings] = row.split('|');
    const verdicts = endings.slice(0, 3).map((ending) => codes(ending)[0]);
    return (codes(stops).length > 0 ? codes(stops) : row ? ['none'] : []).map((stop) => [stop, ...verdicts]);
  });
  const endings = ['completed', 'failed', 'gone'] as const;
  const judged = [undefined, ...stopCauses].map((cause) => [
    cause ?? 'none',
    ...endings.map((ending) => judge(ending, cause && { cause })),
  ]);
  expect(written.sort()).toEqual(judged.sort());
});

it('the rules in the documentation are those of the state machine; "npm run docs" writes them', () => {
  const page = read('docs/states.md');
  expect(withRules(page)).toBe(page);
  const rows = page.split('\n').filter((line) => /^\| `\w+` \| [A-Z]/.test(line));
  expect(rows.length).toBe(Object.keys(rules).length);
  expect(effects.filter((effect) => !page.includes(`\n- \`${effect}\`: `))).toEqual([]);
});

describe('each event', () => {
  /** Names of events in expressions: those in types are only about them. */
  function named(file: string): string[] {
    const source = ts.createSourceFile(file, read(file), ts.ScriptTarget.Latest, true);
    const found: string[] = [];
    const visit = (node: ts.Node): void => {
      if (ts.isStringLiteralLike(node) && !ts.isLiteralTypeNode(node.parent)) found.push(node.text);
      ts.forEachChild(node, visit);
    };
    visit(source);
    return found;
  }

  it('is emitted somewhere', () => {
    const files = filesBelow('src', '.ts').filter((file) => file !== 'src/task/events.ts');
    const emitted = new Set(files.flatMap(named));
    expect(eventNames.filter((name) => !emitted.has(name))).toEqual([]);
  });
});

describe('CONTRIBUTING.md', () => {
  const text = read('CONTRIBUTING.md');

  it('names files that exist', () => {
    const named = [...text.matchAll(/[`(]((?:src|test|docs|scripts)\/[\w./-]+)[`)]/g)].map(([, path = '']) => path);
    expect(named.length).toBeGreaterThan(20);
    expect(named.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });

  it('names checks that exist', () => {
    const sources = filesBelow('src', '.ts').map(read).join('\n');
    const checks = [...text.matchAll(/`(_\w+)`/g)].map(([, name = '']) => name);
    expect(checks.length).toBeGreaterThan(2);
    expect(checks.filter((name) => !sources.includes(`type ${name} =`))).toEqual([]);
  });
});
