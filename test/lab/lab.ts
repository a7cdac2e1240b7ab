/* What an experiment is, and what it is given. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Random } from './random.js';
import { Sandbox } from './sandbox.js';

export type Mode = 'quick' | 'full' | 'soak';

/** One row of the table. */
export interface Experiment {
  readonly row: number;
  /** What is counted: something that must never happen. */
  readonly what: string;
  /** How long new trials are begun, in milliseconds; what was not begun by then is left out, and the table shows the trials there were. */
  readonly budgetMs?: Partial<Record<Mode, number>>;
  /** Why this machine cannot run it; nothing where it can. */
  unavailable?(): string | undefined;
  run(lab: Lab): Promise<void>;
}

const BUDGET_MS: Record<Mode, number> = { quick: 3_500, full: 70_000, soak: 70_000 };
/** Violations that are kept with their words; the others are only counted. */
const KEPT_VIOLATIONS = 5;

/** What one experiment is given, and what it found. */
export class Lab {
  readonly mode: Mode;
  readonly seed: number;
  readonly random: Random;
  #deadline: number;
  readonly notes: string[] = [];
  readonly messages: string[] = [];
  trialCount = 0;
  violationCount = 0;

  /** `shareMs`: what is left for this row of the time that the whole lab has. */
  constructor(experiment: Experiment, mode: Mode, seed: number, shareMs = Number.POSITIVE_INFINITY) {
    this.mode = mode;
    this.seed = seed;
    this.random = new Random(seed).fork(experiment.row);
    this.#deadline = performance.now() + Math.min(experiment.budgetMs?.[mode] ?? BUDGET_MS[mode], shareMs);
  }

  /** The size for this run. */
  size(sizes: { quick: number; full: number }): number {
    return this.mode === 'quick' ? sizes.quick : sizes.full;
  }

  get timeIsUp(): boolean {
    return performance.now() > this.#deadline;
  }

  /** The rounds of one trial: once the time is up, only the first. */
  *rounds(count: number): Generator<number> {
    for (let round = 0; round < count && (round === 0 || !this.timeIsUp); round++) yield round;
  }

  note(text: string): void {
    this.notes.push(text);
  }

  violation(message: string): void {
    this.violationCount++;
    if (this.messages.length < KEPT_VIOLATIONS) this.messages.push(message);
  }

  /** What a checker found, one violation each. */
  violations(where: string, found: readonly string[]): void {
    for (const message of found) this.violation(`${where}: ${message}`);
  }

  check(ok: boolean, message: string): void {
    if (!ok) this.violation(message);
  }

  /**
   * Runs `work` once for each item, some at a time, each in a sandbox of its own. What it throws is a violation. An item is a trial unless
   * `work` says that it made several.
   */
  async trials<T>(
    items: readonly T[],
    work: (trial: Trial, item: T) => Promise<number | void>,
    options: { readonly parallel?: number } = {},
  ): Promise<void> {
    let next = 0;
    const worker = async () => {
      while (next < items.length && !this.timeIsUp) {
        const index = next++;
        await this.#trial(index, (trial) => work(trial, items[index]!));
      }
    };
    await Promise.all(Array.from({ length: options.parallel ?? 2 }, worker));
    if (next < items.length) this.note(`${next} of ${items.length} rounds in the time there was`);
  }

  /** Work in a sandbox that is no trial, outside its time: to find out how large an experiment is. */
  async rehearse(work: (trial: Trial) => Promise<void>): Promise<void> {
    const began = performance.now();
    {
      await using sandbox = new Sandbox();
      await work(new Trial(this, -1, sandbox));
    }
    this.#deadline += performance.now() - began;
  }

  async #trial(index: number, work: (trial: Trial) => Promise<number | void>): Promise<void> {
    await using sandbox = new Sandbox();
    const trial = new Trial(this, index, sandbox);
    try {
      // Not in one line: others count while this one waits.
      const made = await work(trial);
      this.trialCount += made ?? 1;
    } catch (error) {
      this.trialCount++;
      trial.violation(describe(error));
    }
  }
}

/** One trial: its number, its chance, its place on disk. */
export class Trial {
  readonly lab: Lab;
  readonly index: number;
  readonly random: Random;
  readonly sandbox: Sandbox;
  /** For the manager; it is not there yet. */
  readonly directory: string;

  constructor(lab: Lab, index: number, sandbox: Sandbox) {
    this.lab = lab;
    this.index = index;
    this.random = lab.random.fork(index);
    this.sandbox = sandbox;
    this.directory = join(sandbox.path, 'tasks');
  }

  /** A path beside the manager's directory, for what the trial itself writes. */
  beside(name: string): string {
    return join(this.sandbox.path, name);
  }

  folderBeside(name: string): string {
    const path = this.beside(name);
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return path;
  }

  violation(message: string): void {
    this.lab.violation(`trial ${this.index}: ${message}`);
  }

  violations(where: string, found: readonly string[]): void {
    this.lab.violations(`trial ${this.index}: ${where}`, found);
  }

  check(ok: boolean, message: string): void {
    if (!ok) this.violation(message);
  }
}

/** What was thrown, and where. */
export function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message).split('\n').slice(0, 4).join('\n') : String(error);
}

export const range = (length: number): number[] => Array.from({ length }, (_, index) => index);
