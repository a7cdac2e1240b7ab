/* The table, as text that a README can quote. */
export interface RowResult {
  readonly row: number;
  readonly what: string;
  readonly seed: number;
  readonly trials: number;
  readonly violations: number;
  readonly notes: readonly string[];
  readonly seconds: number;
  /** Why it did not run; nothing where it did. */
  readonly skipped?: string | undefined;
}

const HEADERS = ['#', 'what must never happen', 'trials', 'violations', 'figures', 'seed', 'seconds'];

export function table(results: readonly RowResult[]): string {
  return markdown(HEADERS, results.map(cells));
}

function cells(result: RowResult): string[] {
  const { row, what, trials, violations, notes, seed, seconds, skipped } = result;
  const counts = skipped === undefined ? [`${trials}`, `${violations}`, notes.join('; ')] : ['skipped', '', skipped];
  return [`${row}`, what, ...counts, `${seed}`, seconds.toFixed(1)];
}

/** A table whose columns also line up where nobody renders it. */
export function markdown(headers: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [headers, ...rows];
  const widths = headers.map((_, column) => Math.max(3, ...all.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) => `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`;
  return [line(headers), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

/** A row passes without a violation, and with at least one trial. */
export function hasPassed({ skipped, trials, violations }: RowResult): boolean {
  return skipped === undefined && trials > 0 && violations === 0;
}

/** The last line counts; what was skipped is on a line of its own. */
export function summary(results: readonly RowResult[]): string {
  const ran = results.filter(({ skipped }) => skipped === undefined);
  const passed = ran.filter(hasPassed).length;
  const skipped = results.length - ran.length;
  return `${skipped > 0 ? `${skipped} skipped\n` : ''}${passed} passed, ${ran.length - passed} failed`;
}
