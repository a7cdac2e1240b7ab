/*
 * The README's first example: start something, go away, come back. Run it once and its first half happens; run it again and it finds
 * the task where it was left. The tests run it as both.
 */
// #region restart
import { BackgroundTaskManager } from 'holdfast';

const manager = await BackgroundTaskManager.open({ directory: '.agent/tasks' });
try {
  manager.on('task:settled', ({ task }) => console.log(`${task.description}: ${task.status}`));

  const [left] = manager.listTasks({ active: true }); // adopted: it ran on while no host was alive
  const task = left ?? (await manager.registerTask({
    kind: 'process',
    description: 'Run the test suite',
    command: 'sleep 2; echo "all green"',
    timeoutMs: 600_000,
  }));

  if (!left) process.kill(process.pid, 'SIGKILL'); // the worst that can happen; run this again
  await manager.waitForTask(task.taskId);
  console.log((await manager.readOutput(task.taskId, { tailLines: 1 })).text);
} finally {
  await manager.close();
}
// #endregion restart
