/**
 * The messages of one task, one at a time and in order. Handling a message waits for nothing but the disk: everything else that a task does
 * (launch, look, stop) happens outside and posts what it found. So a message can never wait for another one of the same task.
 */
export class Mailbox {
  #last: Promise<unknown> | undefined;
  #isDeciding = false;

  /** Handles this message after all that were posted before it. Throws when called out of {@link deciding}. */
  post<T>(handle: () => Promise<T>): Promise<T> {
    this.#assertNotDeciding();
    const handled = (this.#last ?? Promise.resolve()).then(handle);
    // Whoever posted it hears of its failure; the next message starts from what is on disk.
    const last = handled
      .catch(() => undefined)
      .then(() => {
        if (this.#last === last) this.#last = undefined;
      });
    this.#last = last;
    return handled;
  }

  /** Runs the part of a message that decides. What it calls may come from the host, and must not post to the same task. */
  deciding<T>(decide: () => T): T {
    this.#assertNotDeciding();
    this.#isDeciding = true;
    try {
      return decide();
    } finally {
      this.#isDeciding = false;
    }
  }

  #assertNotDeciding(): void {
    if (this.#isDeciding) throw new Error('the task is deciding on a finding: nothing can be posted to it meanwhile');
  }
}
