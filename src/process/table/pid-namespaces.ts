/*
 * What can be told of another pid namespace of this kernel. A namespace sees its own processes and those of the
 * namespaces below it, and the initial one sees them all: seen from there, a namespace without processes is gone, and
 * so is every process that ever was in it. (Its first process lives as long as any other of it, so a list of processes
 * cannot be too old to show it.)
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { Clock } from '../../clock.js';
import { shareRuns } from '../../util/share-runs.js';
import { Slices } from '../../util/slices.js';
import { systemCode } from '../../util/system-error.js';

/** The kernel gives the initial namespace this number, always. */
export const INITIAL_NAMESPACE = 'pid:[4026531836]';

/**
 * `gone`: with all its processes. `seen`: some of its processes are in our process table. `unknown`: it may live where
 * we cannot see.
 */
export type NamespaceState = 'gone' | 'seen' | 'unknown';

const ended = ['ENOENT', 'ESRCH'];

export class PidNamespaces {
  readonly #own: string;
  readonly #clock: Clock;
  readonly #root: string;
  readonly #scan = shareRuns(() => this.#read());
  #seen: ReadonlySet<string> = new Set();
  /** Whether the namespace of every process could be read. */
  #isComplete = false;

  /** `own`: the namespace of this process, as its identity names it. `root` is for tests. */
  constructor(own: string, clock: Clock, root = '/proc') {
    this.#own = own;
    this.#clock = clock;
    this.#root = root;
  }

  /** How this namespace stands. Calls at the same time share the work. */
  async state(namespace: string): Promise<NamespaceState> {
    // A host whose /proc is that of another namespace cannot tell anything by it, and says so in its identity.
    if (!isName(namespace) || !isName(this.#own)) return 'unknown';
    await this.#scan();
    if (this.#seen.has(namespace)) return 'seen';
    return this.#own === INITIAL_NAMESPACE && this.#isComplete ? 'gone' : 'unknown';
  }

  /** The namespace of a process; `undefined` where it has ended, `null` where we may not know. */
  of(pid: number): string | undefined | null {
    try {
      return readlinkSync(`${this.#root}/${pid}/ns/pid`);
    } catch (error) {
      if (ended.includes(systemCode(error) ?? '')) return undefined;
      // A process with only one pid is in our own namespace.
      return this.#hasOnePid(pid) ? this.#own : null;
    }
  }

  async #read(): Promise<void> {
    const slices = new Slices(this.#clock);
    const seen = new Set<string>();
    const pids = readdirSync(this.#root).filter((name) => /^\d+$/.test(name));
    // Where other users' processes are hidden, the first one is, too.
    let isComplete = pids.includes('1');
    for (const pid of pids) {
      await slices.pause();
      const namespace = this.of(Number(pid));
      if (namespace === null) isComplete = false;
      else if (namespace !== undefined) seen.add(namespace);
    }
    this.#seen = seen;
    this.#isComplete = isComplete;
  }

  #hasOnePid(pid: number): boolean {
    try {
      return /^NSpid:\s+\d+$/m.test(readFileSync(`${this.#root}/${pid}/status`, 'latin1'));
    } catch {
      return false; // then nothing is known of it
    }
  }
}

function isName(namespace: string): boolean {
  return /^pid:\[\d+\]$/.test(namespace);
}
