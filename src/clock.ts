/** The longest delay `setTimeout` keeps; beyond it Node fires at once. */
const MAX_DELAY_MS = 2 ** 31 - 1;

/** A timer that can be cleared as often as one likes. */
export interface Timer {
  clear(): void;
}

/** Every reading of time and every timer goes through here, so that tests can drive it. */
export interface Clock {
  /** Wall clock, milliseconds since the epoch. It may jump. */
  now(): number;
  /** Monotonic milliseconds: for durations that no clock change may stretch. */
  monotonic(): number;
  /** Calls `fire` once, after `delayMs` of monotonic time. Never holds the process; right beyond 2^31-1 ms. */
  after(delayMs: number, fire: () => void): Timer;
}

/** The real clock. Reads the globals at each call, so that a host that fakes them is followed. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, fire) {
    let remaining = Math.max(0, delayMs);
    let handle: NodeJS.Timeout;
    const arm = () => {
      const step = Math.min(remaining, MAX_DELAY_MS);
      remaining -= step;
      handle = setTimeout(() => (remaining > 0 ? arm() : fire()), step);
      handle.unref?.();
    };
    arm();
    return { clear: () => clearTimeout(handle) };
  },
};

/** Resolves after `delayMs`; rejects with the signal's reason when it aborts first. */
export function delay(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      timer.clear();
      reject(signal?.reason);
    };
    const timer = clock.after(delayMs, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
