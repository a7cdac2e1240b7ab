import { closeSync, lstatSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import type { Clock } from '../../clock.js';
import { shareRuns } from '../../util/share-runs.js';
import { Slices } from '../../util/slices.js';
import { systemCode } from '../../util/system-error.js';
import { ANCESTORS_VARIABLE, MarkReader, TASK_VARIABLE } from './marks.js';
import { type CommandLine, keyOf, type ProcessRow, type ProcessTable, Snapshot } from './process-table.js';

/** Enough for a supervisor's own arguments, with the longest path there can be. */
const COMMAND_LINE_BYTES = 16 * 1024;
const ANCESTORS = Buffer.from(`${ANCESTORS_VARIABLE}=`);
const ENVIRON_BYTES = 128 * 1024;

/** Enough, unless processes are born faster than they can be read. */
const MAX_PASSES = 100;
/**
 * A process between two programs is waited for: an exec takes microseconds, on a busy machine until its next turn, and
 * on one that stands still for a moment as long as that. A process that shows nothing for so long hangs, for instance
 * in its end.
 */
const PAUSE_MS = 1;
const MAX_PAUSES = 2_000;
/** The process whose children are the kernel's own threads. */
const KERNEL = 2;

/** The process ended meanwhile, or is another user's: not ours to see. */
const invisible = ['ENOENT', 'ESRCH', 'EACCES', 'EPERM'];

/** For tests: a process that is held between two programs cannot be had. */
export interface ProcSource {
  readonly root: string;
  pause(): Promise<unknown>;
}

/** Not by the injected clock: it is another process that needs the time. */
const system: ProcSource = { root: '/proc', pause: () => setTimeout(PAUSE_MS) };

/** The process table of Linux. Reads are synchronous, a few microseconds each; scans are cut into slices. */
export class ProcTable implements ProcessTable {
  readonly #clock: Clock;
  readonly #marks: MarkReader;
  readonly #mark: Buffer;
  readonly #scan: () => Promise<void>;
  readonly #source: ProcSource;
  /** Processes that were waited for in vain: once is enough. */
  #hanging: ReadonlySet<string> = new Set();
  #latest = new Snapshot([]);
  #buffer = Buffer.allocUnsafe(ENVIRON_BYTES);

  constructor(runDir: string, clock: Clock, source = system) {
    this.#clock = clock;
    this.#source = source;
    this.#marks = new MarkReader(runDir);
    this.#mark = Buffer.from(`${TASK_VARIABLE}=${this.#marks.own}`);
    this.#scan = shareRuns(async () => {
      this.#latest = await this.#read();
    });
  }

  async snapshot(): Promise<Snapshot> {
    await this.#scan();
    return this.#latest;
  }

  row(pid: number): ProcessRow | undefined {
    const text = this.#file(pid, 'stat', COMMAND_LINE_BYTES)?.toString('latin1');
    if (text === undefined) return undefined;
    // The second field is the program's name in parentheses, which may itself hold spaces and parentheses.
    const [state, ppid, pgid, session, ...rest] = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const start = rest[15];
    if (start === undefined || state === 'Z' || state === 'X') return undefined;
    const isStopped = state === 'T';
    return { pid, ppid: Number(ppid), pgid: Number(pgid), session: Number(session), start, isStopped };
  }

  commandLine(pid: number): CommandLine | undefined {
    const bytes = this.#file(pid, 'cmdline', COMMAND_LINE_BYTES);
    return bytes && bytes.length > 0 ? { text: bytes.toString(), separator: '\0' } : undefined;
  }

  async commandLines(): Promise<ReadonlyMap<number, CommandLine>> {
    const slices = new Slices(this.#clock);
    const lines = new Map<number, CommandLine>();
    for (const pid of this.#pids()) {
      await slices.pause();
      const line = this.commandLine(pid);
      if (line) lines.set(pid, line);
    }
    return lines;
  }

  printsTo(pid: number, path: string): boolean {
    const file = unlessInvisible(() => lstatSync(path));
    if (!file?.isFile()) return false;
    return [1, 2].some((fd) => {
      const printed = unlessInvisible(() => statSync(`${this.#source.root}/${pid}/fd/${fd}`));
      return printed?.ino === file.ino && printed.dev === file.dev;
    });
  }

  now(): number {
    try {
      // Seconds with two decimals; a tick is a hundredth of a second wherever Node runs.
      return Math.round(Number.parseFloat(readFileSync('/proc/uptime', 'latin1')) * 100);
    } catch {
      // Too many open files, say: then starts are not compared, and fewer processes are believed to be ours.
      return Number.NaN;
    }
  }

  /**
   * A list of processes is old before it is read: one that ends in between may have left a child that is not on it. So
   * they are listed again, and the new ones are read, until there are none.
   */
  async #read(): Promise<Snapshot> {
    const slices = new Slices(this.#clock);
    const rows = new Map<number, ProcessRow>();
    const seen = new Set<number>();
    let passes = 0;
    let pauses = 0;
    for (let pids = this.#pids(); pids.length > 0; pids = this.#pids().filter((pid) => !seen.has(pid))) {
      for (const pid of pids) {
        await slices.pause();
        const row = this.row(pid);
        // The environment after the start time: should the pid change hands in between, the start time is the one that
        // no longer fits.
        const environ = row && this.#environ(row);
        if (row) rows.set(pid, { ...row, taskId: environ ? this.#taskIn(environ) : undefined });
        else rows.delete(pid);
        if (environ !== null || (row && this.#hanging.has(keyOf(row)))) seen.add(pid);
      }
      const isComplete = pids.every((pid) => seen.has(pid));
      if (isComplete ? ++passes === MAX_PASSES : ++pauses === MAX_PAUSES) break;
      if (!isComplete) await this.#source.pause();
    }
    const untold = [...rows.values()].filter((row) => !seen.has(row.pid));
    const hanging = [...rows.values()].filter((row) => this.#hanging.has(keyOf(row)));
    this.#hanging = new Set([...untold, ...hanging].map(keyOf));
    return new Snapshot(rows.values(), untold.length === 0);
  }

  /**
   * `null`: not yet. A process that begins another program has neither arguments nor environment for a moment; the
   * kernel's own threads never have.
   */
  #environ({ pid, ppid }: ProcessRow): Buffer | undefined | null {
    const read = () => this.#file(pid, 'environ', Number.POSITIVE_INFINITY);
    const environ = read();
    if (environ?.length !== 0 || pid === KERNEL || ppid === KERNEL) return environ;
    // With arguments it has begun by now, or cleared its environment.
    return this.#file(pid, 'cmdline', 1)?.length === 0 ? null : read();
  }

  /** The task whose mark is in this environment, the innermost where there are several. */
  #taskIn(environ: Buffer): string | undefined {
    const own = restOf(environ, this.#mark);
    if (own !== undefined) return own;
    const ancestors = restOf(environ, ANCESTORS);
    return ancestors === undefined ? undefined : this.#marks.innermost(ancestors);
  }

  /** Valid until the next call: the buffer is shared. */
  #file(pid: number, name: string, maxBytes: number): Buffer | undefined {
    let fd: number | undefined;
    try {
      fd = openSync(`${this.#source.root}/${pid}/${name}`, 'r');
      let length = 0;
      while (length < maxBytes) {
        if (length === this.#buffer.length) this.#buffer = Buffer.concat([this.#buffer], length * 2);
        const count = readSync(fd, this.#buffer, length, Math.min(this.#buffer.length, maxBytes) - length, null);
        if (count === 0) break;
        length += count;
        // stat and the command lines that matter come whole.
        if (name === 'stat') break;
      }
      return this.#buffer.subarray(0, length);
    } catch (error) {
      if (invisible.includes(systemCode(error) ?? '')) return undefined;
      throw error;
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }

  #pids(): number[] {
    return readdirSync(this.#source.root)
      .map(Number)
      .filter((pid) => Number.isInteger(pid));
  }
}

/** What follows `prefix` in the variable that begins with it. */
function restOf(environ: Buffer, prefix: Buffer): string | undefined {
  for (let at = environ.indexOf(prefix); at >= 0; at = environ.indexOf(prefix, at + 1)) {
    if (at > 0 && environ[at - 1] !== 0) continue;
    const begin = at + prefix.length;
    const end = environ.indexOf(0, begin);
    return environ.toString('utf8', begin, end < 0 ? environ.length : end);
  }
  return undefined;
}

function unlessInvisible<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (invisible.includes(systemCode(error) ?? '')) return undefined;
    throw error;
  }
}
