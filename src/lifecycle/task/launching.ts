/** A launch under way: from the moment at which the task has its slot until its work runs, or will not. */
export class Launching {
  readonly #controller = new AbortController();
  readonly over: Promise<void>;
  #end!: () => void;

  constructor() {
    this.over = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /** What `start` is given. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  abort(reason: unknown): void {
    this.#controller.abort(reason);
  }

  end(): void {
    this.#end();
  }
}
