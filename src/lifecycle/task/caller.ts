/** The signal of whoever waits for a task in the foreground: stops the task when it aborts, until the task is detached or has ended. */
export class CallerSignal {
  readonly #signal: AbortSignal;
  readonly #onAbort: () => void;

  constructor(signal: AbortSignal, stop: (reason: string | undefined) => void) {
    this.#signal = signal;
    this.#onAbort = () => stop(reasonOf(signal));
    signal.addEventListener('abort', this.#onAbort, { once: true });
    if (signal.aborted) this.#onAbort();
  }

  release(): void {
    this.#signal.removeEventListener('abort', this.#onAbort);
  }
}

function reasonOf({ reason }: AbortSignal): string | undefined {
  if (typeof reason === 'string') return reason;
  return typeof reason?.message === 'string' ? reason.message : undefined;
}
