/* What all process tasks of one manager share. */
import type { Clock } from '../clock.js';
import { asError } from '../errors.js';
import type { TaskFiles } from '../store/contract.js';
import type { RunFolderWatch } from '../store/run-folder.js';
import type { OwnerIdentity } from '../task/types.js';
import { Limiter } from '../util/limiter.js';
import { shareRuns } from '../util/share-runs.js';
import { openProcessTable } from './table/open-table.js';
import { PidNamespaces } from './table/pid-namespaces.js';
import type { ProcessTable } from './table/process-table.js';

/** Launches under way at once: each holds the output of its task open. */
const CONCURRENT_LAUNCHES = 16;

export interface ProcessHostOptions {
  readonly files: TaskFiles;
  readonly owner: OwnerIdentity;
  readonly clock: Clock;
  /** Something happened to this task on disk: look at it. */
  onHint(taskId: string): void;
  /** Something may have happened to any task: look at all that are active. */
  onHintAll(): void;
  onError(error: Error): void;
  /** Nothing is launched, watched or written, and the right to run is taken from no supervisor. */
  readonly isReadOnly?: boolean | undefined;
}

export class ProcessHost {
  readonly files: TaskFiles;
  readonly owner: OwnerIdentity;
  readonly clock: Clock;
  readonly table: ProcessTable;
  readonly namespaces: PidNamespaces;
  readonly isReadOnly: boolean;
  readonly #options: ProcessHostOptions;
  readonly #watch: RunFolderWatch;
  readonly #launches = new Limiter(CONCURRENT_LAUNCHES);
  #isClosed: boolean;

  constructor(options: ProcessHostOptions) {
    const { files, owner, clock, onError, isReadOnly = false } = options;
    this.files = files;
    this.owner = owner;
    this.clock = clock;
    this.table = openProcessTable(files.runFolder.path, clock);
    this.namespaces = new PidNamespaces(owner.pidNamespace, clock);
    this.isReadOnly = isReadOnly;
    this.#isClosed = isReadOnly;
    this.#options = options;
    this.#watch = files.runFolder.watch({
      onExit: (taskId) => {
        if (!this.#isClosed) options.onHint(taskId);
      },
      onFolderGone: () => {
        this.keepFolder().catch((error: unknown) => onError(asError(error)));
      },
      onError,
    });
  }

  /** The manager has ended, or never was: nothing begins any more. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** A few launches at once, in the order of the calls. */
  launch<T>(run: () => Promise<T>): Promise<T> {
    return this.#launches.run(run);
  }

  /** Watches the exit records from now on. Harmless when done twice. */
  watch(): void {
    if (!this.#isClosed) this.#watch.begin();
  }

  /**
   * Makes a run folder that was deleted again: the supervisors that live write their records into it, and others can
   * begin.
   */
  readonly keepFolder = shareRuns(async () => {
    if (this.#isClosed || !(await this.files.runFolder.remake())) return;
    this.#watch.renew();
    // What was written before the watch began is seen by a look.
    if (!this.#isClosed) this.#options.onHintAll();
  });

  close(): void {
    this.#isClosed = true;
    this.#watch.close();
  }
}
