/*
 * Removes what dead owners left. Only names that we make, only regular files, and only by the owner, before it writes
 * anything.
 */
import { unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '../clock.js';
import { isTerminal } from '../task/guards.js';
import { isTaskId } from '../task/id.js';
import type { TaskRecord } from '../task/record.js';
import { isTerminalStatus } from '../task/status.js';
import { Slices } from '../util/slices.js';
import { systemCode } from '../util/system-error.js';
import type { Layout } from './layout.js';
import { entriesOf } from './listing.js';
import { parseRunFileName, RunFiles } from './run-files.js';

const resultDraft = /^result\.json\.next(?:\.\d+)?$/;

export interface SweepOptions {
  readonly layout: Layout;
  readonly clock: Clock;
  readonly records: ReadonlyMap<string, TaskRecord>;
  /** Ids of records that are there but could not be read: what is theirs stays. */
  readonly unread: ReadonlySet<string>;
  /** Left-over temporary files of records. */
  readonly drafts: readonly string[];
}

/** Sweeps everything it can; returns what it could not. */
export async function sweep(options: SweepOptions): Promise<readonly unknown[]> {
  const { layout, records } = options;
  const failures: unknown[] = [];
  const slices = new Slices(options.clock);
  for (const name of options.drafts) remove(join(layout.directory, name), failures);
  await sweepFolder(layout.runDir, slices, failures, (name) => isDeadRunFile(name, options));
  for (const { taskId, status } of records.values()) {
    await slices.pause();
    // A result is written while its task is active, so only there can half of one be left.
    if (isTerminalStatus(status)) continue;
    await sweepFolder(join(layout.directory, taskId), slices, failures, (name) => resultDraft.test(name));
  }
  return failures;
}

async function sweepFolder(
  folder: string,
  slices: Slices,
  failures: unknown[],
  isDead: (name: string) => boolean | Promise<boolean>,
): Promise<void> {
  try {
    for await (const entry of entriesOf(folder, slices)) {
      if (entry.isFile() && (await isDead(entry.name))) remove(join(folder, entry.name), failures);
    }
  } catch (error) {
    // A task without output has no folder.
    if (systemCode(error) !== 'ENOENT' && systemCode(error) !== 'ENOTDIR') failures.push(error);
  }
}

/** What belongs to no record, or to one that has ended. Active tasks are judged by these files, so theirs stay. */
async function isDeadRunFile(name: string, { layout, records, unread }: SweepOptions): Promise<boolean> {
  const file = parseRunFileName(name);
  if (!file || !isTaskId(file.taskId)) return false;
  const { taskId, isClaim, isDraft } = file;
  if (isDraft) return true;
  if (unread.has(taskId)) return false;
  const record = records.get(taskId);
  if (!record) return true;
  // As long as there is a record, a void claim forbids its late supervisor to run.
  return isTerminal(record) && !(isClaim && (await mayBeVoid(new RunFiles(layout, taskId))));
}

async function mayBeVoid(files: RunFiles): Promise<boolean> {
  try {
    return (await files.readClaim()) === 'void';
  } catch {
    return true; // it cannot be read: it stays
  }
}

function remove(path: string, failures: unknown[]): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') failures.push(error);
  }
}
