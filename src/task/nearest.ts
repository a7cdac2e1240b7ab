/* Suggestions for misspelt names. */

/** ` …; did you mean x?`, where one of the known names is near; nothing otherwise. */
export function didYouMean(given: unknown, known: Iterable<string>, quoted = true): string {
  const near = typeof given === 'string' ? nearest(given, known) : undefined;
  return near === undefined ? '' : `; did you mean ${quoted ? JSON.stringify(near) : near}?`;
}

/** The problem with an unknown key, with the nearest known key or, where none is near, all known keys. */
export function unknownKey(key: string, known: readonly string[]): string {
  const meant = didYouMean(key, known, false);
  if (meant) return `is unknown${meant}`;
  return known.length > 0 ? `is unknown; known are ${known.join(', ')}` : 'is unknown';
}

/** The nearest of the known names: spelt almost the same, or one is an abbreviation of the other. */
function nearest(given: string, known: Iterable<string>): string | undefined {
  const word = plain(given);
  let best: { readonly name: string; readonly distance: number } | undefined;
  for (const name of known) {
    const other = plain(name);
    const letters = editDistance(word, other);
    const abbreviates = isShort(word, other);
    if (!abbreviates && !isMisspelt(word, letters)) continue;
    // `cmd` is short for `command`, rather than a misspelt `cwd`.
    const distance = abbreviates ? letters / 100 : letters;
    if (!best || distance < best.distance) best = { name, distance };
  }
  return best?.name;
}

/** Whether a key is a known one with a mistake in it, rather than a key of the host's own. */
export function isMisspelling(key: string, known: readonly string[]): boolean {
  const word = plain(key);
  return known.some((name) => isMisspelt(word, editDistance(word, plain(name))));
}

/** Without case and separators: `timeout_ms` equals `timeoutMs`. */
function plain(name: string): string {
  return name
    .slice(0, 64)
    .toLowerCase()
    .replace(/[^a-z0-9]/g, '');
}

/** At most one wrong letter in three, and one in a shorter word. */
function isMisspelt(word: string, distance: number): boolean {
  return word.length > 1 && distance <= Math.max(1, Math.floor(word.length / 3));
}

/**
 * One begins or ends with the other (`timeout`, `id`), both begin alike (`timeoutSeconds`), or one leaves letters out
 * (`cmd`).
 */
function isShort(word: string, other: string): boolean {
  const [short, long] = word.length < other.length ? [word, other] : [other, word];
  if (short.length >= 3 && long.startsWith(short)) return true;
  if (short.length >= 2 && long.endsWith(short)) return true;
  if (commonStart(short, long) >= Math.max(5, word.length / 2)) return true;
  return short.length >= 3 && short[0] === long[0] && long.length < short.length * 2.5 && isSubsequence(short, long);
}

function commonStart(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return length;
}

function isSubsequence(short: string, long: string): boolean {
  let at = 0;
  for (const letter of long) if (letter === short[at]) at++;
  return at === short.length;
}

/** Letters to add, drop, change, or swap with their neighbour. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let above = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const changed = above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      row[j] = Math.min(above[j]! + 1, row[j - 1]! + 1, changed);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) row[j] = Math.min(row[j]!, before[j - 2]! + 1);
    }
    before = above;
    above = row;
  }
  return above[b.length]!;
}
