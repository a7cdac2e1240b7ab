// How the objects of src are put together, read from the sources: what refers to a part before it exists, and what is filled in later.
import { relative } from 'node:path';
import ts from 'typescript';
import { root } from '../../scripts/source.js';

/** Part of making an object, in the order in which the parts run: an initializer of a field, or a statement of the constructor. */
type Step = ts.PropertyDeclaration | ts.Statement;

/**
 * Every reference to something that is made later: in a constructor, to a field that a later step fills (also from a closure, through a method,
 * or by handing out `this`); in a constructor or one of these functions, from a closure to a variable that is declared later.
 */
export function findPremature(program: ts.Program, files: readonly string[], functions: readonly string[]): string[] {
  const checker = program.getTypeChecker();
  return sourcesOf(program, files).flatMap((source) =>
    descendants(source).flatMap((node) => {
      if (ts.isClassLike(node)) return new Making(node, checker).premature();
      const isListed = ts.isFunctionDeclaration(node) && functions.includes(node.name?.text ?? '') && node.body;
      return isListed ? prematureVariables(node.body.statements, checker) : [];
    }),
  );
}

/** How one class makes its objects. */
class Making {
  readonly #class: ts.ClassLikeDeclaration;
  readonly #checker: ts.TypeChecker;
  readonly #steps: readonly Step[];
  /** By the name of each field: the step that fills it. One that no step fills begins as `undefined`. */
  readonly #filledBy = new Map<string, number>();

  constructor(node: ts.ClassLikeDeclaration, checker: ts.TypeChecker) {
    this.#class = node;
    this.#checker = checker;
    const maker = node.members.find((member) => ts.isConstructorDeclaration(member) && member.body);
    const body = maker && ts.isConstructorDeclaration(maker) ? maker.body?.statements : undefined;
    const fields = node.members.filter((member) => ts.isPropertyDeclaration(member) && isFilled(member));
    this.#steps = [...(fields as ts.PropertyDeclaration[]), ...(body ?? [])];
    for (const [index, step] of this.#steps.entries()) {
      if (ts.isPropertyDeclaration(step)) this.#filledBy.set(step.name.getText(), index);
      else for (const name of filledIn(step)) this.#filledBy.set(name, index);
    }
  }

  premature(): string[] {
    const found = this.#steps.flatMap((step, index) =>
      thisUses(ts.isPropertyDeclaration(step) ? step.initializer! : step).flatMap(({ node, name }) => {
        const later = [...this.#fieldsBehind(name)].filter((field) => (this.#filledBy.get(field) ?? -1) >= index);
        return later.map((field) => `${where(node)}: ${this.#name}${through(name, field)} before ${field} is there`);
      }),
    );
    const statements = this.#steps.filter((step) => !ts.isPropertyDeclaration(step)) as ts.Statement[];
    return [...new Set([...found, ...prematureVariables(statements, this.#checker)])];
  }

  get #name(): string {
    return this.#class.name?.text ?? 'a class';
  }

  /** The fields that may be read through this name: itself, what a method of the class reads, or all for `this`. */
  #fieldsBehind(name: string | undefined, seen = new Set<string>()): ReadonlySet<string> {
    if (name === undefined) return new Set(this.#filledBy.keys());
    if (seen.has(name)) return new Set();
    seen.add(name);
    const members = this.#class.members.filter((member) => member.name?.getText() === name && !isStatic(member));
    const bodies = members.flatMap((member) => (isMethod(member) ? [bodyOf(member)] : []));
    if (bodies.length === 0) return new Set([name]);
    const used = bodies.flatMap((body) => thisUses(body).filter((use) => use.name !== undefined));
    return new Set(used.flatMap((use) => [...this.#fieldsBehind(use.name, seen)]));
  }
}

function through(name: string | undefined, field: string): string {
  if (name === undefined) return ' hands out `this`';
  return name === field ? ' refers to it' : ` refers to ${name}`;
}

/** A method, also one whose runs are shared: making that calls nothing. */
function isMethod(member: ts.ClassElement): boolean {
  if (ts.isMethodDeclaration(member) || ts.isGetAccessor(member)) return member.body !== undefined;
  const { initializer } = member as ts.PropertyDeclaration;
  return (
    initializer !== undefined && ts.isCallExpression(initializer) && initializer.expression.getText() === 'shareRuns'
  );
}

function bodyOf(member: ts.ClassElement): ts.Node {
  return (member as ts.MethodDeclaration).body ?? (member as ts.PropertyDeclaration).initializer!;
}

function isFilled(member: ts.PropertyDeclaration): boolean {
  return member.initializer !== undefined && !isStatic(member) && !isMethod(member);
}

/** The fields that a statement of a constructor fills when it runs; the function that makes a promise runs at once. */
function filledIn(statement: ts.Statement): string[] {
  const visit = (node: ts.Node): string[] => {
    if (ts.isFunctionLike(node) && !isExecutor(node)) return [];
    const filled = isAssignment(node) && isOfThis(node.left) ? [node.left.name.getText()] : [];
    return [...filled, ...childrenOf(node).flatMap(visit)];
  };
  return visit(statement);
}

function isExecutor(node: ts.Node): boolean {
  const { parent } = node;
  return ts.isNewExpression(parent) && parent.expression.getText() === 'Promise';
}

/** Each use of this object: of the member of this name, or as a whole. What is only assigned is not used. */
function thisUses(node: ts.Node): { node: ts.Node; name: string | undefined }[] {
  if (ts.isFunctionDeclaration(node) || ts.isFunctionExpression(node) || ts.isClassLike(node)) return [];
  if (node.kind !== ts.SyntaxKind.ThisKeyword) return childrenOf(node).flatMap(thisUses);
  const { parent } = node;
  if (isOfThis(parent)) {
    const isTarget = isAssignment(parent.parent) && parent.parent.left === parent;
    return isTarget && parent.parent.operatorToken.kind === ts.SyntaxKind.EqualsToken
      ? []
      : [{ node, name: parent.name.getText() }];
  }
  if (ts.isVariableDeclaration(parent) && ts.isObjectBindingPattern(parent.name)) {
    return parent.name.elements.map((one) => ({ node, name: (one.propertyName ?? one.name).getText() }));
  }
  return [{ node, name: undefined }];
}

/** References from a closure to a variable of the same function that is declared after the statement with the closure. */
function prematureVariables(statements: readonly ts.Statement[], checker: ts.TypeChecker): string[] {
  return statements.flatMap((statement) =>
    descendants(statement).flatMap((node) => {
      if (!ts.isIdentifier(node)) return [];
      const declaration = checker.getSymbolAtLocation(node)?.valueDeclaration;
      if (!declaration || !ts.isVariableDeclaration(declaration)) return [];
      const isLater = statements.some((other) => other.pos > statement.pos && other === statementOf(declaration));
      return isLater ? [`${where(node)}: ${node.text} is used before it is declared`] : [];
    }),
  );
}

function statementOf(declaration: ts.VariableDeclaration): ts.Node {
  return declaration.parent.parent;
}

/**
 * Every collaborator that an object is given after it was made: a method keeps a parameter in a field, or other code writes into a field of it.
 * A collaborator is a function, or an object of src that has methods. As `Class.field in place`.
 */
export function findLateParts(program: ts.Program, files: readonly string[]): string[] {
  const checker = program.getTypeChecker();
  const found = sourcesOf(program, files).flatMap((source) =>
    descendants(source).flatMap((node) => {
      if (!isAssignment(node) || !ts.isPropertyAccessExpression(node.left)) return [];
      const owner = checker.getSymbolAtLocation(node.left.name)?.valueDeclaration?.parent;
      if (
        !owner ||
        !(ts.isClassLike(owner) || ts.isInterfaceDeclaration(owner)) ||
        !isCollaborator(checker.getTypeAtLocation(node.right), checker)
      )
        return [];
      const place = enclosing(node);
      if (!place || ts.isConstructorDeclaration(place)) return [];
      if (isOfThis(node.left) && !isParameter(node.right, checker)) return [];
      return [`${owner.name?.text}.${node.left.name.text} in ${place.name?.getText()}`];
    }),
  );
  return [...new Set(found)].sort();
}

function isParameter(value: ts.Expression, checker: ts.TypeChecker): boolean {
  let declaration: ts.Node | undefined = ts.isIdentifier(value)
    ? checker.getSymbolAtLocation(value)?.valueDeclaration
    : undefined;
  while (declaration && ts.isBindingElement(declaration)) declaration = declaration.parent.parent;
  return declaration !== undefined && ts.isParameter(declaration);
}

function isCollaborator(type: ts.Type, checker: ts.TypeChecker): boolean {
  if (type.isUnion()) return type.types.some((one) => isCollaborator(one, checker));
  if (type.getCallSignatures().length > 0) return true;
  // An error is told, not called.
  if (type.getProperty('stack')) return false;
  const isOurs = type.symbol?.declarations?.some((one) => !one.getSourceFile().fileName.includes('/node_modules/'));
  if (!isOurs) return false;
  return type.getProperties().some((property) => checker.getTypeOfSymbol(property).getCallSignatures().length > 0);
}

/** The method, accessor, constructor or function that a node stands in, whatever closures are between. */
function enclosing(node: ts.Node): ts.FunctionLikeDeclaration | undefined {
  return ts.findAncestor(node, (one): one is ts.FunctionLikeDeclaration =>
    ts.isClassElement(one) ? ts.isFunctionLike(one) : ts.isFunctionDeclaration(one),
  );
}

/**
 * Every collection that lasts and is looked up by text or by a task: fields of classes and variables of modules, also inside of an object
 * literal. As `file: Class.field`.
 */
export function findKeyed(program: ts.Program, files: readonly string[]): string[] {
  const checker = program.getTypeChecker();
  return sourcesOf(program, files).flatMap((source) =>
    descendants(source).flatMap((node) => {
      const isField = ts.isPropertyDeclaration(node);
      const isGlobal = ts.isVariableDeclaration(node) && ts.isSourceFile(node.parent.parent.parent);
      if (!isField && !isGlobal) return [];
      if (!isKeyed(checker.getTypeAtLocation(node), checker)) return [];
      const owner = isField ? `${(node.parent as ts.ClassLikeDeclaration).name?.text}.` : '';
      return [`${relative(root, source.fileName)}: ${owner}${node.name.getText()}`];
    }),
  );
}

const collections = ['Map', 'ReadonlyMap', 'WeakMap', 'Set', 'ReadonlySet', 'WeakSet'];

function isKeyed(type: ts.Type, checker: ts.TypeChecker): boolean {
  if (type.isUnion()) return type.types.some((one) => isKeyed(one, checker));
  const name = type.symbol?.name;
  if (name && collections.includes(name)) {
    const [key] = checker.getTypeArguments(type as ts.TypeReference);
    return key !== undefined && ((key.flags & ts.TypeFlags.String) !== 0 || isTask(key, checker));
  }
  const isLiteral = (type.symbol?.flags ?? 0) & ts.SymbolFlags.ObjectLiteral;
  return Boolean(isLiteral) && type.getProperties().some((one) => isKeyed(checker.getTypeOfSymbol(one), checker));
}

/** A task, its record, a promise or a view of one: whatever has a `taskId`. */
function isTask(type: ts.Type, checker: ts.TypeChecker): boolean {
  const bound = type.isTypeParameter() ? (checker.getBaseConstraintOfType(type) ?? type) : type;
  return bound.isUnion() ? bound.types.some((one) => isTask(one, checker)) : bound.getProperty('taskId') !== undefined;
}

/** Every function that is longer than this many lines, its signature counted and its comment not, as `file:line name (lines)`. */
export function findLongFunctions(source: ts.SourceFile, limit: number): string[] {
  return descendants(source).flatMap((node) => {
    if (!ts.isFunctionLike(node) || !('body' in node) || !node.body) return [];
    const line = (position: number) => source.getLineAndCharacterOfPosition(position).line;
    const lines = line(node.getEnd()) - line(node.getStart(source)) + 1;
    return lines > limit
      ? [`${where(node, source)} ${node.name?.getText(source) ?? 'a closure'} (${lines} lines)`]
      : [];
  });
}

function sourcesOf(program: ts.Program, files: readonly string[]): ts.SourceFile[] {
  return files.map((file) => {
    const source = program.getSourceFile(file);
    if (!source) throw new Error(`${file} is not part of the program`);
    return source;
  });
}

function childrenOf(node: ts.Node): ts.Node[] {
  const children: ts.Node[] = [];
  ts.forEachChild(node, (child) => void children.push(child));
  return children;
}

function descendants(node: ts.Node): ts.Node[] {
  const found: ts.Node[] = [];
  const visit = (one: ts.Node): void => {
    found.push(one);
    ts.forEachChild(one, visit);
  };
  visit(node);
  return found;
}

function isStatic(member: ts.ClassElement): boolean {
  return (ts.getCombinedModifierFlags(member) & ts.ModifierFlags.Static) !== 0;
}

function isOfThis(node: ts.Node): node is ts.PropertyAccessExpression {
  return ts.isPropertyAccessExpression(node) && node.expression.kind === ts.SyntaxKind.ThisKeyword;
}

function isAssignment(node: ts.Node): node is ts.BinaryExpression {
  if (!ts.isBinaryExpression(node)) return false;
  const { kind } = node.operatorToken;
  return kind >= ts.SyntaxKind.FirstAssignment && kind <= ts.SyntaxKind.LastAssignment;
}

function where(node: ts.Node, source = node.getSourceFile()): string {
  const { line } = source.getLineAndCharacterOfPosition(node.getStart(source));
  return `${relative(root, source.fileName)}:${line + 1}`;
}
