/*
 * Removes what dead owners left. Only names that we make, only regular files, and only by the owner, before it writes anything.
 */
import { closeSync, openSync, readSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../clock.js';
import { isTaskId } from '../task/id.js';
import type { TaskRecord } from '../task/record.js';
import { isTerminal } from '../task/status.js';
import { systemCode } from './failure.js';
import type { Layout } from './layout.js';
import { entriesOf } from './listing.js';
import { Slices } from './slices.js';

/** In a `.pid` file: a recovery took the right to run, so that a supervisor that comes late does nothing. */
const VOID = 'void';

export interface SweepOptions {
  readonly layout: Layout;
  readonly clock: Clock;
  readonly records: ReadonlyMap<string, TaskRecord>;
  /** Ids of records that exist but could not be read: what is theirs stays. */
  readonly unread: ReadonlySet<string>;
  readonly drafts: readonly string[];
}

/** Sweeps everything it can; returns the first failure, if any. */
export async function sweep(options: SweepOptions): Promise<unknown> {
  const failures: unknown[] = [];
  const slices = new Slices(options.clock);
  const attempt = async (work: () => Promise<void>) => {
    try {
      await work();
    } catch (error) {
      failures.push(error);
    }
  };
  const remove = (path: string) => {
    try {
      unlinkSync(path);
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') failures.push(error);
    }
  };
  for (const name of options.drafts) remove(join(options.layout.directory, name));
  await attempt(() => sweepRunDir(options, remove, slices));
  for (const record of options.records.values()) {
    // A result is written while its task is active, so only there can half of one be left.
    if (!isTerminal(record)) await attempt(() => sweepResultDrafts(options.layout, record.taskId, remove, slices));
    await slices.pause();
  }
  return failures[0];
}

async function sweepRunDir(options: SweepOptions, remove: (path: string) => void, slices: Slices): Promise<void> {
  const { runDir } = options.layout;
  for await (const entry of entriesOf(runDir, slices)) {
    const [, taskId = '', ending] = /^(.+)\.(pid|exit)$/.exec(entry.name) ?? [];
    if (!entry.isFile() || !isTaskId(taskId) || options.unread.has(taskId)) continue;
    const record = options.records.get(taskId);
    if (record && !isTerminal(record)) continue;
    const path = join(runDir, entry.name);
    // As long as there is a record, a void claim forbids its late supervisor to run.
    if (record && ending === 'pid' && isVoid(path)) continue;
    remove(path);
  }
}

async function sweepResultDrafts(
  layout: Layout,
  taskId: string,
  remove: (path: string) => void,
  slices: Slices,
): Promise<void> {
  const folder = join(layout.directory, taskId);
  try {
    for await (const entry of entriesOf(folder, slices)) {
      if (entry.isFile() && /^result\.json\.next(?:\.\d+)?$/.test(entry.name)) remove(join(folder, entry.name));
    }
  } catch (error) {
    if (systemCode(error) !== 'ENOENT' && systemCode(error) !== 'ENOTDIR') throw error;
  }
}

function isVoid(path: string): boolean {
  const fd = openSync(path, 'r');
  try {
    const start = Buffer.alloc(16);
    return start.toString('latin1', 0, readSync(fd, start)).trim() === VOID;
  } finally {
    closeSync(fd);
  }
}
