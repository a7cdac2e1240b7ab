// Compares the package's declarations with the contract's, name by name. The compiler does it: a module imports both and assigns one to
// the other, both ways; the members of both must also be readonly and optional alike.
import { join } from 'node:path';
import ts from 'typescript';
import { built, compile, compilerOptions, createProgram, root } from './house.js';

export interface ContractReport {
  /** Names of the contract that the package does not export. */
  readonly missing: readonly string[];
  /** What the compiler says where the two differ. */
  readonly different: readonly string[];
  readonly compared: readonly string[];
}

interface Exported {
  readonly name: string;
  readonly sort: 'type' | 'function' | 'class';
  readonly parameters: readonly string[];
}

/** What a generic type is compared with, by the names of its parameters. */
const typeArguments: Readonly<Record<string, string>> = {
  K: 'Kinds',
  Kinds: 'readonly [Agent, Tmux]',
  Kind: "'agent'",
  Name: "'agent'",
  N: "'process' | 'agent'",
  Details: 'Details',
  Result: 'Answer',
  Input: 'string',
  Survives: 'true',
  Output: 'string',
  Value: 'string',
};

/** What a host is only ever given may say more than the contract. */
const handedOut = new Set(['BackgroundTaskEvents']);

const prelude = `import type * as Contract from './contract.js';
import type * as Package from './package.js';
type Details = { id: string; lastSeen?: number };
type Answer = { answer: string };
type Agent = Package.TaskKind<'agent', Details, Answer, undefined, false>;
type Tmux = Package.TaskKind<'tmux', { session: string }, string, { shell: string }, true>;
type Kinds = Agent | Tmux;
type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** Readonly and optional as in T, whatever the types of the members are. */
type Modifiers<T> = { [P in keyof T]: 0 };
/** Without the private fields that make a class equal to itself only. */
type Public<T, Except> = { [P in Exclude<keyof T, Except>]: T[P] };
`;

export function compareWithContract(contractFile: string, packageFile = built('index.d.ts')): ContractReport {
  const exported = exportsOf(contractFile);
  const published = new Set(exportsOf(packageFile).map(({ name }) => name));
  const known = exported.filter(({ name }) => published.has(name));
  const folder = join(root, 'test/house/types');
  const virtual = {
    [join(folder, 'compare.ts')]: [prelude, ...known.map(comparison)].join('\n'),
    [join(folder, 'contract.ts')]: withPackageBrand(ts.sys.readFile(contractFile) ?? ''),
    [join(folder, 'package.ts')]: `export * from '${packageFile.replace(/\.d\.ts$/, '.js')}';`,
  };
  const different = compile(Object.keys(virtual), contractOptions(), virtual);
  return {
    missing: exported.map(({ name }) => name).filter((name) => !published.has(name)),
    different,
    compared: known.map(({ name }) => name),
  };
}

function comparison(exported: Exported): string {
  const { name, sort, parameters } = exported;
  if (sort === 'class') return compareClass(exported);
  if (sort === 'function') return bothWays(name, `typeof Contract.${name}`, `typeof Package.${name}`);
  const [contract, published] = filledIn(name, parameters);
  const modifiers = sameModifiers(name, contract, published);
  return `${handedOut.has(name) ? usable(name, contract, published) : bothWays(name, contract, published)}\n${modifiers}`;
}

/** Constructors are not compared, they are private or marked internal; static members are. */
function compareClass({ name, parameters }: Exported): string {
  const lines = [
    `export const ${name}_static = (value: typeof Package.${name}): Omit<typeof Contract.${name}, 'prototype'> => value;`,
  ];
  const [contract, published] = filledIn(name, parameters);
  if (name === 'BackgroundTaskManager') {
    // The types of registerTask are conditional: it is compared kind by kind. What followOutput gives may be more than an iterable, and
    // what a listener hears may say more than the contract.
    const [once, loose] = ["'registerTask'", "'registerTask' | 'followOutput' | 'on' | 'once' | 'off'"];
    lines.push(usable(name, `Public<${contract}, ${once}>`, `Public<${published}, ${once}>`));
    lines.push(bothWays(`${name}_strictly`, `Public<${contract}, ${loose}>`, `Public<${published}, ${loose}>`));
    lines.push(sameModifiers(name, contract, published));
    lines.push(`declare const contract_manager: ${contract}, published_manager: ${published};`);
    for (const kind of ['process', 'function', 'agent', 'tmux']) {
      const call = (manager: string) => `typeof ${manager}.registerTask<'${kind}', unknown>`;
      lines.push(bothWays(`registerTask_${kind}`, call('contract_manager'), call('published_manager')));
    }
  } else {
    lines.push(usable(name, contract, published));
    lines.push(sameModifiers(name, `Omit<${contract}, keyof Error>`, `Omit<${published}, keyof Error>`));
  }
  return lines.join('\n');
}

function filledIn(name: string, parameters: readonly string[]): [contract: string, published: string] {
  const types = parameters.map((parameter) => typeArguments[parameter] ?? 'string');
  const suffix = types.length > 0 ? `<${types.join(', ')}>` : '';
  return [`Contract.${name}${suffix}`, `Package.${name}${suffix}`];
}

function sameModifiers(name: string, contract: string, published: string): string {
  return `export const ${name}_modifiers: Equal<Modifiers<${contract}>, Modifiers<${published}>> = true;`;
}

function usable(name: string, contract: string, published: string): string {
  return `export const ${name}_published_as_contract = (value: ${published}): ${contract} => value;`;
}

function bothWays(name: string, contract: string, published: string): string {
  return `${usable(name, contract, published)}\nexport const ${name}_contract_as_published = (value: ${contract}): ${published} => value;`;
}

/** The brand of UnknownKind is a symbol of its own in each declaration: the package's stands for both. */
function withPackageBrand(contract: string): string {
  let branded = contract;
  for (const name of ['UnknownKind', 'OtherKind', 'KindField']) {
    const own = new RegExp(`^export (?:interface|type) ${name}\\b.*$`, 'm');
    if (!own.test(branded)) throw new Error(`the contract has no ${name} on a line of its own`);
    branded = branded.replace(own, `import type { ${name} } from './package.js';\nexport type { ${name} };`);
  }
  return branded;
}

function exportsOf(file: string): Exported[] {
  const program = createProgram([file], contractOptions());
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(file);
  const module = source && checker.getSymbolAtLocation(source);
  if (!module) throw new Error(`${file} is no module`);
  return checker
    .getExportsOfModule(module)
    .map((symbol) => describeExport(checker, symbol))
    .filter((found) => found !== undefined);
}

/** `undefined` for what a declaration file exports without saying so. */
function describeExport(checker: ts.TypeChecker, symbol: ts.Symbol): Exported | undefined {
  const aliased = (symbol.flags & ts.SymbolFlags.Alias) !== 0;
  const target = aliased ? checker.getAliasedSymbol(symbol) : symbol;
  const declaration = target.declarations?.[0];
  if (!aliased && declaration && !(ts.getCombinedModifierFlags(declaration) & ts.ModifierFlags.Export))
    return undefined;
  const generic =
    declaration &&
    (ts.isClassDeclaration(declaration) ||
      ts.isInterfaceDeclaration(declaration) ||
      ts.isTypeAliasDeclaration(declaration))
      ? declaration.typeParameters
      : undefined;
  const sort =
    target.flags & ts.SymbolFlags.Class ? 'class' : target.flags & ts.SymbolFlags.Function ? 'function' : 'type';
  return { name: symbol.name, sort, parameters: (generic ?? []).map((parameter) => parameter.name.text) };
}

function contractOptions(): ts.CompilerOptions {
  return compilerOptions(join(root, 'test/house/types/tsconfig.json'));
}
