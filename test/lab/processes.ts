/* The process table's own account of what runs. Linux only, as is what is said of processes. */
import { readdirSync, readFileSync, statSync } from 'node:fs';

export interface ProcessLine {
  readonly pid: number;
  /** The command line, its parts ended by NUL. */
  readonly args: string;
  /** The environment it was started with, likewise. */
  env(): string;
}

/** Everything that runs; zombies have no arguments and are left out. */
export function processes(): ProcessLine[] {
  const found: ProcessLine[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const args = read(`/proc/${name}/cmdline`);
    if (args) found.push({ pid: Number(name), args, env: () => `${read(`/proc/${name}/environ`)}\0` });
  }
  return found;
}

/** The pids of all whose command line holds this text. */
export function withArgument(text: string): number[] {
  return processes()
    .filter(({ args }) => args.includes(text))
    .map(({ pid }) => pid);
}

/** The ids of tasks of this directory whose supervisor runs; each once, though a subshell on its way to the command looks like it. */
export function supervisors(directory: string): string[] {
  const found = new Set<string>();
  for (const { args } of processes()) {
    const argv = args.split('\0');
    const at = argv.indexOf('holdfast');
    if (at > 0 && argv[at + 1] === `${directory}/.run`) found.add(argv[at + 2] ?? '');
  }
  return [...found];
}

/** Whether this pid is taken by something that has not ended. */
export function isAlive(pid: number): boolean {
  const [state = ''] = fieldsOf(pid);
  return !['', 'Z', 'X'].includes(state);
}

/** Whether it stands still (SIGSTOP). */
export function isStopped(pid: number): boolean {
  return fieldsOf(pid)[0] === 'T';
}

/** Whether it stands still, or is no more. */
export function isAtRest(pid: number): boolean {
  return !isAlive(pid) || isStopped(pid);
}

/** Whether what it prints went beyond so many bytes of a file, wherever that is now. */
export function isWriting(pid: number, bytes: number): boolean {
  try {
    return statSync(`/proc/${pid}/fd/1`).size > bytes;
  } catch {
    return false; // it ended
  }
}

/** State, parent and so on: what follows the program's name. */
function fieldsOf(pid: number): string[] {
  const stat = read(`/proc/${pid}/stat`);
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

export function childrenOf(pid: number): number[] {
  return processes()
    .map((one) => one.pid)
    .filter((child) => Number(fieldsOf(child)[1]) === pid);
}

/** SIGKILL; one that is gone already is none the worse. */
export function killHard(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Empty where the process, or the right to read of it, is gone. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
