// How the objects of src are put together: no part is used before it exists, nothing is filled in later, and what is known of a task is kept in
// the task. Exceptions stand here with their reasons; one that is no longer needed fails.
import { join } from 'node:path';
import ts from 'typescript';
import { beforeAll, describe, expect, it } from 'vitest';
import { filesBelow, root } from '../../scripts/source.js';
import { compilerOptions, createProgram } from '../helpers/house.js';
import { findKeyed, findLateParts, findLongFunctions, findPremature } from '../helpers/wiring.js';

/** Functions that put parts together, beside all constructors. */
const composing = ['openManager', 'createProcessKind'];

/** A helper that calls back into the part that makes it, and not before it is told to begin. */
const beginsLater = {
  'Retention refers to enforce before #expiry is there': 'its timer is armed by the first pass over the ended tasks',
  'ProcessHost refers to keepFolder before #watch is there': 'the watch has not begun when it is made',
};

/** Two parts that need each other: the lower one is made first, and hears of the other once. */
const toldOnce = {
  'Losses.#listener in whenLost':
    'the directory can be lost before there is a manager; what was lost earlier is told at once',
  'Slots.#onFree in whenFree': 'the queue takes slots and is told of free ones; before there is a queue nobody waits',
};

/** No parts, but how something stands: who holds a slot or a place, which launch is under way and what it brought along, which wait is woken. */
const states = [
  'DeliveryJob.#leave in #enter',
  'DeliveryJob.#leave in #queue',
  'FunctionWork.#existing in launch',
  'Holdings.#slot in hold',
  'Launchable.launching in during',
  'Place.slot in drain',
  'Wait.#resolve in forWake',
];

/** Collections by task outside `Task`: each with the reason why it is not a field of it. */
const byTask = {
  'src/lifecycle/table.ts: TaskTable.#tasks': 'the table itself',
  'src/lifecycle/table.ts: TaskTable.#keys': 'the same, by idempotency key',
  'src/lifecycle/table.ts: TaskTable.#active': 'an index of the table, so that a pass does not visit all tasks ever',
  'src/lifecycle/table.ts: TaskTable.#owing': 'an index of the table, for inboxes',
  'src/lifecycle/retention.ts: Retention.#ended': 'the order in which tasks ended, which is no property of one of them',
  'src/lifecycle/expiry.ts: Expiry.#waiting': 'what of the heap of times to live has not gone',
  'src/lifecycle/expiry.ts: Expiry.#due': 'what came out of that heap and has not gone',
  'src/lifecycle/registration.ts: Registration.#ids': 'registrations under way: there is no task yet',
  'src/lifecycle/registration.ts: Registration.#keys': 'registrations under way: there is no task yet',
  'src/lifecycle/registration.ts: Registration.#unwritten': 'registrations under way: not in the table yet',
  'src/lifecycle/parts.ts: Parts.#unavailableIds': 'ids of unreadable files: there is no task',
  'src/store/file-store.ts: FileStore.#leftInPlace': 'paths of unreadable files: there is no task',
  'src/store/layout.ts: Layout.#legacyFolders':
    'where folders of other systems are: a fact of the disk, which no record holds',
  'src/process/table/process-table.ts: Snapshot.#marked': 'one scan of the processes, and gone with it',
  'src/hooks/outbox.ts: Outbox.#jobs':
    'all deliveries under way, so that closing can await them; each task knows its own',
};

/** Collections by something else than a task. */
const byOther = {
  'src/hooks/book.ts: Book.#reported': 'reasons of failures',
  'src/hooks/outbox.ts: Outbox.#hooks': 'names of hooks',
  'src/lifecycle/parts.ts: Parts.#kinds': 'names of kinds',
  'src/lifecycle/slots.ts: Slots.#byGroup': 'groups',
  'src/lifecycle/task/task.ts: Task.#deliveries': 'names of hooks',
  'src/output/append.ts: OutputLog.#reported': 'reasons of failures',
  'src/process/supervisor/process-tree.ts: ProcessTree.#outOfReach': 'processes',
  'src/process/table/pid-namespaces.ts: PidNamespaces.#seen': 'namespaces',
  'src/process/table/proc-table.ts: ProcTable.#hanging': 'processes',
  'src/store/durable-file.ts: DurableFiles.#syncs': 'folders',
  'src/webhook/hook.ts: reserved': 'names of headers',
  'src/webhook/payload.ts: essential': 'fields of the record',
};

const options = compilerOptions(join(root, 'tsconfig.json'));
const files = filesBelow('src', '.ts').map((file) => join(root, file));
let program: ts.Program;

beforeAll(() => {
  program = createProgram(files, options);
});

const withoutPlace = (found: readonly string[]) => found.map((one) => one.replace(/^\S+: /, '')).sort();

describe('the parts of src', () => {
  it('are there before they are used', () => {
    expect(withoutPlace(findPremature(program, files, composing))).toEqual(Object.keys(beginsLater).sort());
  });

  it('are given what they need when they are made', () => {
    expect(findLateParts(program, files)).toEqual([...Object.keys(toldOnce), ...states].sort());
  });

  it('keep nothing by task: what is known of a task is in the task', () => {
    expect(findKeyed(program, files).sort()).toEqual([...Object.keys(byTask), ...Object.keys(byOther)].sort());
  });

  it('have no function over 50 lines', () => {
    expect(files.flatMap((file) => findLongFunctions(program.getSourceFile(file)!, 50))).toEqual([]);
  });
});

describe('the checker itself', () => {
  const check = (text: string) => {
    const file = join(root, 'src/bad.ts');
    const bad = createProgram([file], options, { [file]: text });
    return {
      premature: findPremature(bad, [file], ['compose']),
      late: findLateParts(bad, [file]),
      keyed: findKeyed(bad, [file]),
    };
  };
  const helpers = `
    export class Engine { constructor(readonly ask: () => void) {} run(): void {} }
    export class Store { put(): void {} }
    declare function shareRuns<T>(work: () => T): () => T;
  `;

  it('finds a closure that names a part of a later step', () => {
    const { premature } = check(`${helpers}
      export class Parts {
        readonly engine: Engine;
        readonly store: Store;
        constructor() {
          this.engine = new Engine(() => this.store.put());
          this.store = new Store();
        }
      }`);
    expect(premature).toEqual([expect.stringMatching(/^src\/bad.ts:\d+: Parts refers to it before store is there$/)]);
  });

  it.each([
    ['an initializer', 'readonly engine = new Engine(() => this.store.put()); readonly store = new Store();'],
    [
      'a method',
      'readonly engine = new Engine(() => this.go()); readonly store = new Store(); go() { this.store.put(); }',
    ],
    [
      'a method through a method, and a run that is shared',
      'readonly engine = new Engine(() => this.go()); readonly store = new Store(); go() { this.share(); } readonly share = shareRuns(() => this.store.put());',
    ],
    [
      'a getter',
      'readonly engine = new Engine(() => this.it.put()); readonly store = new Store(); get it() { return this.store; }',
    ],
    ['`this` itself', 'readonly engine = make(this); readonly store = new Store();'],
    [
      'an object literal',
      'readonly engine: Engine; readonly store: Store; constructor() { this.engine = make({ put: () => this.store }); this.store = new Store(); }',
    ],
    [
      'what is taken out of `this`',
      'readonly engine: Engine; readonly store!: Store; constructor() { const { store } = this; this.engine = make(store); this.store = new Store(); }',
    ],
  ])('finds a part that is named too early through %s', (_what, body) => {
    const { premature } = check(
      `${helpers} declare function make(it: unknown): Engine; export class Parts { ${body} }`,
    );
    expect(withoutPlace(premature).join('\n')).toMatch(/before store is there/);
  });

  it('finds a closure that names a variable of a later statement', () => {
    const body = 'const engine = new Engine(() => store.put()); const store = new Store();';
    const { premature } = check(`${helpers}
      export class Parts { constructor() { ${body} engine.run(); } }
      export function compose() { ${body} return engine; }`);
    expect(withoutPlace(premature)).toEqual(Array(2).fill('store is used before it is declared'));
  });

  it('says nothing of parts in the right order, of state that begins empty, and of functions that are made to be called later', () => {
    const { premature, late } = check(`${helpers}
      export class Parts {
        readonly store = new Store();
        readonly engine: Engine;
        readonly share = shareRuns(() => this.engine.run());
        #made: Engine | undefined;
        constructor(store: Store) {
          const ask = () => store.put();
          this.engine = new Engine(() => { ask(); this.store.put(); this.#made?.run(); });
        }
        later(): void { this.#made ??= new Engine(() => this.engine.run()); }
      }`);
    expect([...premature, ...late]).toEqual([]);
  });

  it('finds parts and callbacks that are filled in later, by a method or from outside', () => {
    const { late } = check(`${helpers}
      export class Parts {
        store: Store | undefined;
        #listener: () => void = () => undefined;
        #count = 0;
        useStore(store: Store): void { this.store = store; }
        whenDone({ listener }: { listener: () => void }): void { this.#listener = listener; }
        add(count: number): void { this.#count = count; }
      }
      export function fill(parts: Parts): void { parts.store = new Store(); }`);
    expect(late).toEqual(['Parts.#listener in whenDone', 'Parts.store in fill', 'Parts.store in useStore']);
  });

  it('finds what is kept by text or by task, and nothing that is not', () => {
    const { keyed } = check(`
      interface Task { readonly taskId: string }
      const all = new WeakMap<Task, number>();
      export class Parts<T extends Task> {
        readonly #byId = new Map<string, number>();
        readonly #tasks = new Set<T>();
        readonly #both = { old: new Set<Task>(), young: new Set<Task>() };
        #ids: ReadonlySet<string> | undefined;
        readonly #pids = new Map<number, string>();
        readonly #objects = new WeakMap<object, Task>();
        count(): number { const local = new Set<string>(); return local.size + (all.get({ taskId: '' }) ?? 0); }
      }`);
    expect(keyed).toEqual(
      ['all', 'Parts.#byId', 'Parts.#tasks', 'Parts.#both', 'Parts.#ids'].map((one) => `src/bad.ts: ${one}`),
    );
  });

  it('measures functions, closures among them', () => {
    const lines = Array(10).fill('void 0;').join('\n');
    const text = `/** Not\ncounted. */\nexport function long() {\n${lines}\n}\nexport const closure = () => {\n${lines}\n};\nfunction short() {}`;
    const source = ts.createSourceFile(join(root, 'src/bad.ts'), text, ts.ScriptTarget.Latest, true);
    expect(findLongFunctions(source, 11)).toEqual([
      'src/bad.ts:3 long (12 lines)',
      'src/bad.ts:15 a closure (12 lines)',
    ]);
    expect(findLongFunctions(source, 12)).toEqual([]);
  });
});
