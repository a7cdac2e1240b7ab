import { readlinkSync } from 'node:fs';
import type { Clock } from '../../clock.js';
import { systemCode } from '../../util/system-error.js';
import { ProcTable } from './proc-table.js';
import { type ProcessTable, Snapshot } from './process-table.js';
import { PsTable } from './ps-table.js';

/** The table of this system. Marks are those of tasks below `runDir`. */
export function openProcessTable(runDir: string, clock: Clock): ProcessTable {
  if (process.platform !== 'linux') return new PsTable(runDir);
  return isProcOurs() ? new ProcTable(runDir, clock) : blindTable;
}

/**
 * A /proc that is missing, or mounted for another pid namespace, counts other pids than the ones that signals are sent
 * to.
 */
function isProcOurs(): boolean {
  try {
    return Number(readlinkSync('/proc/self')) === process.pid;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}

/**
 * Sees nothing, so that nothing is believed and nothing is signalled because of it. What is left are our own children
 * and their groups.
 */
const blindTable: ProcessTable = {
  snapshot: async () => new Snapshot([]),
  row: () => undefined,
  commandLine: () => undefined,
  commandLines: () => Promise.resolve(new Map()),
  printsTo: () => false,
  now: () => Number.NaN,
};
