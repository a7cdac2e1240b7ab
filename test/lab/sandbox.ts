/* A place on disk for one trial, and everything that runs in it. Nothing of either is left when it is disposed. */
import { mkdtempSync, realpathSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { killHard, processes } from './processes.js';

/** Every process of a sandbox inherits it, tasks included. */
const MARK = 'HOLDFAST_LAB_SANDBOX';

export class Sandbox implements AsyncDisposable {
  static readonly #all = new Set<Sandbox>();
  static #isOver = false;
  readonly path: string;

  constructor() {
    if (Sandbox.#isOver) throw new Error('the lab is over');
    this.path = realpathSync(mkdtempSync(join(tmpdir(), 'holdfast-lab-')));
    Sandbox.#all.add(this);
  }

  /** For a lab that ends before its time: there are no new ones after this. */
  static async disposeAll(): Promise<void> {
    Sandbox.#isOver = true;
    await Promise.all([...Sandbox.#all].map((sandbox) => sandbox[Symbol.asyncDispose]()));
  }

  /** For the processes that are started here. */
  get env(): NodeJS.ProcessEnv {
    return { ...process.env, NODE_OPTIONS: '', [MARK]: this.path };
  }

  /** Everything that runs here, or mentions this place in its command line. */
  running(): number[] {
    return processes()
      .filter(
        ({ pid, args, env }) =>
          // A task's own mark holds the path as well, also of one that inherits no environment.
          pid !== process.pid && (args.includes(this.path) || env().includes(this.path)),
      )
      .map(({ pid }) => pid);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (let left = this.running(); left.length > 0; left = this.running()) {
      for (const pid of left) killHard(pid);
      await pause(5);
    }
    await rm(this.path, { recursive: true, force: true, maxRetries: 5 });
    Sandbox.#all.delete(this);
  }
}
