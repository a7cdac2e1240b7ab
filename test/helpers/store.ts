import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach } from 'vitest';
import { type Clock, systemClock } from '../../src/clock.js';
import type { BackgroundTaskError } from '../../src/errors.js';
import { type FileStore, type FileStoreOptions, openFileStore } from '../../src/store/file-store.js';
import { ownIdentity } from '../../src/store/identity.js';
import { Layout } from '../../src/store/layout.js';
import { parseCurrentRecord, RecordError, type TaskRecord } from '../../src/task/record.js';
import type { OwnerIdentity } from '../../src/task/types.js';

const cleanups: (() => unknown)[] = [];
/** Runs after the test, last one first. */
export function defer(cleanup: () => unknown): void {
  cleanups.push(cleanup);
}
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A fresh folder that is gone after the test. */
export function tempDir(): string {
  const path = mkdtempSync(join(tmpdir(), 'holdfast-store-'));
  defer(() => rmSync(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 }));
  return path;
}

/** A valid record. */
export function makeRecord(taskId: string, changes: Partial<TaskRecord> = {}): TaskRecord {
  return {
    schemaVersion: 1,
    taskId,
    kind: 'function',
    description: `the task ${taskId}`,
    status: 'completed',
    detached: true,
    createdAt: 1000,
    startedAt: 1001,
    endedAt: 1002,
    attempt: 1,
    revision: 1,
    updatedAt: 1002,
    owner: null,
    details: {},
    metadata: {},
    hooks: {},
    ...changes,
  };
}

/** Parses current records only; a legacy shape for tests is `{ legacy: id, status? }`. */
export function parse(value: unknown): TaskRecord {
  const legacy = (value as { legacy?: unknown } | null)?.legacy;
  if (typeof legacy === 'string') return makeRecord(legacy.toLowerCase(), { kind: 'legacy' });
  if (typeof value !== 'object' || value === null) throw new RecordError('it is no object');
  return parseCurrentRecord(value);
}

export interface OpenedStore {
  readonly store: FileStore;
  readonly fenced: (OwnerIdentity | null)[];
  readonly errors: BackgroundTaskError[];
}

/** Where a store keeps its files, as it does not say. */
export function layoutOf(store: FileStore): Layout {
  return new Layout(dirname(store.runFolder.path));
}

/** Opens a store that is released after the test. */
export async function openStore(directory: string, changes: Partial<FileStoreOptions> = {}): Promise<OpenedStore> {
  const fenced: (OwnerIdentity | null)[] = [];
  const errors: BackgroundTaskError[] = [];
  const store = await openFileStore({
    directory,
    fsync: false,
    clock: systemClock,
    parse,
    onFenced: (owner) => fenced.push(owner),
    onError: (error) => errors.push(error),
    ...changes,
  });
  // What a test did to the directory may make this fail, and is none of the next test's business.
  defer(() => store.release().catch(() => undefined));
  return { store, fenced, errors };
}

/** An identity of another machine, boot or process. */
export function identity(changes: Partial<OwnerIdentity> = {}): OwnerIdentity {
  return { ...ownIdentity(), ...changes };
}

/** A clock that moves only when told to. */
export class ManualClock implements Clock {
  #now = 0;
  readonly #timers = new Set<{ at: number; fire: () => void }>();
  now = () => 1_790_000_000_000 + this.#now;
  monotonic = () => this.#now;
  after(delayMs: number, fire: () => void) {
    const timer = { at: this.#now + delayMs, fire };
    this.#timers.add(timer);
    return { clear: () => void this.#timers.delete(timer) };
  }
  advance(ms: number): void {
    this.#now += ms;
    for (const timer of [...this.#timers]) {
      if (timer.at <= this.#now && this.#timers.delete(timer)) timer.fire();
    }
  }
  get pending(): number {
    return this.#timers.size;
  }
  /** Advances in steps, each once something waits for it, until the promise settles. */
  async advanceUntilSettled<T>(promise: Promise<T>, stepMs: number): Promise<T> {
    let isSettled = false;
    const settle = () => {
      isSettled = true;
    };
    promise.then(settle, settle);
    while (!isSettled) {
      if (this.pending > 0) this.advance(stepMs);
      await setImmediate();
    }
    return promise;
  }
}

/** Waits for a state of real processes and files. */
export async function eventually(what: string, condition: () => unknown): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`never came: ${what}`);
    await setTimeout(5);
  }
}

/** Every path below a folder with what it holds, to compare before and after. */
export function snapshot(folder: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    found[path.slice(folder.length + 1)] = entry.isFile() ? readFileSync(path, 'latin1') : 'not a file';
  }
  return found;
}

/** The claims in a directory that nobody gave up. */
export function heldClaims(directory: string): string[] {
  const folder = join(directory, '.owner');
  return existsSync(folder) ? readdirSync(folder).filter((name) => /^epoch-\d+$/.test(name)) : [];
}

/** What a call in another process came to. */
export interface Answer {
  readonly ok: boolean;
  readonly value?: unknown;
  readonly code?: string;
  readonly owner?: OwnerIdentity;
  readonly message?: string;
}

/** Another process with a store of its own; see test/store/child.ts. */
export class StoreProcess {
  readonly child: ChildProcess;
  readonly events: { readonly event: string; readonly owner?: OwnerIdentity | null; readonly message?: string }[] = [];
  readonly #answers = new Map<number, (answer: Answer) => void>();
  #calls = 0;

  /** `wrapper` is a command that runs the rest of its arguments, such as `unshare` with its options. */
  constructor(wrapper: readonly string[] = []) {
    const script = fileURLToPath(new URL('../store/child.ts', import.meta.url));
    const [file = '', ...args] = [...wrapper, process.execPath, '--import', 'tsx', script];
    this.child = spawn(file, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.child.on('message', (message: { call?: number } & Answer & { event: string }) => {
      if (message.call === undefined) this.events.push(message);
      else this.#answers.get(message.call)?.(message);
    });
    this.child.on('exit', () => {
      for (const answer of this.#answers.values()) answer({ ok: false, code: 'EXITED' });
    });
    // The channel may break while the process is being killed; the exit says it all.
    this.child.on('error', () => undefined);
    defer(() => this.kill());
  }

  call(name: string, ...args: unknown[]): Promise<Answer> {
    const call = this.#calls++;
    return new Promise((resolve) => {
      this.#answers.set(call, resolve);
      this.child.send({ call, name, args });
    });
  }

  /** SIGKILL; resolves once the process is gone. */
  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGCONT');
    this.child.kill('SIGKILL');
    await gone;
  }
}

/** Whether this command works here: what needs rights that a machine may not give is skipped visibly. */
export function canRun(file: string, ...args: string[]): boolean {
  try {
    execFileSync(file, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
