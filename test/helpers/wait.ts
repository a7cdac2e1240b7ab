import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

const POLL_MS = 5;

/** Taken now: a test may fake them. */
const { setTimeout: realSetTimeout, performance: realPerformance } = globalThis;

/** What `until` may be told. */
export interface UntilOptions {
  /** Generous on purpose: it is how long a broken promise takes to fail, not how long a kept one takes. Default 60,000. */
  timeoutMs?: number;
  /** What was waited for; a function is asked when the time is up. */
  message?: string | (() => string);
}

/** Asks `condition` every few milliseconds until it gives something truthy, and resolves with that. What it throws ends the wait. */
export async function until<T>(
  condition: () => T | PromiseLike<T>,
  { timeoutMs = 60_000, message = 'the condition' }: UntilOptions = {},
): Promise<Exclude<T, undefined | null | false | 0 | ''>> {
  const deadline = realPerformance.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value) return value as Exclude<T, undefined | null | false | 0 | ''>;
    if (realPerformance.now() >= deadline) {
      throw new Error(`waited ${timeoutMs} ms in vain for ${typeof message === 'function' ? message() : message}`);
    }
    await new Promise<void>((resolve) => {
      realSetTimeout(resolve, POLL_MS);
    });
  }
}

/** A fresh folder, by its real path, that is gone after the test (and after its `afterEach` hooks). */
export function tempDirectory(prefix = 'holdfast-'): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), prefix)));
  onTestFinished(() => rmSync(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 }));
  return path;
}
