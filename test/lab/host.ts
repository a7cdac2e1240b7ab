/* Hosts in processes of their own, to be killed. What they do is in hosts/; what they say comes as lines of JSON. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Sandbox } from './sandbox.js';

const hostPath = (name: string) => fileURLToPath(new URL(`./hosts/${name}`, import.meta.url));

export interface HostOptions {
  readonly sandbox: Sandbox;
  /** The name of a script in hosts/. */
  readonly script: string;
  /** What the script is told, as JSON. */
  readonly plan: object;
  /** What the file-system shim does in it; absent: it is not loaded. */
  readonly fs?: FsPlan | undefined;
  readonly nodeArgs?: readonly string[] | undefined;
  /** A command that runs the host's command line: `strace …`, `unshare …`. */
  readonly wrapper?: readonly string[] | undefined;
}

/** What hosts/fs-shim.cjs does with the calls that concern `directory`. */
export interface FsPlan {
  readonly directory: string;
  readonly mode: 'off' | 'count' | 'kill' | 'fault' | 'record';
  /** The call that is meant, counted from 1. */
  readonly at?: number;
  /** Of `kill`: calls are counted from this launch on (1: the first), and its supervisor stops itself before it has done anything. */
  readonly late?: number | undefined;
  readonly fault?: Fault;
  /** Whether every later call fails, too. */
  readonly forEver?: boolean;
  /** Where calls are recorded. */
  readonly log?: string;
}
export type Fault = 'ENOSPC' | 'EIO' | 'EACCES' | 'EMFILE' | 'short';

let plans = 0;

export class Host implements AsyncDisposable {
  readonly child: ChildProcess;
  /** Its exit code or signal. */
  readonly ended: Promise<number | string>;
  readonly #lines: string[] = [];
  #wake: (() => void) | undefined;
  #over = false;
  stderr = '';

  constructor(options: HostOptions) {
    const { sandbox, script, plan, fs, nodeArgs = [], wrapper = [] } = options;
    const planPath = join(sandbox.path, `plan-${++plans}.json`);
    writeFileSync(planPath, JSON.stringify(plan));
    const shim = fs ? ['--require', hostPath('fs-shim.cjs')] : [];
    const [file = '', ...args] = [...wrapper, process.execPath, ...nodeArgs, ...shim, hostPath(script)];
    this.child = spawn(file, args, {
      cwd: sandbox.path,
      env: {
        ...sandbox.env,
        LAB_PLAN: planPath,
        ...(fs && { LAB_FS: JSON.stringify(fs), UV_THREADPOOL_SIZE: '1', UV_USE_IO_URING: '0' }),
      },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.child.stdin!.on('error', () => undefined); // it was killed before it read
    this.child.stderr!.on('data', (chunk) => {
      this.stderr += chunk;
    });
    createInterface({ input: this.child.stdout! }).on('line', (line) => {
      this.#lines.push(line);
      this.#wake?.();
    });
    this.ended = once(this.child, 'close').then(([code, signal]) => {
      this.#over = true;
      this.#wake?.();
      return signal ?? code;
    });
  }

  /** The next thing it says; throws when it ends without a word. */
  async next(): Promise<any> {
    const said = await this.nextIfAny();
    if (said === undefined) throw new Error(`the host ended (${await this.ended}) without a word: ${this.stderr}`);
    return said;
  }

  /** The same; `undefined` when it has ended. */
  async nextIfAny(): Promise<any> {
    while (this.#lines.length === 0 && !this.#over) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const line = this.#lines.shift();
    return line === undefined ? undefined : JSON.parse(line);
  }

  tell(value: object): void {
    this.child.stdin!.write(`${JSON.stringify(value)}\n`);
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }
}
