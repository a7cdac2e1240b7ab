// The import graph of src and the rules it keeps.
import { readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import ts from 'typescript';
import { root } from './house.js';

/** Each file with the files and packages that it imports, type imports included. */
export type ImportGraph = ReadonlyMap<string, readonly string[]>;

/**
 * Bottom first. A part may import parts that stand before it, and itself. `errors.ts` and `clock.ts` may be imported by all; for its
 * types `errors.ts` may look into `task`, where the rule against cycles between files keeps it honest.
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
  ['manager.ts', 'records.ts'],
  ['index.ts'],
];

/** Stricter than the order alone. */
const only: Readonly<Record<string, readonly string[]>> = {
  'clock.ts': [],
  'errors.ts': ['task'],
  task: ['task', 'errors.ts'],
  util: ['util', 'clock.ts', 'errors.ts'],
  legacy: ['legacy', 'task', 'errors.ts'],
};

/** The part of a file: its folder in src, or its own name at the top of src. */
export function partOf(file: string): string {
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

/** Every import that goes the wrong way, and every part that has no place yet. */
export function findViolations(graph: ImportGraph): string[] {
  const rank = new Map(layers.flatMap((parts, index) => parts.map((part) => [part, index] as const)));
  return [...graph].flatMap(([file, imports]) => {
    const part = partOf(file);
    const own = rank.get(part);
    if (own === undefined) return [`${file}: "${part}" has no place in the layers of test/helpers/imports.ts`];
    return imports
      .filter((target) => graph.has(target) && !allowed(part, own, partOf(target), rank))
      .map((target) => `${file} must not import ${target}`);
  });
}

function allowed(part: string, own: number, target: string, rank: ReadonlyMap<string, number>): boolean {
  if (target === part) return true;
  const listed = only[part];
  if (listed) return listed.includes(target);
  return (rank.get(target) ?? Number.POSITIVE_INFINITY) < own;
}
