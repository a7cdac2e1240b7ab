/*
 * Puts many tasks through one manager and counts, before and after, what a process holds: timers, handles, files, listeners, memory. Run with
 * --expose-gc. `many` puts a number of tasks through, `steady` a number a second for some time.
 */
import { createHook } from 'node:async_hooks';
import { getEventListeners } from 'node:events';
import { readdirSync, watch } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { BackgroundTaskManager } from 'holdfast';
import { pause, plan, say } from './kit.mjs';

/** What a process can hold, whether or not that holds the process. */
const held = /^(?:Timeout|FSEVENTWRAP|STATWATCHER|PROCESSWRAP|PIPEWRAP|PIPESERVERWRAP|TCPWRAP|TCPSERVERWRAP)$/;
const live = new Map();
createHook({
  init: (id, type) => void (held.test(type) && live.set(id, type)),
  destroy: (id) => void live.delete(id),
}).enable();

/** What is held now, with everything collected that can be. */
async function census() {
  for (let turn = 0; turn < 5; turn++) {
    gc();
    await setImmediate();
  }
  const resources = {};
  for (const type of live.values()) resources[type] = (resources[type] ?? 0) + 1;
  return {
    resources,
    files: readdirSync('/proc/self/fd').length,
    listeners:
      process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), 0) +
      getEventListeners(shared.signal, 'abort').length,
    heap: process.memoryUsage().heapUsed,
  };
}

/** Longer than a timer that comes and goes: reports of progress are held back for a second. */
const PASSING_MS = 1_200;

/** The more of two: what is renewed, as a heartbeat is, does not exist for a moment. */
async function firstCensus() {
  const [first, second] = [await census(), await pause(50).then(census)];
  const more = (a, b) => Math.max(a ?? 0, b ?? 0);
  const types = new Set([...Object.keys(first.resources), ...Object.keys(second.resources)]);
  const resources = Object.fromEntries(
    [...types].map((type) => [type, more(first.resources[type], second.resources[type])]),
  );
  const [files, listeners] = [more(first.files, second.files), more(first.listeners, second.listeners)];
  return { resources, files, listeners, heap: second.heap };
}

/** The same once what comes and goes has gone: a count that is still above `start` after some seconds has stayed. */
async function lastingCensus(start) {
  const types = (counted) => Object.entries(counted.resources);
  let counted = await census();
  for (let turns = 0; turns < 50; turns++) {
    const isAbove = types(counted).some(([type, count]) => count > (start.resources[type] ?? 0));
    if (!isAbove && counted.files <= start.files && counted.listeners <= start.listeners) break;
    await pause(100);
    counted = await census();
  }
  return counted;
}

/** As long-lived as the host: whoever waits with it must take its listener back. */
const shared = new AbortController();
const hooks = { note: async () => undefined };
let made = 0;

/** One task, and what hosts do with tasks. */
async function oneTask(manager) {
  const n = made++;
  const common = { taskId: `t${n}`, description: `task ${n}`, timeoutMs: 600_000, hooks: n % 10 === 0 ? ['note'] : [] };
  if (n % plan.processEvery === 0) {
    const { taskId } = await manager.registerTask({ ...common, kind: 'process', command: ['/bin/echo', 'hello'] });
    for await (const _ of manager.followOutput(taskId, { signal: shared.signal }));
  } else {
    const run = async ({ appendOutput, reportProgress }) => {
      if (n % 20 === 0) await appendOutput('a line\n');
      if (n % 30 === 0) reportProgress({ current: n });
      return n;
    };
    await manager.registerTask({ ...common, kind: 'function', run });
  }
  if (n % 7 === 0) await manager.waitForTask(`t${n}`, { signal: shared.signal, timeoutMs: 60_000 });
  if (n % 11 === 0) await manager.updateTask(`t${n}`, { metadata: { n } });
}

/** Nothing runs, nothing is owed, nothing is kept. */
async function settle(manager) {
  await manager.waitForIdle();
  while (manager.listDeliveries({ state: 'pending' }).length > 0) await pause(5);
  await manager.pruneTasks({ keep: 0 });
}

async function through(manager, count) {
  const last = made + count;
  const worker = async () => {
    while (made < last) await oneTask(manager);
  };
  await Promise.all(Array.from({ length: 32 }, worker));
  await manager.waitForIdle();
}

async function steady(manager, perSecond, seconds) {
  const end = performance.now() + seconds * 1000;
  const underWay = new Set();
  for (let due = performance.now(); performance.now() < end; due += 1000 / perSecond) {
    await pause(Math.max(0, due - performance.now()));
    const one = oneTask(manager).finally(() => underWay.delete(one));
    underWay.add(one);
  }
  await Promise.all(underWay);
}

// There before the first count: what it takes to talk, and the descriptor that Node keeps once anything was watched.
say({ ready: true });
watch('.').close();
await census();
const before = await census();
const { directory, options } = plan;
const manager = await BackgroundTaskManager.open({ directory, fsync: false, hooks, ...options });
if (plan.many) {
  await through(manager, plan.many.warmUp);
  await settle(manager);
  await pause(PASSING_MS);
  const start = await firstCensus();
  await through(manager, plan.many.tasks);
  const full = await census();
  const kept = manager.status().terminal;
  await settle(manager);
  say({ before, start, full, kept, end: await lastingCensus(start) });
} else {
  const { perSecond, warmUpSeconds, seconds } = plan.steady;
  await steady(manager, perSecond, warmUpSeconds);
  await settle(manager);
  await pause(PASSING_MS);
  const start = await firstCensus();
  await steady(manager, perSecond, seconds);
  await settle(manager);
  say({ before, start, tasks: made, end: await lastingCensus(start) });
}
await manager.close();
say({ closed: await lastingCensus(before) });
