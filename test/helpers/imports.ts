// The rules that the import graph of src keeps.
import { type ImportGraph, layers, placeOf } from '../../scripts/source.js';
import { parts } from './parts.js';

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
      return [`${file}: "${place}" is neither in the layers of scripts/source.ts nor a part`];
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
