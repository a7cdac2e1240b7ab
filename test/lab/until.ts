import { setTimeout as pause } from 'node:timers/promises';

/** Waits for a state that nothing announces (the process table, a file of another process). Throws when it never comes. */
export async function until(condition: () => unknown, what: string, timeoutMs = 30_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs} ms in vain: ${what}`);
    await pause(5);
  }
}
