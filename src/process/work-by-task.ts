/*
 * For a lifecycle that does not attach work to its tasks: finds the work by the id of the task. Goes with that
 * lifecycle.
 */
import type { StartContext } from '../task/kind.js';
import type { AnyTask, ProcessDetails, ProcessTask } from '../task/types.js';
import type { ProcessInput } from './process-spec.js';
import type { ProcessWork } from './process-work.js';
import type { ProcessProbe } from './supervisor/outcome.js';

export class WorkByTask {
  readonly #attach: (taskId: string) => ProcessWork;
  readonly #works = new Map<string, ProcessWork>();

  constructor(attach: (taskId: string) => ProcessWork) {
    this.#attach = attach;
  }

  start(context: StartContext<ProcessDetails>, input: ProcessInput | undefined): Promise<Partial<ProcessDetails>> {
    return this.#of(context.taskId).start(context as typeof context & { readonly task: AnyTask }, input);
  }

  probe(task: ProcessTask): Promise<ProcessProbe> {
    return this.#of(task.taskId).probe(task);
  }

  stop(task: ProcessTask, how: 'terminate' | 'kill'): Promise<void> {
    return this.#of(task.taskId).stop(task, how);
  }

  async settled(task: ProcessTask): Promise<void> {
    const work = this.#of(task.taskId);
    this.#works.delete(task.taskId);
    await work.settled(task);
    await work.dispose(task.stop !== undefined);
  }

  taskIds(): string[] {
    return [...this.#works.keys()];
  }

  async quiesce(): Promise<void> {
    await Promise.all([...this.#works.values()].map((work) => work.quiesce()));
  }

  async dispose(hasStop: (taskId: string) => boolean): Promise<void> {
    await Promise.all([...this.#works].map(([taskId, work]) => work.dispose(hasStop(taskId))));
  }

  #of(taskId: string): ProcessWork {
    let work = this.#works.get(taskId);
    if (!work) {
      work = this.#attach(taskId);
      this.#works.set(taskId, work);
    }
    return work;
  }
}
