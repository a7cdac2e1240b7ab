import mitt from 'mitt';
import { asError, BackgroundTaskError } from './errors.js';
import type { AnyTaskKind, Task } from './task/kind.js';
import type { OwnerIdentity } from './task/types.js';

/** What one pass over the active tasks found. Ids, but for `checked`, which counts. */
export interface ReconcileReport {
  readonly checked: number;
  readonly settled: readonly string[];
  readonly adopted: readonly string[];
  readonly lost: readonly string[];
  readonly failures: readonly { readonly taskId: string; readonly error: Error }[];
}

/** Every event and its payload. */
export type BackgroundTaskEvents<K extends AnyTaskKind = never> = {
  'task:queued': { task: Task<K> };
  'task:started': { task: Task<K> };
  'task:updated': { task: Task<K> };
  'task:progress': { task: Task<K> };
  'task:waiting': { task: Task<K> };
  'task:resumed': { task: Task<K> };
  'task:detached': { task: Task<K>; byTimeout: boolean };
  'task:stopping': { task: Task<K> };
  'task:adopted': { task: Task<K> };
  'task:settled': { task: Task<K> };
  'task:pruned': { taskId: string };
  'hook:delivered': { task: Task<K>; hook: string; attempt: number };
  'hook:retrying': { task: Task<K>; hook: string; attempt: number; error: Error; nextAttemptAt: number };
  'hook:failed': { task: Task<K>; hook: string; attempt: number; error: Error };
  'record:rejected': { path: string; movedTo: string | null; reason: string };
  'manager:reconciled': { report: ReconcileReport };
  'manager:fenced': { owner: OwnerIdentity | null };
  error: { error: BackgroundTaskError; taskId?: string };
};

/** STUB: replaced by the output engineer. */
export class EventHub {
  readonly #mitt = mitt<any>();
  #held: [string, unknown][] | undefined;
  on(event: string, listener: any): () => void {
    const call = event === '*' ? (name: any, payload: any) => listener(name, payload) : listener;
    this.#mitt.on(event as never, call);
    return () => this.#mitt.off(event as never, call);
  }
  once(event: string, listener: any): () => void {
    const off = this.on(event, (payload: any) => {
      off();
      listener(payload);
    });
    return off;
  }
  off(event: string, listener: any): void {
    this.#mitt.off(event as never, listener);
  }
  emit<E extends keyof BackgroundTaskEvents>(event: E, payload: BackgroundTaskEvents[E]): void {
    if (this.#held) this.#held.push([event, payload]);
    else this.#mitt.emit(event as never, payload as never);
  }
  hold() {
    this.#held = [];
  }
  release() {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const [event, payload] of held) this.emit(event as never, payload as never);
  }
}
void asError;
void BackgroundTaskError;
