/* What a manager is, told in a page: the state machine and the counting of slots, without disk, time or processes. */

export interface ModelTask {
  status: 'queued' | 'running' | 'waiting' | 'completed' | 'failed' | 'killed' | 'lost';
  /** An agent is in-process work that its kind can take up again. */
  readonly kind: 'function' | 'agent' | 'process';
  detached: boolean;
  metadata: Record<string, number>;
  /** The state of its one delivery, to an inbox; nothing where it owes none. */
  inbox: 'pending' | 'delivered' | 'skipped' | undefined;
  answer: number | undefined;
  attempt: number;
}

export class Model {
  /** In the order of their registration. */
  readonly tasks = new Map<string, ModelTask>();
  readonly limit: number;
  reserved = 0;
  #ids = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  /** Never one that was there before. */
  newId(): string {
    // Of the same millisecond are listed by their ids after a restart.
    return `t${String(++this.#ids).padStart(3, '0')}`;
  }

  get used(): number {
    return this.reserved + this.ids((task) => task.detached && isAtWork(task)).length;
  }

  get isFull(): boolean {
    return this.used >= this.limit;
  }

  /** The ids of the tasks that a step can be about, oldest first. */
  ids(test: (task: ModelTask) => boolean): string[] {
    return [...this.tasks].filter(([, task]) => test(task)).map(([taskId]) => taskId);
  }

  add(taskId: string, { kind, detached, owes }: { kind: ModelTask['kind']; detached: boolean; owes: boolean }): void {
    const status = detached && this.isFull ? 'queued' : 'running';
    this.tasks.set(taskId, {
      status,
      kind,
      detached,
      metadata: {},
      inbox: owes ? 'pending' : undefined,
      answer: undefined,
      attempt: 1,
    });
  }

  end(taskId: string, status: 'completed' | 'failed' | 'killed'): void {
    const task = this.get(taskId);
    task.status = status;
    if (!task.detached && task.inbox === 'pending') task.inbox = 'skipped';
    this.#startQueued();
  }

  detach(taskId: string): void {
    this.get(taskId).detached = true;
  }

  reserve(): void {
    this.reserved++;
  }

  release(): void {
    this.reserved--;
    this.#startQueued();
  }

  /**
   * Closed and opened again. Background processes run on, agents are taken up again, and what is queued stays so; but the `run` of a function is
   * on no record. Everything else that was at work has ended, and reserved slots are gone.
   */
  restart(): void {
    this.reserved = 0;
    for (const task of this.tasks.values()) {
      if (task.status === 'queued') {
        if (task.kind === 'function') task.status = 'lost';
      } else if (isAtWork(task) && task.kind === 'agent' && task.detached) {
        task.status = 'running';
        task.attempt++;
      } else if (isAtWork(task) && !(task.kind === 'process' && task.detached)) {
        task.status = 'killed';
        if (!task.detached && task.inbox === 'pending') task.inbox = 'skipped';
      }
    }
    this.#startQueued();
  }

  /** Ended ones whose delivery is not owed any more. */
  prune(): string[] {
    const pruned = this.ids((task) => !isActive(task) && task.inbox !== 'pending');
    for (const taskId of pruned) this.tasks.delete(taskId);
    return pruned;
  }

  get(taskId: string): ModelTask {
    return this.tasks.get(taskId)!;
  }

  #startQueued(): void {
    for (const taskId of this.ids(({ status }) => status === 'queued')) {
      if (this.isFull) return;
      this.get(taskId).status = 'running';
    }
  }
}

export const isActive = ({ status }: ModelTask): boolean => status === 'queued' || isAtWork({ status });
export const isAtWork = ({ status }: Pick<ModelTask, 'status'>): boolean =>
  status === 'running' || status === 'waiting';
