/*
 * Makes one trial after another in one process: the script of workload.ts, with one call (or every call from there on) that fails. Then the
 * disk is well again, and everything has to come right: here first, and after a new open.
 */
import { pause, plan, say, told } from './kit.mjs';
import { listen, openManager, play } from './player.mjs';

const uncaught = [];
process.on('unhandledRejection', (reason) => uncaught.push(`unhandled rejection: ${reason?.stack ?? reason}`));
process.on('uncaughtException', (error) => uncaught.push(`uncaught exception: ${error?.stack ?? error}`));
process.on('warning', () => undefined);

const orders = told();
const IDLE_MS = 10_000;
const options = { fsync: true, stopGraceMs: 200 };

/** Opens under the fault; a refusal is an answer, but then the next open, without it, must succeed. */
async function openUnderFault({ directory, steps, ...fault }) {
  labFs.arm({ directory, mode: fault.fault ? 'fault' : 'count', ...fault });
  try {
    return { manager: await openManager(directory, options) };
  } catch (error) {
    const { fired } = labFs;
    labFs.arm({ directory, mode: 'off' });
    return { manager: await openManager(directory, options), refused: error.code ?? String(error), fired };
  }
}

/** Everything ends, every slot is given back, once the steps that were left behind are through as well. */
async function comeRight(manager, rest) {
  let through = false;
  rest.then(() => {
    through = true;
  });
  const deadline = performance.now() + IDLE_MS;
  let idle = false;
  while (!idle && performance.now() < deadline) {
    await manager.reconcile();
    await manager.stopAll({ filter: { metadata: { endless: true } } });
    // Whose answer was refused still waits for one.
    await manager.stopAll({ filter: { status: 'waiting' } });
    idle = (await manager.waitForIdle({ timeoutMs: 50 })) && through;
  }
  const { slots, running, queued, waiting } = manager.status();
  return { idle, slots: slots.used, active: running + queued + waiting };
}

async function trial(told) {
  Object.assign(plan, told);
  const { manager, refused, fired: firedInOpen } = await openUnderFault(told);
  listen(manager);
  const { rest } = await play(manager, told.steps, { ...plan, patienceMs: told.forEver ? 30 : 2_000 });
  const { countByFault: calls, fired } = labFs;
  // The lab looks at the disk as it is while the fault lasts.
  say({ played: true });
  await orders.next();
  labFs.arm({ directory: told.directory, mode: 'off' });
  const here = await comeRight(manager, rest);
  await manager.close();
  const next = await openManager(told.directory, options);
  listen(next);
  const there = await comeRight(next, Promise.resolve());
  await next.close();
  await pause(0);
  return { refused, calls, fired: firedInOpen ?? fired, here, there };
}

for await (const order of orders) {
  try {
    say({ ...(await trial(order)), uncaught: uncaught.splice(0) });
  } catch (error) {
    labFs.arm({ directory: order.directory, mode: 'off' });
    say({ failed: error.stack, uncaught: uncaught.splice(0) });
  }
}
process.exit();
