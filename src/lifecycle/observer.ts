/* What follows from the steps of a task for the manager as a whole. */
import type { Outbox } from '../hooks/outbox.js';
import type { Lifetime } from './lifetime.js';
import type { Reconciler } from './reconciler.js';
import type { Retention } from './retention.js';
import type { TaskTable } from './table.js';
import type { TaskObserver } from './task/subject.js';
import type { Task } from './task/task.js';
import type { Waits } from './waits.js';

interface Needs {
  readonly table: TaskTable<Task>;
  readonly waits: Waits;
  readonly retention: Retention;
  readonly outbox: Outbox;
  readonly reconciler: Reconciler;
  readonly lifetime: Lifetime;
}

export class Observer implements TaskObserver<Task> {
  readonly #needs: Needs;

  constructor(needs: Needs) {
    this.#needs = needs;
  }

  written(task: Task): void {
    const { table, reconciler } = this.#needs;
    table.put(task);
    reconciler.schedule();
  }

  changed(task: Task): void {
    this.#needs.waits.notify(task);
  }

  owes(task: Task): void {
    this.#needs.outbox.offer(task.record);
  }

  ended(task: Task): void {
    const { retention, lifetime } = this.#needs;
    retention.ended(task);
    lifetime.inBackground(retention.enforce(), task.taskId);
  }

  removed(task: Task): void {
    const { table, retention } = this.#needs;
    table.remove(task);
    retention.removed(task);
  }
}
