import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { ANCESTORS_VARIABLE, MarkReader, TASK_VARIABLE } from './marks.js';
import { type CommandLine, type ProcessRow, type ProcessTable, Snapshot } from './process-table.js';

const run = promisify(execFile);

const MAX_BYTES = 256 * 1024 * 1024;

/** pid, ppid, pgid, session, state, start ("Sat Nov 21 10:29:08 2026"), command line. */
const line = /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+(\S+\s+\S+\s+\d+\s+[\d:]+\s+\d+)(?:\s+(.*))?$/;

const ancestorsIn = new RegExp(`(?:^|\\s)${ANCESTORS_VARIABLE}=(\\S+)`);

/**
 * The process table by way of `ps`, for systems without /proc. Written for macOS and the BSDs and never run there; what
 * it parses was tried with the ps of Linux. A start has the precision of a second, and macOS does not say which session
 * a process belongs to: there its group stands for it. A mark is also seen where it is only part of a command line.
 */
export class PsTable implements ProcessTable {
  readonly #marks: MarkReader;
  readonly #mark: RegExp;
  readonly #darwin: boolean;

  constructor(runDir: string, platform: NodeJS.Platform = process.platform) {
    this.#darwin = platform === 'darwin';
    this.#marks = new MarkReader(runDir);
    this.#mark = new RegExp(`(?:^|\\s)${TASK_VARIABLE}=${escapeRegExp(this.#marks.own)}(\\S+)`);
  }

  async snapshot(): Promise<Snapshot> {
    const withEnvironment = this.#darwin ? ['-AEww'] : ['axeww'];
    const rows = [];
    for (const text of (await this.#ps([...withEnvironment, '-o', this.#columns()])).split('\n')) {
      const parsed = parse(text);
      if (parsed) rows.push({ ...parsed.row, taskId: this.#taskIn(parsed.command) });
    }
    return new Snapshot(rows);
  }

  async row(pid: number): Promise<ProcessRow | undefined> {
    return parse(await this.#ps(['-ww', '-o', this.#columns(), '-p', `${pid}`]))?.row;
  }

  async commandLine(pid: number): Promise<CommandLine | undefined> {
    const text = (await this.#ps(['-ww', '-o', 'args=', '-p', `${pid}`])).trim();
    return text === '' ? undefined : { text, separator: ' ' };
  }

  async commandLines(): Promise<ReadonlyMap<number, CommandLine>> {
    const lines = new Map<number, CommandLine>();
    for (const text of (await this.#ps([this.#darwin ? '-Aww' : 'axww', '-o', 'pid=,args='])).split('\n')) {
      const [, pid, args] = /^\s*(\d+)\s+(.*\S)\s*$/.exec(text) ?? [];
      if (pid && args) lines.set(Number(pid), { text: args, separator: ' ' });
    }
    return lines;
  }

  /** Not without a program of its own (`lsof`). */
  printsTo(): boolean {
    return false;
  }

  now(): number {
    return Number.NaN;
  }

  #taskIn(command: string): string | undefined {
    const own = this.#mark.exec(command)?.[1];
    if (own !== undefined) return own;
    const ancestors = ancestorsIn.exec(command)?.[1];
    return ancestors === undefined ? undefined : this.#marks.innermost(ancestors);
  }

  #columns(): string {
    return `pid=,ppid=,pgid=,${this.#darwin ? 'pgid' : 'sid'}=,stat=,lstart=,args=`;
  }

  async #ps(args: readonly string[]): Promise<string> {
    // The C locale would show every byte beyond ASCII as a question mark, and other locales have other names of months.
    const env = { ...process.env, LC_ALL: this.#darwin ? 'en_US.UTF-8' : 'C.UTF-8' };
    try {
      return (await run('ps', [...args], { maxBuffer: MAX_BYTES, env })).stdout;
    } catch (error) {
      // ps ends with 1 where there is no such process.
      if ((error as { code?: unknown }).code === 1) return '';
      throw error;
    }
  }
}

function parse(text: string): { row: ProcessRow; command: string } | undefined {
  const [, pid, ppid, pgid, session, state = 'Z', start = '', command = ''] = line.exec(text.trimEnd()) ?? [];
  if (state.startsWith('Z')) return undefined;
  const isStopped = state.startsWith('T');
  const row = { pid: Number(pid), ppid: Number(ppid), pgid: Number(pgid), session: Number(session), start, isStopped };
  return { row, command };
}

function escapeRegExp(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
