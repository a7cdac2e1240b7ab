/* How a manager stands, and how it is to end. */
import type { ReconcileReport } from '../events.js';
import type { OwnerIdentity } from '../task/types.js';
import type { StopOptions } from './task/stopping.js';

/** What `status()` gives: counts, slots, the last pass, and who this manager is. */
export interface ManagerStatus {
  readonly running: number;
  readonly queued: number;
  readonly waiting: number;
  readonly terminal: number;
  /**
   * `limit` is `Infinity` where there is none, and what a function as `maxRunningTasks` says now: 0 where it fails, because nothing can
   * begin then (`status()` does not throw for it), and its last answer where it calls `status()` itself. Adopted and detached tasks may
   * push `used` beyond it.
   */
  readonly slots: { readonly used: number; readonly limit: number };
  /** `at`: when the last pass ended, in milliseconds since the epoch. `null`: none has ended yet. */
  readonly lastReconcile: { readonly at: number; readonly report: ReconcileReport } | null;
  readonly owner: OwnerIdentity;
}

/** How to close. The stop options are for the tasks that closing ends. */
export interface CloseOptions extends StopOptions {
  /** `'leave'` (default): detached work that outlives the host runs on. `'stop'`: everything is stopped. */
  tasks?: 'leave' | 'stop' | undefined;
}
