// Every exported name is documented where it is declared, and so is every method, option and field of a spec.
import { join, relative } from 'node:path';
import ts from 'typescript';
import { beforeAll, describe, expect, it } from 'vitest';
import { compilerOptions, createProgram, exportsOf, root } from '../helpers/house.js';

/** Types whose members a host writes or calls: each of them has a unit, a range or a default to tell. */
const spelledOut = new Set([
  'BackgroundTaskManager',
  'BackgroundTaskError',
  'CloseOptions',
  'Delivery',
  'FunctionSpec',
  'HookOptions',
  'KindBase',
  'LegacyShape',
  'OpenOptions',
  'ProcessSpec',
  'PruneOptions',
  'RunContext',
  'Slot',
  'SpecBase',
  'StartContext',
  'StopOptions',
  'TaskFilter',
  'WaitOptions',
  'WebhookOptions',
]);

let program: ts.Program;
let checker: ts.TypeChecker;

beforeAll(() => {
  program = createProgram(entries, compilerOptions(join(root, 'tsconfig.json')));
  checker = program.getTypeChecker();
});

const entries = [join(root, 'src/index.ts'), join(root, 'src/webhook/index.ts')];

const exported = (): ts.Symbol[] => entries.flatMap((file) => [...exportsOf(program, file).values()]);

function isDocumented(symbol: ts.Symbol): boolean {
  return ts.displayPartsToString(symbol.getDocumentationComment(checker)).trim().length > 0;
}

function where(node: ts.Node): string {
  const source = node.getSourceFile();
  return `${relative(root, source.fileName)}:${source.getLineAndCharacterOfPosition(node.getStart()).line + 1}`;
}

/** A member that nobody has to be told about: private, internal, a constructor, or the `kind` that picks the spec. */
function isExempt(member: ts.Declaration): boolean {
  const name = ts.getNameOfDeclaration(member);
  if (!name || ts.isPrivateIdentifier(name) || ts.isConstructorDeclaration(member)) return true;
  if (ts.getCombinedModifierFlags(member) & ts.ModifierFlags.Private) return true;
  if (ts.getJSDocTags(member).some((tag) => tag.tagName.text === 'internal')) return true;
  return (
    name.getText() === 'kind' && ts.isPropertySignature(member) && !!member.type && ts.isLiteralTypeNode(member.type)
  );
}

/** The declared members of a class, an interface or an object type, and of the object types inside it. */
function membersBelow(node: ts.Node): ts.Declaration[] {
  if (ts.isClassDeclaration(node)) return [...node.members];
  if (ts.isInterfaceDeclaration(node) || ts.isTypeLiteralNode(node)) {
    return node.members.flatMap((member) => [member, ...(ts.isPropertySignature(member) ? nested(member) : [])]);
  }
  return ts.isTypeAliasDeclaration(node) ? nested(node) : [];
}

function nested(node: ts.PropertySignature | ts.TypeAliasDeclaration): ts.Declaration[] {
  const found: ts.Declaration[] = [];
  const visit = (type: ts.Node): void => {
    if (ts.isTypeLiteralNode(type))
      found.push(...membersBelow(type).filter((member) => !ts.isIndexSignatureDeclaration(member)));
    else if (ts.isUnionTypeNode(type) || ts.isIntersectionTypeNode(type) || ts.isParenthesizedTypeNode(type))
      ts.forEachChild(type, visit);
  };
  if (node.type) visit(node.type);
  return found;
}

function undocumentedMembers(symbol: ts.Symbol): string[] {
  const members = (symbol.declarations ?? []).flatMap(membersBelow).filter((member) => !isExempt(member));
  // Of several overloads one comment is enough.
  const overloads = new Map<string, ts.Declaration[]>();
  for (const member of members) {
    const name = ts.getNameOfDeclaration(member)?.getText() ?? '';
    overloads.set(name, [...(overloads.get(name) ?? []), member]);
  }
  return [...overloads].flatMap(([name, declarations]) => {
    if (declarations.some((one) => ts.getJSDocCommentsAndTags(one).length > 0)) return [];
    return [`${symbol.name}.${name} (${declarations.map(where).join(', ')})`];
  });
}

describe('documentation', () => {
  it('is there for every exported name', () => {
    const bare = exported().filter((symbol) => !isDocumented(symbol));
    expect(bare.map((symbol) => `${symbol.name} (${(symbol.declarations ?? []).map(where).join(', ')})`)).toEqual([]);
  });

  it('is there for every method, option and field of a spec', () => {
    const symbols = exported().filter((symbol) => spelledOut.has(symbol.name));
    expect(symbols.map((symbol) => symbol.name).sort()).toEqual([...spelledOut].sort());
    expect(symbols.flatMap(undocumentedMembers)).toEqual([]);
  });
});
