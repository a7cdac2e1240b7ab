/*
 * The reliability lab: tries to break every promise of the design and prints how often it did.
 *
 *   npm run lab                     everything, up to 40 minutes on two cores
 *   npm run lab -- --quick          everything, smaller, under 2 minutes
 *   npm run lab -- --soak           row 18 alone, for an hour
 *   npm run lab -- --only 3,9       these rows
 *   npm run lab -- --seed 7         the chances of that run again
 *   npm run lab -- --mutations      breaks the code on purpose, row by row, and expects the rows to notice (with --only: those rows)
 */
import { parseArgs } from 'node:util';
import { experiments } from './experiments/index.js';
import { describe, type Experiment, Lab, type Mode } from './lab.js';
import { runMutations } from './mutations/run.js';
import { hasPassed, type RowResult, summary, table } from './report.js';
import { Sandbox } from './sandbox.js';

const DEFAULT_SEED = 20_261;
/** A row that is still not done then hangs. */
const LIMIT_MS: Record<Mode, number> = { quick: 60_000, full: 1_200_000, soak: 4_200_000 };
/** What all rows may take on a slow machine: then each makes fewer trials. */
const TOTAL_MS: Record<Mode, number> = { quick: 130_000, full: Infinity, soak: Infinity };
/** Enough for the trials that every row begins at once. */
const SMALLEST_SHARE_MS = 300;

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    soak: { type: 'boolean', default: false },
    mutations: { type: 'boolean', default: false },
    seed: { type: 'string', default: `${DEFAULT_SEED}` },
    only: { type: 'string' },
  },
});
const print = (text: string) => process.stdout.write(`${text}\n`);

const seed = Number(values.seed);
if (!Number.isSafeInteger(seed) || seed < 0)
  throw new RangeError(`--seed: expected a whole number, got ${values.seed}`);
const mode: Mode = values.soak ? 'soak' : values.quick ? 'quick' : 'full';
const chosen = chosenRows(values.only ?? (values.soak ? '18' : undefined));
/** The row that runs now: what nobody caught is its doing. */
let current: Lab | undefined;
let isHanging = false;
for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
  process.on(event, (thrown: unknown) => {
    if (!current) throw thrown;
    current.violation(`${event}: ${describe(thrown)}`);
  });
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void Sandbox.disposeAll().finally(() => process.exit(1)));
}

process.exitCode = values.mutations ? await runMutations(chosen, seed, print) : await runRows();
if (isHanging) await Sandbox.disposeAll().finally(() => process.exit(1));

function chosenRows(only: string | undefined): readonly Experiment[] {
  if (only === undefined) return experiments;
  return only.split(',').map((text) => {
    const found = experiments.find(({ row }) => row === Number(text));
    if (!found) throw new RangeError(`--only: expected rows from 1 to ${experiments.length}, got ${text}`);
    return found;
  });
}

async function runRows(): Promise<number> {
  const results: RowResult[] = [];
  for (const [index, experiment] of chosen.entries()) {
    const left = (TOTAL_MS[mode] - performance.now()) / (chosen.length - index);
    const { result, messages, hangs } = await runRow(experiment, Math.max(SMALLEST_SHARE_MS, left));
    results.push(result);
    const verdict = result.skipped !== undefined ? 'skipped' : hasPassed(result) ? 'ok' : 'FAILED';
    print(`row ${result.row}: ${verdict}, ${result.trials} trials, ${result.seconds.toFixed(1)} s`);
    for (const message of messages) print(`  ${message.replaceAll('\n', '\n  ')}`);
    if (hangs) {
      isHanging = true;
      break;
    }
  }
  print(`\n${table(results)}\n`);
  print(summary(results));
  return results.every((result) => hasPassed(result) || result.skipped !== undefined) ? 0 : 1;
}

interface Ran {
  readonly result: RowResult;
  readonly messages: readonly string[];
  /** It goes on beside whatever comes next: so nothing does. */
  readonly hangs: boolean;
}

async function runRow(experiment: Experiment, shareMs: number): Promise<Ran> {
  const { row, what } = experiment;
  const started = performance.now();
  const skipped = experiment.unavailable?.();
  const lab = new Lab(experiment, mode, seed, shareMs);
  current = lab;
  const isDone =
    skipped !== undefined ||
    (await within(
      LIMIT_MS[mode],
      experiment.run(lab).catch((error) => lab.violation(describe(error))),
    ));
  if (!isDone) lab.violation(`not done after ${LIMIT_MS[mode] / 1000} s: nothing after it was run`);
  const seconds = (performance.now() - started) / 1000;
  const { trialCount: trials, violationCount: violations, notes, messages } = lab;
  return { result: { row, what, seed, trials, violations, notes, seconds, skipped }, messages, hangs: !isDone };
}

/** Whether it was done in time. */
async function within(limitMs: number, work: Promise<void>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), limitMs);
  });
  const isDone = await Promise.race([work.then(() => true as const), late]);
  clearTimeout(timer);
  return isDone;
}
