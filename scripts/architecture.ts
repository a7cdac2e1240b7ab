// Draws the parts of src and their imports: docs/architecture.svg, and the table in ARCHITECTURE.md. Run by `npm run docs`.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { filesBelow, type ImportGraph, importsOf, layers, placeOf, root } from './source.js';

/** What each file at the top of src, and each folder, is for. Parts beside the core are there once they exist. */
const purposes: Readonly<Record<string, string>> = {
  'clock.ts': 'the wall clock, the monotonic clock and timers that hold nothing',
  'errors.ts': 'error codes, and the one class of our errors',
  task: 'the record, its schema and migrations; statuses and verdicts; kinds, specs, events as types. No I/O',
  util: 'limits, time slices, shared runs, small files, system errors',
  legacy: "other systems' records, read into ours",
  output: 'output files: appending, windows, following',
  store: 'records on disk, ownership of a directory, files of supervisors; the paths of all of them',
  hooks: 'the outbox: deliveries that are owed, their attempts and their ends',
  process: 'the kind `process`: supervisors, process trees, output limits',
  'events.ts': 'the event hub',
  'options.ts': 'the options of `open`, checked',
  lifecycle: 'tasks, from registration to retention, and the parts of a manager',
  'judge.ts': 'how a process ended, for `readTasks`, which owns nothing',
  'notifications.ts': 'the calls of a manager about events and hooks',
  'queries.ts': 'the calls of a manager that are answered from memory',
  'manager.ts': 'the public class: checks options, calls the parts',
  'records.ts': '`readTasks`, `readTask`, `readTaskOutput` and `importTasks`: a directory without a manager',
  'index.ts': 'what the package exports',
  'internal.ts': 'what parts beside the core may use, and hosts may not',
  webhook: 'hooks that post to an address',
};

const graph: ImportGraph = new Map(filesBelow('src', '.ts').map((file) => [file, importsOf(file)]));
const places = [...new Set([...graph.keys()].map(placeOf))];
/** Top first: what imports stands above what it imports. */
const rows: readonly (readonly string[])[] = [
  places.filter((place) => !layers.flat().includes(place)),
  ...[...layers].reverse(),
].map((row) => row.filter((place) => places.includes(place)));

function filesOf(place: string): string[] {
  return [...graph.keys()].filter((file) => placeOf(file) === place);
}

/** The places that files of this one import. */
function importedBy(place: string): string[] {
  const targets = filesOf(place).flatMap((file) => graph.get(file) ?? []);
  const others = new Set(targets.filter((target) => graph.has(target)).map(placeOf));
  return [...rows].reverse().flatMap((row) => row.filter((other) => other !== place && others.has(other)));
}

/** In hundreds, so that the picture changes when a part does, and not with every line. */
function sizeOf(place: string): string {
  const files = filesOf(place);
  const lines = files.reduce((sum, file) => sum + readFileSync(join(root, file), 'utf8').split('\n').length - 1, 0);
  const rounded = lines < 100 ? 'under 100 lines' : `${(Math.round(lines / 100) * 100).toLocaleString('en')} lines`;
  return files.length === 1 ? rounded : `${files.length} files, ${rounded}`;
}

/** The imports that do not follow from others: what `a` imports through `b` needs no arrow of its own. */
export function arrows(imports: ReadonlyMap<string, readonly string[]>): Arrow[] {
  const reaches = (from: string, to: string, seen = new Set([from])): boolean =>
    (imports.get(from) ?? []).some((next) => {
      if (next === to) return true;
      if (seen.has(next)) return false;
      seen.add(next);
      return reaches(next, to, seen);
    });
  return [...imports].flatMap(([from, targets]) => {
    // Of two that import each other's types neither stands for the other.
    const follows = (to: string) => targets.some((via) => via !== to && reaches(via, to) && !reaches(to, via));
    return targets.filter((to) => !follows(to)).map((to) => ({ from, to }));
  });
}

const BOX = { width: 196, height: 46, gap: 34, rowGap: 42 };
const IN_A_ROW = 4;
/** Between an arrow and what it passes. */
const CLEARANCE = 10;
const MARGIN = 24;
const WIDTH = MARGIN * 2 + IN_A_ROW * BOX.width + (IN_A_ROW - 1) * BOX.gap;

interface Arrow {
  readonly from: string;
  readonly to: string;
}

interface Box {
  readonly x: number;
  readonly y: number;
}

function layOut(): Map<string, Box> {
  const boxes = new Map<string, Box>();
  const lines = rows.flatMap((row) =>
    Array.from({ length: Math.ceil(row.length / IN_A_ROW) }, (_, i) => row.slice(i * IN_A_ROW, (i + 1) * IN_A_ROW)),
  );
  for (const [index, line] of lines.entries()) {
    const width = line.length * BOX.width + (line.length - 1) * BOX.gap;
    for (const [column, place] of line.entries()) {
      const x = (WIDTH - width) / 2 + column * (BOX.width + BOX.gap);
      boxes.set(place, { x, y: MARGIN + index * (BOX.height + BOX.rowGap) });
    }
  }
  return boxes;
}

const style = `
  :root { --ink: #1f2328; --faint: #59636e; --line: #818b98; --box: #f6f8fa; --edge: #d1d9e0; }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #f0f6fc; --faint: #9198a1; --line: #818b98; --box: #151b23; --edge: #3d444d; }
  }
  text { font: 600 14px system-ui, sans-serif; fill: var(--ink); text-anchor: middle; }
  .size { font-weight: 400; font-size: 12px; fill: var(--faint); }
  rect { fill: var(--box); stroke: var(--edge); }
  path { fill: none; stroke: var(--line); }
  marker path { fill: var(--line); stroke: none; }`;

/** The picture. */
export function draw(): string {
  const boxes = layOut();
  const height = Math.max(...[...boxes.values()].map(({ y }) => y)) + BOX.height + MARGIN;
  const imports = new Map(places.map((place) => [place, importedBy(place)]));
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img">
<title>The parts of holdfast: each imports only what stands below it</title>
<style>${style}
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>
${drawArrows(arrows(imports), boxes).join('\n')}
${[...boxes].map(([place, box]) => drawBox(place, box)).join('\n')}
</svg>
`;
}

function drawBox(place: string, { x, y }: Box): string {
  const middle = x + BOX.width / 2;
  const name = place.endsWith('.ts') ? place : `${place}/`;
  return `<rect x="${x}" y="${y}" width="${BOX.width}" height="${BOX.height}" rx="6"/>
<text x="${middle}" y="${y + 19}">${name}</text>
<text class="size" x="${middle}" y="${y + 36}">${sizeOf(place)}</text>`;
}

/** Arrows leave at the lower edge and arrive at the upper one, side by side in the order of their other ends. */
function drawArrows(all: readonly Arrow[], boxes: ReadonlyMap<string, Box>): string[] {
  const box = (place: string): Box => boxes.get(place)!;
  const level = ({ from, to }: Arrow) => box(from).y === box(to).y;
  const port = (place: string, ends: readonly string[], end: string): number => {
    const sorted = [...ends].sort((a, b) => box(a).x - box(b).x || box(a).y - box(b).y);
    return Math.round(box(place).x + (BOX.width * (sorted.indexOf(end) + 1)) / (ends.length + 1));
  };
  const lanes: Lane[] = [];
  return all.map((arrow) => {
    const { from, to } = arrow;
    if (level(arrow)) return beside(box(from), box(to));
    const down = all.filter((other) => other.from === from && !level(other)).map((other) => other.to);
    const up = all.filter((other) => other.to === to && !level(other)).map((other) => other.from);
    const start = { x: port(from, down, to), y: box(from).y + BOX.height };
    const end = { x: port(to, up, from), y: box(to).y };
    return `<path d="M${start.x} ${start.y}${way(start, end, [...boxes.values()], lanes)}" marker-end="url(#tip)"/>`;
  });
}

/** Where an arrow passes rows that it has no end in. */
interface Lane {
  readonly x: number;
  readonly top: number;
  readonly bottom: number;
}

function way(start: Box, end: Box, boxes: readonly Box[], lanes: Lane[]): string {
  const passed = boxes.filter(({ y }) => y > start.y && y + BOX.height < end.y);
  if (passed.length === 0) return curve(start, end);
  const top = Math.min(...passed.map(({ y }) => y));
  const bottom = Math.max(...passed.map(({ y }) => y)) + BOX.height;
  const isFree = (x: number) =>
    x > 0 &&
    x < WIDTH &&
    passed.every((box) => x < box.x - CLEARANCE || x > box.x + BOX.width + CLEARANCE) &&
    lanes.every((lane) => lane.bottom < top || lane.top > bottom || Math.abs(lane.x - x) >= CLEARANCE);
  const detour = (x: number) => Math.abs(x - start.x) + Math.abs(x - end.x);
  const choices = Array.from({ length: WIDTH }, (_, x) => x).filter(isFree);
  const x = choices.sort((a, b) => detour(a) - detour(b) || a - b)[0] ?? start.x;
  lanes.push({ x, top, bottom });
  return `${curve(start, { x, y: top })}V${bottom}${curve({ x, y: bottom }, end)}`;
}

function curve(start: Box, end: Box): string {
  const bend = (end.y - start.y) / 2;
  return `C${start.x} ${start.y + bend} ${end.x} ${end.y - bend} ${end.x} ${end.y}`;
}

function beside(start: Box, end: Box): string {
  const y = start.y + BOX.height / 2;
  const [x1, x2] = start.x < end.x ? [start.x + BOX.width, end.x] : [start.x, end.x + BOX.width];
  return `<path d="M${x1} ${y}H${x2}" marker-end="url(#tip)"/>`;
}

const markers = ['<!-- parts: written by npm run docs -->', '<!-- /parts -->'] as const;

/** The same as a table, with all imports. */
export function withTable(document: string): string {
  const [before, rest] = document.split(markers[0]);
  const after = rest?.split(markers[1])[1];
  if (after === undefined) throw new Error(`ARCHITECTURE.md: expected ${markers.join(' and ')}`);
  const lines = rows.flat().map((place) => {
    const purpose = purposes[place];
    if (!purpose) throw new Error(`scripts/architecture.ts: expected to be told what "${place}" is for`);
    const imports = importedBy(place).map((other) => `\`${other}\``);
    return `| \`${place}\` | ${purpose} | ${sizeOf(place)} | ${imports.join(', ') || 'nothing'} |`;
  });
  const table = ['| in `src` | what it is for | size | imports |', '| --- | --- | --- | --- |', ...lines].join('\n');
  return `${before}${markers[0]}\n${table}\n${markers[1]}${after}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const document = join(root, 'ARCHITECTURE.md');
  writeFileSync(document, withTable(readFileSync(document, 'utf8')));
  writeFileSync(join(root, 'docs/architecture.svg'), draw());
}
