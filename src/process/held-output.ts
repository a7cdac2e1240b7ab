import { closeSync, constants, fstatSync, lstatSync, openSync } from 'node:fs';
import type { OutputFile } from '../output/output-file.js';
import { systemCode } from '../util/system-error.js';

/** What a task can put where its output was: a FIFO would hold the thread that opens it, a link leads elsewhere. */
const FLAGS = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);
const NO_LINK = constants.O_NOFOLLOW ?? 0;

/**
 * The file that a task's output goes to. It is held open: a task can remove its `output.log`, or move it away, and
 * writes on all the same. Where it cannot be opened (too many files are open already), its size is that of the path.
 */
export class HeldOutput {
  readonly #path: string;
  #fd: number | undefined;

  private constructor(path: string, fd: number | undefined) {
    this.#path = path;
    this.#fd = fd;
  }

  /** The caller closes it. Never throws for a file that is not there. */
  static open({ path }: OutputFile): HeldOutput {
    return new HeldOutput(path, regular(path, NO_LINK));
  }

  /**
   * What a process prints to, whatever has become of the path; `undefined` where that cannot be opened. The caller
   * closes it.
   */
  static ofProcess(pid: number, { path }: OutputFile): HeldOutput | undefined {
    const fd = regular(`/proc/${pid}/fd/1`);
    return fd === undefined ? undefined : new HeldOutput(path, fd);
  }

  /** In bytes; `undefined`: there is no such file. */
  size(): number | undefined {
    this.#fd ??= regular(this.#path, NO_LINK);
    if (this.#fd !== undefined) return fstatSync(this.#fd).size;
    try {
      const found = lstatSync(this.#path);
      return found.isFile() ? found.size : undefined;
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** What to watch: the file itself, where the system has a name for what is open. */
  get watched(): string {
    return this.#fd !== undefined && process.platform === 'linux' ? `/proc/self/fd/${this.#fd}` : this.#path;
  }

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** A reason not to open it also shows where its size is asked for, or does not matter there. */
function regular(path: string, flags = 0): number | undefined {
  let fd: number;
  try {
    fd = openSync(path, FLAGS | flags);
  } catch (error) {
    if (systemCode(error) !== undefined) return undefined;
    throw error;
  }
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  return undefined;
}
