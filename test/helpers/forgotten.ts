// Changes of the sources that forget the second of two places, compiled in memory.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compilerOptions, createProgram, describeDiagnostic, root } from './house.js';

/** One change of the sources that forgets the other place, and what the compiler must say where. */
interface Forgotten {
  readonly what: string;
  readonly file: string;
  readonly find: string;
  readonly add: string;
  readonly problem: RegExp;
  /** Where the problem is, if not in the changed file. */
  readonly at?: string;
}

/** What was added only where it is named: a constant, or a documented type. */
export const onlyNamed: readonly Forgotten[] = [
  {
    what: 'a stop cause without a verdict',
    file: 'src/task/status.ts',
    find: "stopCauses = ['user', ",
    add: "'novel', ",
    problem: /Property 'novel' is missing in type '{ none/,
  },
  {
    what: 'an event without its name',
    file: 'src/task/events.ts',
    find: 'export type EventsOf<T> = {',
    add: "'task:novel': { task: T };",
    problem: /Property '"task:novel"' is missing/,
  },
  {
    what: 'a field of the record that the schema does not have',
    file: 'src/task/record.ts',
    find: 'export interface TaskRecord extends TaskOf<string, JsonObject> {',
    add: 'readonly novel: string;',
    problem: /"novel"/,
  },
  {
    what: 'a field that a record must have, without what stands for it where a newer version wrote it unreadably',
    file: 'src/task/record.ts',
    find: 'const fallbacks:',
    add: '',
    problem: /Property 'novel' is missing.*RequiredFields/s,
  },
  {
    what: 'a field of a part of the record that the schema does not have',
    file: 'src/task/types.ts',
    find: 'export interface OwedDelivery {',
    add: 'readonly also?: string;',
    problem: /"also"/,
    at: 'src/task/record.ts',
  },
  {
    what: 'an option of open that is not parsed',
    file: 'src/options.ts',
    find: 'export interface OpenOptions<Kinds extends readonly AnyTaskKind[]> {',
    add: 'novel?: string;',
    problem: /"novel"/,
  },
  {
    what: 'a hook option that is not parsed',
    file: 'src/hooks/types.ts',
    find: 'export interface HookOptions<K extends AnyTaskKind = never> {',
    add: 'novel?: string;',
    problem: /"novel"/,
    at: 'src/hooks/definition.ts',
  },
  {
    what: 'a condition of a filter that is not parsed',
    file: 'src/task/filter.ts',
    find: 'export interface TaskFilter<N extends string = string, T = Task> {',
    add: 'novel?: string;',
    problem: /"novel"/,
  },
  {
    what: 'a kind without a task type and a guard',
    file: 'src/task/built-in.ts',
    find: "builtInKinds = ['process', ",
    add: "'novel', ",
    problem: /"novel"/,
    at: 'src/task/guards.ts',
  },
  {
    what: 'a callback of a kind that is not bound',
    file: 'src/task/kind-runtime.ts',
    find: 'export interface KindRuntime {',
    add: 'readonly novel?: () => void;',
    problem: /"novel"/,
    at: 'src/task/define-kind.ts',
  },
  {
    what: 'a finding without a rule',
    file: 'src/lifecycle/decide/finding.ts',
    find: 'interface Findings {',
    add: 'novel: object;',
    problem: /Property 'novel' is missing/,
    at: 'src/lifecycle/decide/decide.ts',
  },
  {
    what: 'an effect that is not applied',
    file: 'src/lifecycle/decide/decide.ts',
    find: 'export const effects = [',
    add: "'novel',",
    problem: /"novel"/,
    at: 'src/lifecycle/task/task.ts',
  },
];

/** What was added only where it is checked or judged. */
export const onlyChecked: readonly Forgotten[] = [
  {
    what: 'a verdict for a stop cause that no record may have',
    file: 'src/task/status.ts',
    find: '  none: {',
    add: "completed: 'completed', failed: 'failed', gone: 'lost', abandoned: 'lost' }, novel: {",
    problem: /'novel' does not exist/,
  },
  {
    what: 'the name of an event that is not in the map',
    file: 'src/task/events.ts',
    find: 'const names: Readonly<Record<EventName, true>> = {',
    add: "'task:novel': true,",
    problem: /'task:novel'' does not exist/,
  },
  {
    what: 'a field of the schema that the record does not have',
    file: 'src/task/record.ts',
    find: 'const schema = z.object({',
    add: 'novel: optional(z.string()),',
    problem: /"novel"/,
  },
  {
    what: 'an option of open that is not documented',
    file: 'src/options.ts',
    find: 'const schema = z.strictObject({',
    add: 'novel: z.string().optional(),',
    problem: /"novel"/,
  },
  {
    what: 'a hook option that is not documented',
    file: 'src/hooks/definition.ts',
    find: 'const schema = z.strictObject({',
    add: 'novel: z.string().optional(),',
    problem: /"novel"/,
  },
  {
    what: 'a condition of a filter that is not documented',
    file: 'src/task/filter.ts',
    find: 'export const filterFields = {',
    add: 'novel: z.string().optional(),',
    problem: /"novel"/,
  },
  {
    what: 'a rule for a finding that nobody can post',
    file: 'src/lifecycle/decide/decide.ts',
    find: 'const ruleOf: { readonly [N in FindingName]: Rule<N> } = {',
    add: 'novel: { from: [], events: [], effects: [], decide: () => undefined },',
    problem: /'novel' does not exist/,
  },
];

/** Makes all changes at once, each in a file of its own but for those that go together, and gives what the compiler says, by file. */
export function compileChanged(changes: readonly Forgotten[]): ReadonlyMap<string, string> {
  const virtual: Record<string, string> = {};
  for (const { file, find, add } of changes) {
    const path = join(root, file);
    const parts = (virtual[path] ?? readFileSync(path, 'utf8')).split(find);
    if (parts.length !== 2) throw new Error(`${file} has ${parts.length - 1} times "${find}"`);
    virtual[path] = `${parts[0]}${find}${add}${parts[1]}`;
  }
  const wanted = [...new Set(changes.map(({ file, at }) => join(root, at ?? file)))];
  const program = createProgram(wanted, compilerOptions(join(root, 'tsconfig.json')), virtual);
  return new Map(
    wanted.map((file) => {
      const diagnostics = program.getSemanticDiagnostics(program.getSourceFile(file));
      return [file, diagnostics.map(describeDiagnostic).join('\n')];
    }),
  );
}
