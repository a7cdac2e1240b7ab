/*
 * A process with a store, driven by its parent over IPC: `{ call, name, args }` in, `{ call, ok, … }` out, events
 * without `call`.
 */
import { systemClock } from '../../src/clock.js';
import { BackgroundTaskError } from '../../src/errors.js';
import { type FileStore, openFileStore } from '../../src/store/file-store.js';
import { parseCurrentRecord, type TaskRecord } from '../../src/task/record.js';

let store: FileStore | undefined;

const calls: Record<string, (...args: never[]) => Promise<unknown>> = {
  async hello() {
    return process.pid;
  },
  async umask(mask: number) {
    process.umask(mask);
  },
  async open(directory: string, options: { fsync?: boolean; at?: number } = {}) {
    // So that several processes begin in the same millisecond.
    while (options.at !== undefined && Date.now() < options.at);
    store = await openFileStore({
      directory,
      fsync: options.fsync ?? false,
      clock: systemClock,
      parse: parseCurrentRecord,
      onFenced: (owner) => process.send?.({ event: 'fenced', owner }),
      onError: (error) => process.send?.({ event: 'error', message: error.message }),
    });
    return store.owner;
  },
  async load() {
    const { records, rejected } = await store!.load();
    return { records: records.length, rejected: rejected.length };
  },
  async put(record: TaskRecord) {
    await store!.put(record);
  },
  async putResult(taskId: string, result: string) {
    await store!.putResult(taskId, result);
  },
  async release() {
    await store!.release();
  },
  async shiftClock(ms: number) {
    const real = Date.now;
    Date.now = () => real() + ms;
  },
};

process.on('message', async ({ call, name, args }: { call: number; name: string; args: never[] }) => {
  try {
    process.send?.({ call, ok: true, value: await calls[name]!(...args) });
  } catch (error) {
    const { code, owner, message } = error as BackgroundTaskError;
    const isOurs = error instanceof BackgroundTaskError;
    process.send?.({ call, ok: false, code: isOurs ? code : 'UNEXPECTED', owner, message });
  }
});
process.on('disconnect', () => process.exit());
