import { setImmediate } from 'node:timers';

let last: Promise<void> = Promise.resolve();

/**
 * Resolves in a turn of the event loop that no earlier call was given. A fork stops the event loop for milliseconds,
 * the more the larger the host is: between two of them everything else gets its turn. Of all managers in this process.
 */
export function spawnTurn(): Promise<void> {
  last = last.then(() => new Promise((resolve) => void setImmediate(resolve)));
  return last;
}
