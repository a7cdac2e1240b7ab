/* The output of one task: the only way to it outside the store. */
import { chmod, type FileHandle, mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { openToAppend } from '../util/bounded-file.js';
import { OutputLog, type OutputLogOptions } from './append.js';
import { type FollowOptions, followFile } from './follow.js';
import type { OutputWindow, ReadOutputOptions } from './types.js';
import { type ReadWindowContext, readWindow } from './window.js';

export class OutputFile {
  /** Absolute. */
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /**
   * Makes the file, mode 0600, and its folder, mode 0700, where they are missing. The umask may take rights away that
   * we need.
   */
  async prepare(): Promise<void> {
    const folder = dirname(this.path);
    if (await mkdir(folder, { recursive: true, mode: 0o700 })) await chmod(folder, 0o700);
    const file = await openToAppend(this.path);
    try {
      await file.chmod(0o600);
    } finally {
      await file.close();
    }
  }

  /** For a child process to write to. The caller closes it. */
  openToAppend(): Promise<FileHandle> {
    return openToAppend(this.path);
  }

  /** Adds to it from this process. The caller closes the log. */
  log(options?: OutputLogOptions): OutputLog {
    return new OutputLog(this.path, options);
  }

  /** A part of it. Throws `INVALID_SPEC` or `STORAGE_FAILED`. */
  read(options?: ReadOutputOptions, context?: ReadWindowContext): Promise<OutputWindow> {
    return readWindow(this.path, options, context);
  }

  /** What is there, then what comes. */
  follow(options: Omit<FollowOptions, 'path'>): AsyncGenerator<string, void, undefined> {
    return followFile({ ...options, path: this.path });
  }
}
