/*
 * Registers numbered tasks, those that are not on record yet, and lets them pass through a queue. Work that lives in this process writes down
 * when it begins and ends, as the processes do.
 */
import { appendFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { BackgroundTaskManager, defineTaskKind } from 'holdfast';
import { z } from 'zod';
import { acknowledge, pause, plan, say } from './kit.mjs';
import { hooks, listen } from './player.mjs';

const { directory, floor, tasks, options, closeAfter, together } = plan;
const byId = new Map(tasks.map((task) => [task.id, task]));

/** In-process work that may be begun again. What it does when it is told to end is its own affair. */
const work = ({ id, group, ms, onAbort }) => {
  return async ({ attempt, signal }) => {
    appendFileSync(floor, `+ ${group} ${id} ${attempt}\n`);
    await Promise.race([pause(ms), new Promise((resolve) => signal.addEventListener('abort', resolve))]);
    if (signal.aborted && onAbort === 'hang') await new Promise(() => undefined);
    appendFileSync(floor, `- ${group} ${id}\n`);
    if (onAbort === 'throw') signal.throwIfAborted();
    return { attempt };
  };
};
const worker = defineTaskKind({
  name: 'worker',
  details: z.object({}),
  result: z.object({ attempt: z.number() }),
  recover: ({ taskId }) => work(byId.get(taskId)),
});

function register(manager, { id, kind, group, ms, exit, keyed, needsEnv, hooks }) {
  const common = { taskId: id, description: id, group, hooks, idempotencyKey: keyed ? `key of ${id}` : undefined };
  if (kind === 'worker') return manager.registerTask({ ...common, kind, details: {}, run: work(byId.get(id)) });
  const line = (sign) => `echo '${sign} ${group} ${id}' >>'${floor}'`;
  return manager.registerTask({
    ...common,
    kind,
    command: `${line('+')}; sleep ${ms / 1000}; ${line('-')}; exit ${needsEnv ? '$LAB_EXIT' : exit}`,
    env: needsEnv ? { LAB_EXIT: `${exit}` } : undefined,
    metadata: { expected: exit },
  });
}

/** Whoever has a key may be registered again and again. */
async function registerOne(manager, task) {
  if (!task.keyed && manager.getTask(task.id)) return;
  try {
    acknowledge({ did: 'register', task: await register(manager, task) });
  } catch (error) {
    // Refused: the next host registers it.
    if (error.code !== 'MANAGER_CLOSED') acknowledge({ refused: task.id, code: error.code, message: error.message });
  }
}

async function registerAll(manager) {
  if (together) await Promise.all(tasks.map((task) => registerOne(manager, task)));
  else for (const task of tasks) await registerOne(manager, task);
}

/** Resolves once so many have started, and so many turns later; or when there is nothing left to start. */
async function toClose(manager, registered, { starts, turns }) {
  const idle = registered.then(() => manager.waitForIdle());
  await new Promise((resolve) => {
    let left = starts;
    if (left === 0) resolve();
    manager.on('task:started', () => --left === 0 && resolve());
    idle.then(resolve, () => undefined);
  });
  for (let turn = 0; turn < turns; turn++) await setImmediate();
}

const manager = await BackgroundTaskManager.open({
  directory,
  hooks: hooks(),
  kinds: [worker],
  reconcileIntervalMs: 200,
  stopGraceMs: 100,
  recoverProcess: tasks.some(({ needsEnv }) => needsEnv)
    ? ({ taskId, details }) => ({ env: { [details.envNames[0]]: `${byId.get(taskId).exit}` } })
    : undefined,
  ...options,
});
listen(manager);
say({ opened: true });
const registered = registerAll(manager);
if (closeAfter) {
  await toClose(manager, registered, closeAfter);
  await manager.close();
  say({ closed: true });
  process.exit();
}
await registered;
await manager.waitForIdle();
say({ idle: true });
setInterval(() => undefined, 60_000);
