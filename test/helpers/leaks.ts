/*
 * Nothing leaks: after each test, everything that the test or our code under it opened must be closed again. vitest loads this file before
 * every test file (`setupFiles`).
 *
 * What counts is seen by async_hooks, which also knows what no longer holds the process: timers (the update timer of a proper-lockfile
 * lock among them), watchers, sockets and servers, child processes, workers. Files are counted in /proc/self/fd. A timer counts when its
 * creation passed through src, test or a dependency of src; a handle counts unless vitest alone created it.
 */
import { createHook } from 'node:async_hooks';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import fsPromises, { type FileHandle } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { dirname, join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeEach, expect, onTestFinished } from 'vitest';

/** Closing takes a turn or two of the event loop, and the end of a child as long as the system needs. */
const GRACE_MS = 10_000;
const POLL_MS = 5;
const STACK_DEPTH = 40;
const FD_FOLDER = '/proc/self/fd';

const here = fileURLToPath(import.meta.url);
const root = join(dirname(here), '..', '..');
const ourFolders = [join(root, 'src') + sep, join(root, 'test') + sep];
const ourPackages =
  /node_modules\/(?:p-retry|is-network-error|proper-lockfile|retry|graceful-fs|signal-exit|write-file-atomic|mitt|zod)\//;
const runnerPackages = /node_modules\/(?:vitest|@vitest|vite|tinyexec|tinypool)\//;
/** The only parts of Node that make a timer for somebody else; its other timers belong to a handle, which is seen itself. */
const timerModules = /node:(?:internal\/)?(?:timers|timers\/promises|abort_controller)\b/;

const handleTypes = new Set([
  'FSEVENTWRAP',
  'STATWATCHER',
  'PROCESSWRAP',
  'PIPEWRAP',
  'PIPESERVERWRAP',
  'TCPWRAP',
  'TCPSERVERWRAP',
  'UDPWRAP',
  'WORKER',
]);

/** Taken now: a test may fake them. */
const { setTimeout: realSetTimeout, performance: realPerformance } = globalThis;

interface Resource {
  readonly type: string;
  /** Formatted only when somebody asks: capturing is cheap, reading is not. */
  readonly created: Error;
}

const live = new Map<number, Resource>();
/** Where the files that are open as handles were opened: the system does not tell. */
const opened = new Set<{ readonly handle: WeakRef<FileHandle>; readonly created: Error }>();
/** In this test, and anywhere in this file. */
let allowedNow = false;
let allowedOnce = false;

/** This file's own waiting is not seen: what has fired is forgotten a turn later than the next look. */
let polling = false;

createHook({
  init(asyncId, type) {
    if ((type === 'Timeout' && !polling) || handleTypes.has(type)) live.set(asyncId, { type, created: trace() });
  },
  destroy(asyncId) {
    live.delete(asyncId);
  },
}).enable();

const realOpen = fsPromises.open;
fsPromises.open = async (...args) => {
  const created = trace();
  const handle = await realOpen(...args);
  opened.add({ handle: new WeakRef(handle), created });
  return handle;
};
syncBuiltinESMExports();

function trace(): Error {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = STACK_DEPTH;
  const created = new Error('created');
  Error.stackTraceLimit = limit;
  return created;
}

/** The frames below this file's own. */
function framesOf({ stack = '' }: Error): string[] {
  return stack
    .split('\n')
    .filter((line) => /^\s+at /.test(line) && !line.includes(here) && !line.includes('node:internal/async_hooks'));
}

function isOurs(frame: string): boolean {
  return ourFolders.some((folder) => frame.includes(folder)) || ourPackages.test(frame);
}

function counts({ type, created }: Resource): boolean {
  const frames = framesOf(created);
  const ours = frames.some(isOurs);
  if (type !== 'Timeout') return ours || !frames.some((frame) => runnerPackages.test(frame));
  const creator = frames.find((frame) => !timerModules.test(frame)) ?? '';
  return ours && !creator.includes('node:');
}

/** Open regular files and folders: how many times each. Empty where there is no /proc. */
function openFiles(): Map<string, number[]> {
  const open = new Map<string, number[]>();
  if (!existsSync(FD_FOLDER)) return open;
  for (const name of readdirSync(FD_FOLDER)) {
    const target = targetOf(name);
    if (!target?.startsWith('/') || /^\/(?:dev|proc|sys)\//.test(target) || target.includes('/node_modules/')) continue;
    open.set(target, [...(open.get(target) ?? []), Number(name)]);
  }
  return open;
}

function targetOf(fd: string): string | undefined {
  try {
    return readlinkSync(`${FD_FOLDER}/${fd}`);
  } catch {
    return undefined; // closed meanwhile, as the one that listed the folder is
  }
}

function openedAt(fd: number): Error | undefined {
  for (const { handle, created } of opened) if (handle.deref()?.fd === fd) return created;
  return undefined;
}

interface Baseline {
  readonly ids: ReadonlySet<number>;
  readonly files: ReadonlyMap<string, number[]>;
}

function takeBaseline(): Baseline {
  for (const one of opened) if ((one.handle.deref()?.fd ?? -1) < 0) opened.delete(one);
  return { ids: new Set(live.keys()), files: openFiles() };
}

/** Everything that is open now and was not then, one description each. */
function leaksSince(then: Baseline): string[] {
  const resources = [...live].filter(([id, resource]) => !then.ids.has(id) && counts(resource));
  const files = [...openFiles()].flatMap(([target, fds]) =>
    fds.slice(then.files.get(target)?.length ?? 0).map((fd) => ({ target, fd })),
  );
  return [
    ...resources.map(([, { type, created }]) => describeLeak(type, created)),
    ...files.map(({ target, fd }) => describeLeak(`open file ${fd}, ${target}`, openedAt(fd))),
  ];
}

function describeLeak(what: string, created: Error | undefined): string {
  if (!created) return `${what}, opened with a number of its own`;
  const frames = framesOf(created);
  const telling = frames.filter(isOurs);
  return [`${what}, created`, ...(telling.length > 0 ? telling : frames).slice(0, 6)].join('\n');
}

async function expectNoLeaks(then: Baseline, graceMs = GRACE_MS): Promise<void> {
  const deadline = realPerformance.now() + graceMs;
  let leaks = leaksSince(then);
  while (leaks.length > 0 && realPerformance.now() < deadline) {
    await nextLook();
    leaks = leaksSince(then);
  }
  if (leaks.length > 0) throw new Error(`still open after ${graceMs} ms:\n${leaks.join('\n')}`);
}

function nextLook(): Promise<void> {
  return new Promise((resolve) => {
    polling = true;
    realSetTimeout(resolve, POLL_MS);
    polling = false;
  });
}

/** Lets the running test end with something open. It is printed, so that it is not forgotten. */
export function allowLeaks(reason: string): void {
  allowedNow = true;
  allowedOnce = true;
  process.stderr.write(`leaks allowed in "${expect.getState().currentTestName}": ${reason}\n`);
}

/** Fails when something that `work` opened is still open after it, as after a test. For tests of this file. */
export async function withoutLeaks(work: () => Promise<unknown>, graceMs?: number): Promise<void> {
  const then = takeBaseline();
  await work();
  await expectNoLeaks(then, graceMs);
}

const atLoad = takeBaseline();

// Finishers run after all afterEach hooks, the first one registered last; hooks of this file run around those of the test file.
beforeEach(() => {
  allowedNow = false;
  const then = takeBaseline();
  onTestFinished(async () => {
    if (!allowedNow) await expectNoLeaks(then);
  });
});

afterAll(async () => {
  if (!allowedOnce) await expectNoLeaks(atLoad);
});
