/* Wants to own a directory, does as it is told, and lives by a clock that is set as it is told. */
import { BackgroundTaskManager } from 'holdfast';
import { say, told } from './kit.mjs';

const realNow = Date.now;
let jump = 0;
Date.now = () => realNow() + jump;

let manager;
let tasks = 0;
const heard = [];

const orders = {
  async open({ directory, options }) {
    manager = undefined;
    manager = await BackgroundTaskManager.open({ directory, fsync: false, reconcileIntervalMs: 20, ...options });
    manager.on('manager:fenced', () => heard.push('fenced'));
    return { won: true };
  },
  /** Long enough to be there while others try. */
  async work({ prefix, ms }) {
    const run = () => new Promise((resolve) => setTimeout(resolve, ms));
    const command = `sleep ${ms / 1000}; exit 4`;
    await manager.registerTask({ kind: 'function', taskId: `${prefix}-function`, description: 'returns', run });
    await manager.registerTask({ kind: 'process', taskId: `${prefix}-process`, description: 'exits with 4', command });
    return { working: true };
  },
  async write() {
    await manager.registerTask({
      kind: 'function',
      taskId: `w${process.pid}-${++tasks}`,
      description: 'a write',
      run: () => tasks,
    });
    return { wrote: true };
  },
  async outcome() {
    const idle = await manager.waitForIdle({ timeoutMs: 20_000 });
    return { idle, heard, tasks: manager.listTasks().map(({ taskId, status }) => ({ taskId, status })) };
  },
  async clock({ by }) {
    jump = by;
    return { report: manager && (await manager.reconcile()) };
  },
  async close() {
    await manager.close();
    return { closed: true };
  },
};

say({ ready: process.pid });
for await (const { order, ...rest } of told()) {
  try {
    say(await orders[order](rest));
  } catch (error) {
    say({ refused: error.code ?? String(error), owner: error.owner?.pid, message: error.message });
  }
}
