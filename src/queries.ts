/* What a manager answers from memory. */
import type { ReconcileReport } from './events.js';
import { callOptions } from './lifecycle/call-options.js';
import type { Opened } from './lifecycle/opening.js';
import type { Parts } from './lifecycle/parts.js';
import type { ManagerStatus } from './lifecycle/status.js';
import { Notifications } from './notifications.js';
import { byPredicate, checkOptions, type ListPage, type TaskFilter, type TaskSelector } from './task/filter.js';
import { taskIdOf } from './task/id.js';
import type { AnyTaskKind, KindName, SameTask, Task, TaskNamed } from './task/kind.js';
import type { TaskRef } from './task/types.js';

/** The tasks of a manager as they are now, and how it stands. */
export abstract class Queries<K extends AnyTaskKind = never> extends Notifications<K> {
  readonly #parts: Parts;
  readonly #firstPass: ReconcileReport;

  /** `opened` is no part of the declarations: its type would bring along everything inside. @internal */
  protected constructor(opened: unknown) {
    super(opened);
    const { parts, firstPass } = (opened ?? {}) as Opened;
    this.#parts = parts;
    this.#firstPass = firstPass;
  }

  /**
   * The task as it is now, from memory; `undefined` where there is none of this id. Throws `INVALID_TASK_ID`.
   *
   * Like every call that takes a task, it takes its id or the task itself, as any snapshot has it; then the answer keeps its type.
   */
  getTask<T extends TaskRef>(task: T): SameTask<K, T> | undefined {
    this.#parts.lifetime.assertOpen();
    return this.#parts.table.get(taskIdOf(task))?.view as SameTask<K, T> | undefined;
  }

  /**
   * Tasks from memory, newest first unless `order` is `'oldest'`, with `limit` and `after` for pages. Foreground tasks are left out unless
   * `includeForeground`, or where the filter is a function, which decides by itself. Throws `INVALID_SPEC`, `TASK_NOT_FOUND` for a cursor
   * that is gone, and what a function of the filter throws.
   */
  listTasks<N extends KindName<K>>(
    filter: TaskFilter<N, TaskNamed<K, N>> & { kind: N | readonly N[] } & ListPage,
  ): readonly TaskNamed<K, N>[];
  listTasks<T extends Task<K>>(filter: (task: Task<K>) => task is T): readonly T[];
  listTasks(filter?: (TaskFilter<string, Task<K>> & ListPage) | ((task: Task<K>) => boolean)): readonly Task<K>[];
  listTasks(given?: (TaskFilter<any, any> & ListPage) | ((task: any) => boolean)): readonly never[] {
    this.#parts.lifetime.assertOpen();
    const { order, limit, after, ...filter } = checkOptions(callOptions.listTasks, filterOf(given), 'listTasks');
    return this.#parts.table.list(filter, limit ?? Number.POSITIVE_INFINITY, after, order) as never;
  }

  /**
   * What the first pass found, which was over before `open` resolved: for a host that has to say so before the next macrotask, when the
   * events of that pass come (`task:adopted`, `task:settled`, `manager:reconciled` with this same report). It is durable, but for `failures`:
   * the tasks whose probe failed, and those that run on and could not be put on record as this manager's. They are as they were, and the
   * next pass looks again. What the report does not have is told by events: records that could not be read (`record:rejected`), outcomes
   * that could not be written, and a `recover` that failed (`error`). Frozen; it never changes, and `close` does not end it.
   */
  get opened(): ReconcileReport {
    return this.#firstPass;
  }

  /** How the manager stands, from memory. */
  status(): ManagerStatus {
    this.#parts.lifetime.assertOpen();
    return this.#parts.status();
  }
}

function filterOf(given: TaskSelector<any> | undefined): TaskFilter | undefined {
  return typeof given === 'function' ? byPredicate(given) : given;
}
