/* Carries out the steps of workload.ts, and writes down everything that it is told is durable. */
import { BackgroundTaskManager } from 'holdfast';
import { acknowledge, launched, pause, plan, say } from './kit.mjs';

const shellQuote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** Made anew for each manager: several may be played one after another. */
export function hooks() {
  return {
    note: {
      deliver: (task, { deliveryId }) => acknowledge({ called: deliveryId, task }),
      minDelayMs: 1,
      maxDelayMs: 20,
    },
    inbox: 'pull',
  };
}

/** Puts every promise on the list: a task event comes after its record is durable, progress excepted. */
export function listen(manager) {
  manager.on('*', (event, payload) => {
    if (event === 'task:pruned') acknowledge({ pruned: payload.taskId });
    else if (event !== 'task:progress' && payload.task) acknowledge({ event, task: payload.task });
    else if (event === 'error')
      acknowledge({ error: payload.error.code, message: payload.error.message, taskId: payload.taskId });
    else if (event === 'record:rejected') acknowledge({ rejected: payload.path, reason: payload.reason });
  });
}

export const steps = {
  process: (manager, { id, command, exit = 0, ms = 0, hooks, timeoutMs }, { launched: file }) =>
    manager.registerTask({
      kind: 'process',
      taskId: id,
      description: `exits with ${exit}`,
      command: command ?? `echo ${id} >>${shellQuote(file)}; sleep ${ms / 1000}; exit ${exit}`,
      metadata: { expected: exit, endless: ms > 60_000 },
      timeoutMs,
      hooks,
    }),
  function: (manager, { id, ms, fails, bytes, asks, hooks }) =>
    manager.registerTask({
      kind: 'function',
      taskId: id,
      description: fails ? 'throws' : 'returns',
      hooks,
      run: async ({ taskId, attempt, appendOutput, reportProgress, requestInput, signal }) => {
        launched(`${taskId}#${attempt}`);
        await appendOutput(`output of ${taskId}\n`);
        reportProgress({ current: 1 });
        if (asks) return { answer: await requestInput('Well?') };
        if (ms > 0) await pause(ms);
        signal.throwIfAborted();
        if (fails) throw new RangeError('on purpose');
        return { text: 'x'.repeat(bytes ?? 0) };
      },
    }),
  update: (manager, { id, key, value }) => manager.updateTask(id, { metadata: { [key]: value } }),
  stop: (manager, { id }) => manager.stopTask(id, { reason: 'told to', graceMs: 500 }),
  wait: (manager, { id }) => manager.waitForTask(id),
  async answer(manager, { id, value }) {
    while (manager.getTask(id)?.status === 'running') await pause(1);
    return manager.provideInput(id, value);
  },
  async prune(manager, { keep }) {
    acknowledge({ pruning: true });
    await manager.pruneTasks({ keep });
    acknowledge({ pruning: false });
  },
  reconcile: async (manager) => void (await manager.reconcile()),
  idle: async (manager) => void (await manager.waitForIdle({ timeoutMs: 20_000 })),
  pause: (_manager, { ms }) => pause(ms),
};

/**
 * Plays the lanes side by side. A refusal is written down; the lane goes on, also from a step that takes longer than it has patience for.
 * Returns once every lane is through, with a promise of the steps that were left behind.
 */
export async function play(manager, list, context) {
  const lanes = new Map();
  for (const step of list) lanes.set(step.lane ?? 0, [...(lanes.get(step.lane ?? 0) ?? []), step]);
  const done = [];
  await Promise.all([...lanes.values()].map((lane) => playLane(manager, lane, context, done)));
  return { rest: Promise.all(done) };
}

async function playLane(manager, lane, context, done) {
  for (const step of lane) {
    const playing = playStep(manager, step, context);
    done.push(playing);
    await (context.patienceMs ? Promise.race([playing, pause(context.patienceMs)]) : playing);
  }
}

async function playStep(manager, step, context) {
  try {
    const task = await steps[step.do](manager, step, context);
    if (task) acknowledge({ did: step.do, task });
  } catch (error) {
    acknowledge({ refused: step.do, id: step.id, code: error.code, message: error.message });
  }
}

export function openManager(directory, options) {
  return BackgroundTaskManager.open({ directory, hooks: hooks(), reconcileIntervalMs: 200, ...options });
}

if (plan.steps && import.meta.filename === process.argv[1]) {
  const manager = await openManager(plan.directory, plan.options);
  listen(manager);
  say({ opened: true });
  await play(manager, plan.steps, plan);
  say({ played: true });
  if (plan.afterwards === 'close') {
    await manager.close();
    say({ closed: true, calls: globalThis.labFs?.count });
  }
  if (plan.afterwards === 'die') process.kill(process.pid, 'SIGKILL');
  if (plan.afterwards === 'stay') setInterval(() => undefined, 60_000);
}
