/* Writes the rules of the state machine, and the effects, into docs/states.md: from the code, and from the comments where each is declared. */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { rules } from '../src/lifecycle/decide/decide.js';
import { isTerminalStatus, taskStatuses } from '../src/task/status.js';
import type { TaskStatus } from '../src/task/types.js';

const pathOf = (file: string) => fileURLToPath(new URL(`../${file}`, import.meta.url));
const page = pathOf('docs/states.md');

/** The comment of each declaration in a file that has one, by name. */
function commentsOf(file: string): ReadonlyMap<string, string> {
  const source = ts.createSourceFile(file, readFileSync(pathOf(file), 'utf8'), ts.ScriptTarget.Latest, true);
  const found = new Map<string, string>();
  const visit = (node: ts.Node): void => {
    const isNamed = ts.isPropertySignature(node) || ts.isVariableDeclaration(node);
    const comment = isNamed && ts.getJSDocCommentsAndTags(node).find(ts.isJSDoc)?.comment;
    if (comment) found.set(node.name.getText(source), ts.getTextOfJSDocComment(comment) ?? '');
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

const sets: readonly (readonly [string, readonly TaskStatus[]])[] = [
  ['any', taskStatuses],
  ['any active', taskStatuses.filter((status) => !isTerminalStatus(status))],
  ['any terminal', taskStatuses.filter(isTerminalStatus)],
];

function statusesText(statuses: readonly TaskStatus[] = []): string {
  const [name] = sets.find(([, members]) => String(members) === String(statuses)) ?? [];
  return name ?? codes(statuses);
}

const codes = (names: readonly string[]) => names.map((name) => `\`${name}\``).join(', ');

function rulesTable(): string {
  const comments = commentsOf('src/lifecycle/decide/finding.ts');
  const rows = Object.entries(rules).map(([name, { from, to, events, effects }]) => {
    // What follows is about the fields of the finding.
    const [meaning = ''] = (comments.get(name) ?? '').replace(/\s+/g, ' ').split(/(?<=\.) (?=`)/);
    const cells = [`\`${name}\``, meaning, statusesText(from), statusesText(to), codes(events), codes(effects)];
    return `| ${cells.join(' | ')} |`;
  });
  return ['| finding | | from | to | events | effects |', '| --- | --- | --- | --- | --- | --- |', ...rows].join('\n');
}

function effectsList(): string {
  return commentsOf('src/lifecycle/decide/decide.ts').get('effects') ?? '';
}

/** The page with what stands between its markers as the code says it today. */
export function withRules(text: string): string {
  return [
    ['rules', rulesTable()],
    ['effects', effectsList()],
  ].reduce((result, [name, content]) => {
    const marked = new RegExp(`(<!-- ${name}: npm run docs -->\n)[\\s\\S]*?(\n<!-- end -->)`);
    if (!marked.test(result)) throw new Error(`docs/states.md has no place for the ${name}`);
    return result.replace(marked, (_, open: string, close: string) => `${open}\n${content}\n${close}`);
  }, text);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(page, withRules(readFileSync(page, 'utf8')));
