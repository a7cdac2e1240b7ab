/* What the tests of faults share: an injected file system for a whole manager, a disk that is really full, and looks at processes. */
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { BackgroundTaskManager } from '../../src/index.js';
import { Faults } from './store-faults.js';
import { until } from './wait.js';

/** Taken now: injected faults must not keep the test itself from looking. */
const { readFileSync, writeFileSync, readdirSync, existsSync, mkdirSync, rmSync, statSync } = fs;
export const realFs = { readFileSync, writeFileSync, readdirSync, existsSync, mkdirSync, rmSync, statSync };

/**
 * The faults of the store's tests, and those of reading and appending output: a counted `stat` of the same handle goes before each, and fails
 * in its place.
 */
export async function installFaults(directory: string): Promise<{ faults: Faults; restore(): void }> {
  const faults = await Faults.install(directory);
  const handle = await fs.promises.open(tmpdir(), 'r');
  const prototype = Object.getPrototypeOf(handle) as Record<string, (...args: unknown[]) => Promise<unknown>>;
  await handle.close();
  const originals = Object.entries({ writev: prototype.writev!, read: prototype.read! });
  for (const [name, original] of originals) {
    prototype[name] = async function (this: { stat(): Promise<unknown> }, ...args: unknown[]) {
      await this.stat();
      return original.apply(this, args);
    };
  }
  return {
    faults,
    restore() {
      for (const [name, original] of originals) prototype[name] = original;
      faults.restore();
    },
  };
}

/** Rejects when `work` takes longer than anything here should: a promise that never settles is a finding, not a time-out of the test. */
export async function within<T>(what: string, work: Promise<T>, ms = 60_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not settled after ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The record of a task as it is on disk; `undefined` where there is none. */
export function onDisk(directory: string, taskId: string): any {
  try {
    return JSON.parse(realFs.readFileSync(join(directory, `${taskId}.json`), 'utf8'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Slots in use are the detached tasks that run: no more, no fewer. */
export function slotsAddUp(manager: BackgroundTaskManager<any>): { used: number; running: number } {
  const active = manager.listTasks({ active: true, includeForeground: true });
  const running = active.filter(({ detached, status }) => detached && status !== 'queued').length;
  return { used: manager.status().slots.used, running };
}

export function canMount(): boolean {
  const path = fs.mkdtempSync(join(tmpdir(), 'holdfast-mount-probe-'));
  const works = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'holdfast-test', path]).status === 0;
  if (works) execFileSync('umount', [path]);
  rmSync(path, { recursive: true });
  return works;
}

/** A disk of this many KiB, gone after the test. */
export function tinyDisk(parent: string, kib = 64): string {
  const path = join(parent, 'disk');
  mkdirSync(path);
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${kib}k`, 'holdfast-test', path], { stdio: 'ignore' });
  onTestFinished(() => void execFileSync('umount', ['--lazy', path]));
  return path;
}

/** Takes every byte that is left; answers the file to remove. */
export function fillDisk(disk: string): string {
  const path = join(disk, 'filler');
  for (const size of [4096, 64, 1]) {
    try {
      for (;;) writeFileSync(path, Buffer.alloc(size), { flag: 'a' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    }
  }
  return path;
}

/** The living processes whose environment or command line holds this text; zombies do not live. */
export function processesWith(text: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid && lives(pid) && holds(pid, text));
}

export function lives(pid: number): boolean {
  const stat = proc(pid, 'stat');
  return stat !== '' && !'ZX'.includes(stat.slice(stat.lastIndexOf(')') + 2)[0]!);
}

function holds(pid: number, text: string): boolean {
  return proc(pid, 'cmdline').includes(text) || proc(pid, 'environ').includes(text);
}

function proc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return ''; // it ended meanwhile
  }
}

/** Everybody that a test started below this directory ends with the test, whatever the code under test did. */
export function killAllAfterwards(mark: string): void {
  onTestFinished(async () => {
    await until(() => {
      const left = processesWith(mark);
      for (const pid of left) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // it ended meanwhile
        }
      }
      return left.length === 0;
    });
  });
}

/** The pid that a command wrote into a file. */
export async function pidIn(path: string): Promise<number> {
  await until(() => existsSync(path) && readFileSync(path, 'utf8').endsWith('\n'), { message: path });
  return Number(readFileSync(path, 'utf8'));
}
