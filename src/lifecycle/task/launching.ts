/** A launch under way: from the moment at which the task has its slot until its work runs, or will not. */
export class Launching {
  readonly over: Promise<void>;
  #end!: () => void;
  /** Made when it is asked for: few launches are aborted, and work in this process cannot be. */
  #controller: AbortController | undefined;

  constructor() {
    this.over = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /** What `start` is given. */
  get signal(): AbortSignal {
    return this.#abortable.signal;
  }

  abort(reason: unknown): void {
    this.#abortable.abort(reason);
  }

  end(): void {
    this.#end();
  }

  get #abortable(): AbortController {
    this.#controller ??= new AbortController();
    return this.#controller;
  }
}
