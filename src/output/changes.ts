import { type FSWatcher, watch } from 'node:fs';
import { basename, dirname } from 'node:path';

/** Something that can be watched, and the name in it that matters; none: all of it does. */
interface Place {
  readonly path: string;
  readonly name?: string;
}

/**
 * Hints that a file may have changed, from as close to it as can be watched: itself, or the folders in which it and its
 * folder will appear. Hints can be missed and can come for nothing: the caller's timer is the truth. Holds no process;
 * must be closed.
 */
export class Changes {
  /** The closest first. */
  readonly #places: readonly Place[];
  readonly #hint: () => void;
  #watcher: FSWatcher | undefined;
  /** The index of the place that is watched. */
  #watched: number;

  constructor(path: string, hint: () => void) {
    const folder = dirname(path);
    this.#places = [
      { path },
      { path: folder, name: basename(path) },
      { path: dirname(folder), name: basename(folder) },
    ];
    this.#watched = this.#places.length;
    this.#hint = hint;
  }

  /**
   * Watches closer to the file where that has become possible; answers whether it did, and changes may have been missed
   * before.
   */
  approach(): boolean {
    for (const [index, place] of this.#places.slice(0, this.#watched).entries()) {
      const watcher = this.#watch(place);
      if (!watcher) continue;
      this.#watcher?.close();
      this.#watcher = watcher;
      this.#watched = index;
      return true;
    }
    return false;
  }

  close(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#watched = 0;
  }

  #watch({ path, name }: Place): FSWatcher | undefined {
    try {
      const watcher = watch(path, { persistent: false }, (_event, changed) => {
        if (name === undefined || changed === null || changed === name) this.#hint();
      });
      // A watcher that breaks gives no more hints.
      watcher.on('error', () => watcher.close());
      return watcher;
    } catch {
      return undefined; // it does not exist yet, or the system has no watchers left
    }
  }
}
