/*
 * The README's first example: start something, be killed, come back. The first run registers a task and dies; the second one finds it still
 * running, waits for it and prints its last line.
 */
// #region restart
import { BackgroundTaskManager } from 'holdfast';

const manager = await BackgroundTaskManager.open({ directory: '.agent/tasks' });
try {
  manager.on('task:settled', ({ task }) => console.log(`${task.description}: ${task.status}`));

  // There, if an earlier run left it: it ran on while no host was alive.
  let [task] = manager.listTasks();
  if (!task) {
    const command = 'sleep 2; echo "all green"';
    task = await manager.registerTask({ kind: 'process', description: 'Run the tests', command, timeoutMs: 600_000 });
    process.kill(process.pid, 'SIGKILL'); // the worst that can happen: run this again
  }
  await manager.waitForTask(task.taskId);
  console.log((await manager.readOutput(task.taskId, { tailLines: 1 })).text);
} finally {
  await manager.close();
}
// #endregion restart
