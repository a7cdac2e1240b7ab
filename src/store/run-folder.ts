/* The folder of all supervisors' files. */
import { type FSWatcher, watch } from 'node:fs';
import { basename } from 'node:path';
import { asError } from '../errors.js';
import { remakeRunFolder } from './folders.js';
import type { Layout } from './layout.js';

const EXIT_SUFFIX = '.exit';

/** Told what a watch sees. */
export interface RunFolderListener {
  /** The exit record of this task may have changed. */
  onExit(taskId: string): void;
  /** The folder was deleted or moved: nothing is seen any more before {@link RunFolderWatch.renew}. */
  onFolderGone(): void;
  onError(error: Error): void;
}

export class RunFolder {
  readonly #layout: Layout;

  constructor(layout: Layout) {
    this.#layout = layout;
  }

  /** Absolute: a part of each supervisor's command line and of the mark that its processes carry. */
  get path(): string {
    return this.#layout.runDir;
  }

  /** Makes the folder again where it was deleted; answers whether it had been. */
  remake(): Promise<boolean> {
    return remakeRunFolder(this.#layout);
  }

  /** A watch that has not begun yet. */
  watch(listener: RunFolderListener): RunFolderWatch {
    return new RunFolderWatch(this.path, listener);
  }
}

/**
 * One watcher for the exit records of all tasks. It can miss and can fail: it only makes things faster. Never holds the
 * process.
 */
export class RunFolderWatch {
  readonly #folder: string;
  readonly #listener: RunFolderListener;
  #watcher: FSWatcher | undefined;
  #begun = false;

  constructor(folder: string, listener: RunFolderListener) {
    this.#folder = folder;
    this.#listener = listener;
  }

  /** Harmless when done twice. A watcher that failed is not tried again. */
  begin(): void {
    if (this.#begun) return;
    this.#begun = true;
    try {
      const self = basename(this.#folder);
      this.#watcher = watch(this.#folder, { persistent: false }, (event, name) => {
        if (name?.endsWith(EXIT_SUFFIX)) this.#listener.onExit(name.slice(0, -EXIT_SUFFIX.length));
        else if (event === 'rename' && name === self) this.#listener.onFolderGone();
      });
      this.#watcher.on('error', (error) => this.#failed(error));
    } catch (error) {
      this.#failed(error);
    }
  }

  /** The folder is another one than before. */
  renew(): void {
    if (!this.#watcher) return;
    this.close();
    this.#begun = false;
    this.begin();
  }

  close(): void {
    this.#begun = true;
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  #failed(error: unknown): void {
    this.close();
    this.#listener.onError(asError(error));
  }
}
