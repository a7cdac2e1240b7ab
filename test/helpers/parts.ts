// The parts beside the core: which there may be, and what package.json has to say about those that exist.
import { existsSync, readdirSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { root } from './house.js';

/** A folder `src/<name>/` whose `index.ts` is the entry `holdfast/<name>`. It is tested in `test/<name>/`. */
interface Part {
  /** Other parts whose entries it may import. */
  readonly uses?: readonly string[];
  /** Packages that a host installs in order to use it: optional peers in package.json. */
  readonly peers?: readonly string[];
}

export const parts: Readonly<Record<string, Part>> = {
  webhook: {},
  terminal: {},
  server: {},
  client: { uses: ['server'] },
  agents: { uses: ['client'] },
  mcp: { uses: ['agents', 'client'] },
  cli: { uses: ['client', 'mcp', 'server'] },
  fleet: {},
  otel: {},
  testing: {},
};

export interface Manifest {
  readonly exports: Readonly<Record<string, unknown>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
}

/** The folders of src that tsup makes entries of, as tsup.config.ts finds them. */
export function existingParts(): string[] {
  return readdirSync(join(root, 'src')).filter((name) => existsSync(join(root, 'src', name, 'index.ts')));
}

/** What `exports` holds for an entry of tsup's. */
export function exportOf(entry: string): object {
  const condition = (module: string, types: string) => ({
    types: `./dist/${entry}.${types}`,
    default: `./dist/${entry}.${module}`,
  });
  return { import: condition('js', 'd.ts'), require: condition('cjs', 'd.cts') };
}

/** The package that an import specifier names; `undefined`: a file of src, or a module of Node. */
export function packageOf(specifier: string): string | undefined {
  if (/^(\.|src\/)/.test(specifier) || isBuiltin(specifier)) return undefined;
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

/** What is wrong with a part that exists. `imports`: all that its files import; `bundled`: the packages that are built into the entries. */
export function findPartProblems(
  name: string,
  imports: readonly string[],
  manifest: Manifest,
  bundled: readonly string[],
  part: Part | undefined = parts[name],
): string[] {
  if (!part) return [`src/${name}/index.ts: "${name}" is no part (see test/helpers/parts.ts)`];
  const { dependencies, devDependencies, peerDependencies = {}, peerDependenciesMeta = {} } = manifest;
  const { peers = [] } = part;
  const mayImport = [...Object.keys(dependencies), ...peers, ...bundled.filter((one) => devDependencies[one])];
  const packages = new Set(imports.map(packageOf).filter((one) => one !== undefined));
  return [
    ...(isDeepStrictEqual(manifest.exports[`./${name}`], exportOf(name))
      ? []
      : [`package.json: exports has no "./${name}", or another than ${JSON.stringify(exportOf(name))}`]),
    ...peers
      .filter((peer) => !peerDependencies[peer] || peerDependenciesMeta[peer]?.optional !== true)
      .map((peer) => `package.json: "${peer}" is no optional peer, and holdfast/${name} needs it`),
    ...[...packages]
      .filter((one) => !mayImport.includes(one))
      .map((one) => `src/${name} imports "${one}", which is no dependency, no peer of it, and not built in`),
  ];
}
