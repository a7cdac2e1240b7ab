/* What all hosts share. Files beside the directory are written with synchronous calls: what a host wrote there outlives it. */
import { appendFileSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

export * from 'holdfast';

export const plan = JSON.parse(readFileSync(process.env.LAB_PLAN, 'utf8'));

/** Tells the lab. */
export const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

/** Writes down what the manager has promised. A SIGKILL can tear a line where it crosses a page: the next one begins anew. */
export const acknowledge = (value) => appendFileSync(plan.acknowledged, `\n${JSON.stringify(value)}\n`);

/** Writes down that a piece of work began. */
export const launched = (what) => appendFileSync(plan.launched, `${what}\n`);

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What the lab says, one value after another. The host lives for as long as it listens. */
export async function* told() {
  for await (const line of createInterface({ input: process.stdin })) yield JSON.parse(line);
}
