// The sources as scripts and tests read them: which files there are, where each belongs, and what it imports.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Every file below a folder of the repository whose name ends so, as paths relative to the root, sorted. */
export function filesBelow(folder: string, ending: string): string[] {
  const start = join(root, folder);
  if (!existsSync(start)) return [];
  return readdirSync(start, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending) && statSync(join(start, name)).isFile())
    .map((name) => relative(root, join(start, name)))
    .sort();
}

/** Each file with the files and packages that it imports, type imports included. */
export type ImportGraph = ReadonlyMap<string, readonly string[]>;

/**
 * The core, bottom first. A layer may import layers that stand before it, and itself. `errors.ts` and `clock.ts` may be imported by all;
 * for its types `errors.ts` may look into `task`, where the rule against cycles between files keeps it honest.
 */
export const layers: readonly (readonly string[])[] = [
  ['clock.ts', 'errors.ts', 'task'],
  ['util'],
  ['legacy', 'output'],
  ['store'],
  ['hooks', 'process'],
  ['events.ts', 'options.ts'],
  ['lifecycle'],
  ['judge.ts'],
  ['notifications.ts'],
  ['queries.ts'],
  ['manager.ts', 'records.ts'],
  ['index.ts', 'internal.ts'],
];

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
