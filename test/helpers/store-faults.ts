import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';

type Call = (...args: unknown[]) => unknown;
type Target = Record<string, Call>;

const callbackCalls = ['stat', 'open', 'write', 'fsync', 'chmod', 'rename', 'unlink', 'mkdir', 'rmdir', 'utimes'];
const promiseCalls = [
  'mkdir',
  'chmod',
  'lstat',
  'stat',
  'realpath',
  'rmdir',
  'rename',
  'unlink',
  'link',
  'open',
  'readdir',
  'readFile',
];
const handleCalls = ['sync', 'writeFile', 'chmod', 'stat', 'readFile'];
const syncCalls = [
  ...['openSync', 'readFileSync', 'lstatSync', 'opendirSync', 'mkdirSync', 'chmodSync', 'fchmodSync', 'renameSync'],
  ...['writeFileSync', 'rmSync', 'unlinkSync', 'rmdirSync'],
];

/** Counts the file system calls that concern a directory, and makes chosen ones fail. */
export class Faults {
  readonly #directory: string;
  readonly #restores: (() => void)[] = [];
  #shouldFail: (index: number, name: string) => boolean = () => false;
  #code = '';
  /** The calls so far, by name. */
  readonly calls: string[] = [];
  readonly fired: string[] = [];

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async install(directory: string): Promise<Faults> {
    const faults = new Faults(directory);
    for (const name of callbackCalls) faults.#wrap(fs as never, name, failByCallback);
    for (const name of promiseCalls) faults.#wrap(fs.promises as never, name, failByPromise);
    for (const name of syncCalls) faults.#wrap(fs as never, name, failByThrow);
    const handle = await fs.promises.open(tmpdir(), 'r');
    for (const name of handleCalls) faults.#wrap(Object.getPrototypeOf(handle), name, failByPromise);
    await handle.close();
    const dir = fs.opendirSync(tmpdir());
    faults.#wrap(Object.getPrototypeOf(dir), 'readSync', failByThrow);
    dir.closeSync();
    syncBuiltinESMExports();
    return faults;
  }

  /** Calls for which `shouldFail` holds fail with this code from now on. */
  arm(code: string, shouldFail: (index: number, name: string) => boolean): void {
    this.#code = code;
    this.#shouldFail = shouldFail;
  }
  disarm(): void {
    this.#shouldFail = () => false;
  }
  restore(): void {
    for (const restore of this.#restores) restore();
    syncBuiltinESMExports();
  }

  #wrap(target: Target, name: string, fail: (error: Error, args: unknown[]) => unknown): void {
    const original = target[name]!;
    const faults = this;
    target[name] = function (this: unknown, ...args: unknown[]) {
      const error = faults.#look(name, args[0]);
      return error ? fail(error, args) : original.apply(this, args);
    };
    this.#restores.push(() => {
      target[name] = original;
    });
  }

  #look(name: string, first: unknown): Error | null {
    if (typeof first === 'string' && !first.startsWith(this.#directory)) return null;
    this.calls.push(name);
    if (!this.#shouldFail(this.calls.length - 1, name)) return null;
    this.fired.push(name);
    return Object.assign(new Error(`${this.#code}: made up, ${name}`), { code: this.#code, syscall: name });
  }
}

function failByThrow(error: Error): never {
  throw error;
}
function failByPromise(error: Error): Promise<never> {
  return Promise.reject(error);
}
function failByCallback(error: Error, args: unknown[]): void {
  const done = args.at(-1) as (error: Error) => void;
  setImmediate(done, error);
}
