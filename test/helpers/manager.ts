import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type Clock, systemClock } from '../../src/clock.js';
import type { BackgroundTaskManager } from '../../src/index.js';
import { openWith } from '../../src/manager.js';
import type { OpenOptions } from '../../src/options.js';
import type { AnyTaskKind } from '../../src/task/kind.js';

/** A new folder, removed after the test. */
export async function scratch(): Promise<string> {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'holdfast-test-')));
  onTestFinished(() => rm(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 }));
  return directory;
}

/** A manager that is closed after the test, with everything it runs. Without a clock: the real one. */
export async function openManager<const Kinds extends readonly AnyTaskKind[] = readonly []>(
  options: Partial<OpenOptions<Kinds>> = {},
  clock: Clock = systemClock,
): Promise<BackgroundTaskManager<Kinds[number]>> {
  const directory = options.directory ?? (await scratch());
  const manager = await openWith<Kinds>({ fsync: false, ...options, directory } as OpenOptions<Kinds>, clock);
  // A test that wants to know how closing ends closes by itself.
  onTestFinished(() => manager.close({ tasks: 'stop', graceMs: 0 }).catch(() => undefined));
  return manager;
}

/** Every event of a manager, as `name` or `name taskId`, in order. */
export function record(manager: BackgroundTaskManager<any>): string[] {
  const heard: string[] = [];
  manager.on('*', (event: string, payload: any) => {
    const id = payload.task?.taskId ?? payload.taskId;
    if (event !== 'manager:reconciled') heard.push(id ? `${event} ${id}` : event);
  });
  return heard;
}

/** Resolves with the next payload of this event for this task. */
export function next(manager: BackgroundTaskManager<any>, event: string, taskId?: string): Promise<any> {
  return new Promise((resolve) => {
    const off = manager.on(event as 'task:settled', (payload: any) => {
      if (taskId !== undefined && (payload.task?.taskId ?? payload.taskId) !== taskId) return;
      off();
      resolve(payload);
    });
  });
}

/** A promise with its ends in reach. */
export function deferred<T = void>(): { promise: Promise<T>; resolve(value: T): void; reject(error: unknown): void } {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
