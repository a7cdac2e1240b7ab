// The import graph of src and the rules it keeps.
import { readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import ts from 'typescript';
import { root } from './house.js';
import { parts } from './parts.js';

/** Each file with the files and packages that it imports, type imports included. */
export type ImportGraph = ReadonlyMap<string, readonly string[]>;

/**
 * The core, bottom first. A layer may import layers that stand before it, and itself. `errors.ts` and `clock.ts` may be imported by all;
 * for its types `errors.ts` may look into `task`, where the rule against cycles between files keeps it honest.
 */
const layers: readonly (readonly string[])[] = [
  ['clock.ts', 'errors.ts', 'task'],
  ['util'],
  ['legacy', 'output'],
  ['store'],
  ['hooks', 'process'],
  ['events.ts', 'options.ts'],
  ['lifecycle'],
  ['judge.ts'],
  ['notifications.ts'],
  ['manager.ts', 'records.ts'],
  ['index.ts', 'internal.ts'],
];

/** All of the core that a part beside it may import. Nothing of the core may import `internal.ts`. */
const faces = ['src/index.ts', 'src/internal.ts'];

/** Stricter than the order alone. */
const only: Readonly<Record<string, readonly string[]>> = {
  'clock.ts': [],
  'errors.ts': ['task'],
  task: ['task', 'errors.ts'],
  util: ['util', 'clock.ts', 'errors.ts'],
  legacy: ['legacy', 'task', 'errors.ts'],
};

/** Where a file belongs: its folder in src, or its own name at the top of src. */
export function placeOf(file: string): string {
  return relative('src', file).split('/')[0] ?? file;
}

export function importsOf(file: string): string[] {
  const source = ts.createSourceFile(file, readFileSync(join(root, file), 'utf8'), ts.ScriptTarget.Latest, true);
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    const specifier = specifierOf(node);
    if (specifier !== undefined) found.push(specifier);
    ts.forEachChild(node, visit);
  };
  visit(source);
  return [...new Set(found.map((specifier) => resolveFrom(file, specifier)))];
}

function specifierOf(node: ts.Node): string | undefined {
  if (
    (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) &&
    node.moduleSpecifier &&
    ts.isStringLiteral(node.moduleSpecifier)
  ) {
    return node.moduleSpecifier.text;
  }
  if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument) && ts.isStringLiteral(node.argument.literal)) {
    return node.argument.literal.text;
  }
  const [argument] =
    ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword ? node.arguments : [];
  return argument && ts.isStringLiteral(argument) ? argument.text : undefined;
}

function resolveFrom(file: string, specifier: string): string {
  if (!specifier.startsWith('.')) return specifier;
  return normalize(join(dirname(file), specifier)).replace(/\.js$/, '.ts');
}

/** Every cycle once, as `a > b > a`. */
export function findCycles(graph: ImportGraph): string[] {
  const cycles = new Set<string>();
  const finished = new Set<string>();
  const walk = (file: string, path: readonly string[]): void => {
    const at = path.indexOf(file);
    if (at >= 0) {
      cycles.add([...path.slice(at), file].join(' > '));
      return;
    }
    if (finished.has(file)) return;
    for (const next of graph.get(file) ?? []) walk(next, [...path, file]);
    finished.add(file);
  };
  for (const file of graph.keys()) walk(file, []);
  return [...cycles];
}

/** Every import that goes the wrong way, and every file that has no place yet. */
export function findViolations(graph: ImportGraph): string[] {
  return [...graph].flatMap(([file, imports]) => {
    const place = placeOf(file);
    if (!Object.hasOwn(parts, place) && !rank.has(place))
      return [`${file}: "${place}" is neither in the layers of test/helpers/imports.ts nor a part`];
    return imports
      .filter((target) => graph.has(target) && !allowed(place, target))
      .map((target) => `${file} must not import ${target}`);
  });
}

const rank = new Map(layers.flatMap((places, index) => places.map((place) => [place, index] as const)));

function allowed(place: string, target: string): boolean {
  const other = placeOf(target);
  if (other === place) return true;
  const part = parts[place];
  if (part) return faces.includes(target) || (part.uses ?? []).some((used) => target === `src/${used}/index.ts`);
  const listed = only[place];
  if (listed) return listed.includes(other);
  return (rank.get(other) ?? Number.POSITIVE_INFINITY) < (rank.get(place) ?? -1);
}
