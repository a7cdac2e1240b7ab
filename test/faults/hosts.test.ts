/* Hosts that fight back: whatever a host does to itself, the next one finds a directory it can own, and tasks that tell the truth. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { BackgroundTaskManager } from '../../src/index.js';
import { killAllAfterwards, onDisk, within } from '../helpers/faults.js';
import { startHost, supervisors } from '../helpers/host.js';
import { deferred, openManager, record } from '../helpers/manager.js';
import { tempDirectory, until } from '../helpers/wait.js';

function place(): string {
  const directory = tempDirectory('holdfast-hosts-');
  killAllAfterwards(directory);
  return directory;
}

const begin = `
  const manager = await BackgroundTaskManager.open({ directory, fsync: false, reconcileIntervalMs: 100 });
  manager.on('error', ({ error }) => console.error('told', error.code, error.message));
  await manager.registerTask({ kind: 'process', taskId: 'on', description: 'work', command: 'exec sleep 600' });
  await manager.registerTask({ kind: 'function', taskId: 'inside', description: 'work', run: () => new Promise(() => {}) });`;
const short = `await manager.registerTask({ kind: 'process', taskId: 'short', description: 'work', command: 'exit 5' });`;

/** What the next host must find after one that did not close: the process adopted, the function lost, everything else true. */
async function expectAftermath(directory: string): Promise<void> {
  const manager = await openManager({ directory });
  const report = manager.status().lastReconcile!.report;
  expect(report).toMatchObject({ failures: [], lost: ['inside'] });
  // A command that was just begun when its host ended may not have ended yet.
  expect(report.adopted.filter((taskId) => taskId !== 'short')).toEqual(['on']);
  expect(manager.getTask('inside')).toMatchObject({ status: 'lost' });
  const ended = manager.getTask('short');
  if (ended) {
    expect(await manager.waitForTask('short')).toMatchObject({ status: 'failed', details: { exitCode: 5 } });
  }
  expect(await manager.stopTask('on')).toMatchObject({ status: 'killed' });
  // That of `short` may still be on its way out.
  await until(() => supervisors(directory).length === 0);
}

describe('a host that ends in the middle of things', () => {
  it.each([
    [
      'process.exit in a listener',
      `manager.on('task:settled', () => process.exit(3)); ${short}; await manager.waitForIdle();`,
      3,
    ],
    ['process.exit in a listener to the start', `manager.on('task:started', () => process.exit(3)); ${short}`, 3],
    [
      'process.exit in a hook',
      `manager.addHook('leave', () => process.exit(3)); ${short}; await manager.waitForIdle();`,
      3,
    ],
    [
      'an exception that nobody caught',
      `manager.on('task:settled', () => setTimeout(() => { throw new Error('uncaught'); })); ${short}; await manager.waitForIdle();`,
      1,
    ],
    [
      'a rejection that nobody handled',
      `manager.on('task:settled', () => void Promise.reject(new Error('unhandled'))); ${short}; await manager.waitForIdle();`,
      1,
    ],
    ['SIGTERM, without a handler', `say('ready'); await manager.waitForIdle();`, 'SIGTERM'],
    ['SIGINT, without a handler', `say('ready'); await manager.waitForIdle();`, 'SIGINT'],
    ['SIGHUP, without a handler', `say('ready'); await manager.waitForIdle();`, 'SIGHUP'],
    [
      'SIGTERM, with a handler that exits',
      `process.on('SIGTERM', () => process.exit(3)); say('ready'); await manager.waitForIdle();`,
      3,
    ],
  ] as const)('%s', async (_, script, expected) => {
    const directory = place();
    const host = startHost(`${begin}\n${script}`, directory);
    if (script.includes("say('ready')")) {
      await host.next();
      host.child.kill((_.split(/[ ,]/)[0] ?? 'SIGTERM') as NodeJS.Signals);
    }
    expect(await within('the end of the host', host.ended), host.stderr()).toBe(expected);
    await expectAftermath(directory);
  });

  it('is not ended by what its listeners, hooks and work throw', async () => {
    const directory = place();
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory, fsync: false, hooks: { bad: { maxAttempts: 1, deliver: () => { throw new Error('hook'); } } } });
       const errors = [];
       manager.on('error', ({ error }) => { errors.push(error.code); throw new Error('worse'); });
       manager.on('*', () => { throw null; });
       manager.on('task:settled', async () => { throw new TypeError('listener'); });
       const failed = new Promise((resolve) => manager.on('hook:failed', resolve));
       await manager.registerTask({ kind: 'function', taskId: 'sync', description: 'work', run: () => { throw undefined; } });
       await manager.registerTask({ kind: 'function', taskId: 'later', description: 'work', run: async ({ signal, appendOutput }) => { appendOutput('x'); throw Object.assign(new Error('plain'), { name: 7 }); } });
       await manager.waitForIdle();
       await failed;
       await manager.close();
       say([errors.length > 0, errors.every((code) => code === 'LISTENER_FAILED')]);`,
      directory,
      { NODE_NO_WARNINGS: '1' },
    );
    expect(await host.next()).toEqual([true, true]);
    expect(await host.ended, host.stderr()).toBe(0);
    for (const id of ['sync', 'later'])
      expect(onDisk(directory, id)).toMatchObject({ status: 'failed', hooks: { bad: { state: 'failed' } } });
  });

  it.each([
    ['an object without a prototype', 'Object.create(null)'],
    ['an object that will not be a text', '({ toString() { throw new Error("no"); } })'],
    [
      'an error whose message cannot be read',
      'Object.defineProperty(new Error("x"), "message", { get() { throw new Error("no"); } })',
    ],
    ['a revoked proxy', '(() => { const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); return proxy; })()'],
  ])('survives it when work, a listener and a hook throw %s', async (_, thrown) => {
    const directory = place();
    const host = startHost(
      `const fail = () => { throw ${thrown}; };
       const manager = await BackgroundTaskManager.open({ directory, fsync: false, hooks: { bad: { maxAttempts: 1, deliver: fail } } });
       const settled = new Promise((resolve) => manager.on('hook:failed', resolve));
       manager.on('task:settled', fail);
       manager.on('error', () => {});
       await manager.registerTask({ kind: 'function', taskId: 'work', description: 'work', run: async () => fail() });
       say((await manager.waitForTask('work')).status);
       await settled;
       await manager.close();
       say('closed');`,
      directory,
    );
    expect(await host.next()).toBe('failed');
    expect(await host.next()).toBe('closed');
    expect(await host.ended, host.stderr()).toBe(0);
    expect(onDisk(directory, 'work')).toMatchObject({ status: 'failed', error: { message: expect.any(String) } });
  });

  it('a handler that closes on SIGTERM leaves no dead owner and no orphan', async () => {
    const directory = place();
    const host = startHost(
      `${begin}
       process.once('SIGTERM', async () => { await manager.close({ tasks: 'stop', graceMs: 2000, reason: 'told to go' }); });
       say('ready');
       setInterval(() => {}, 1000).unref();
       await manager.waitForIdle().catch((error) => say(error.code));`,
      directory,
    );
    await host.next();
    host.child.kill('SIGTERM');
    await within('the end of the host', host.ended);
    expect(supervisors(directory)).toEqual([]);
    for (const id of ['on', 'inside']) {
      expect(onDisk(directory, id)).toMatchObject({
        status: 'killed',
        stopReason: 'told to go',
        stop: { cause: 'shutdown' },
      });
    }
  });
});

describe('close', () => {
  it('twice at once is one', async () => {
    const manager = await openManager({ directory: place() });
    await manager.registerTask({ kind: 'process', description: 'work', command: 'exec sleep 600' });
    const heard = record(manager);
    await Promise.all([
      manager.close({ tasks: 'stop', graceMs: 1_000 }),
      manager.close(),
      manager[Symbol.asyncDispose](),
    ]);
    await manager.close();
    expect(heard.filter((event) => event.startsWith('task:settled'))).toHaveLength(1);
    await expect(manager.reconcile()).rejects.toMatchObject({ code: 'MANAGER_CLOSED' });
  });

  it.each(['leave', 'stop'] as const)('during launches leaves nothing that no record knows (%s)', async (tasks) => {
    for (let turn = 0; turn < 12; turn++) {
      const directory = place();
      const manager = await openManager({ directory, whenFull: 'queue', maxRunningTasks: 3 });
      const registered = Promise.allSettled(
        Array.from({ length: 6 }, (_, n) =>
          manager.registerTask({ kind: 'process', taskId: `t${n}`, description: 'work', command: 'exec sleep 600' }),
        ),
      );
      for (let n = 0; n < turn * 3; n++) await setImmediate();
      await within('close', manager.close({ tasks, graceMs: 1_000 }));
      const outcomes = await within('registrations', registered);
      const ids = outcomes.map((_, n) => `t${n}`);
      const running = ids.filter((taskId) => onDisk(directory, taskId)?.status === 'running').length;
      // Who has just been born shows no command line for a moment.
      await until(() => supervisors(directory).length >= running);
      const alive = supervisors(directory);
      for (const [n, outcome] of outcomes.entries()) {
        const onRecord = onDisk(directory, `t${n}`);
        const text = `turn ${turn}, t${n}: ${JSON.stringify([onRecord, outcome])}`;
        if (outcome.status === 'fulfilled') expect(onRecord, text).toBeDefined();
        expect(alive.includes(`t${n}`), text).toBe(onRecord?.status === 'running');
        if (outcome.status === 'rejected' && onRecord) expect(['failed', 'killed'], text).toContain(onRecord.status);
      }
      if (tasks === 'stop') expect(alive).toEqual([]);
      // What runs is adopted, and what is queued is launched.
      const before = new Map(ids.map((taskId) => [taskId, onDisk(directory, taskId)?.status]));
      const next = await openManager({ directory });
      expect(
        next
          .listTasks({ active: true })
          .map(({ taskId }) => taskId)
          .sort(),
      ).toEqual(ids.filter((taskId) => ['running', 'queued'].includes(before.get(taskId) ?? '')).sort());
      await next.close({ tasks: 'stop', graceMs: 1_000 });
    }
  });

  it('during a reconcile lets the pass end, and nothing is written afterwards', async () => {
    const directory = place();
    const manager = await openManager({ directory });
    for (let n = 0; n < 20; n++) {
      await manager.registerTask({
        kind: 'process',
        taskId: `t${n}`,
        description: 'work',
        command: n % 2 ? 'exec sleep 600' : 'exit 2',
      });
    }
    await until(() => !supervisors(directory).some((taskId) => Number(taskId.slice(1)) % 2 === 0));
    const pass = manager.reconcile().then(
      () => 'done',
      (error: { code: string }) => error.code,
    );
    await within('close', manager.close());
    expect(['done', 'MANAGER_CLOSED']).toContain(await within('the pass', pass));
    const before = Array.from({ length: 20 }, (_, n) => onDisk(directory, `t${n}`));
    const next = await openManager({ directory });
    for (let n = 0; n < 20; n++) {
      if (n % 2) expect(before[n]).toMatchObject({ status: 'running' });
      else expect(next.getTask(`t${n}`)).toMatchObject({ status: 'failed', details: { exitCode: 2 } });
    }
    await next.close({ tasks: 'stop', graceMs: 1_000 });
  });

  it('in a listener, in a hook and in the work itself does not wait for itself for ever', async () => {
    const inListener = await openManager({ directory: place(), stopGraceMs: 200 });
    const closed = deferred<unknown>();
    inListener.on('task:settled', () => closed.resolve(inListener.close()));
    await inListener.registerTask({ kind: 'function', description: 'work', run: () => 1 });
    await within('close in a listener', closed.promise);

    const done = deferred<unknown>();
    const inHook = await openManager({ directory: place(), stopGraceMs: 200 });
    inHook.addHook('end', () => {
      const closing = inHook.close();
      done.resolve(closing);
      return closing;
    });
    await inHook.registerTask({ kind: 'function', description: 'work', run: () => 1 });
    await within('close in a hook', done.promise);

    const directory = place();
    const inWork = await openManager({ directory, stopGraceMs: 200 });
    const ended = deferred<unknown>();
    await inWork.registerTask({
      kind: 'function',
      taskId: 'work',
      description: 'work',
      run: async () => {
        const closing = inWork.close();
        ended.resolve(closing);
        await closing;
      },
    });
    await within('close in the work', ended.promise);
    expect(onDisk(directory, 'work')).toMatchObject({ status: 'killed', stop: { cause: 'shutdown' } });
  });
});

describe('one owner', () => {
  it('also within one process, by whatever path the directory is named', async () => {
    const directory = place();
    const manager = await openManager({ directory });
    const { owner } = manager.status();
    for (const other of [directory, `${directory}/.`, `${directory}//`, new URL(`file://${directory}/`)]) {
      await expect(BackgroundTaskManager.open({ directory: other })).rejects.toMatchObject({
        code: 'DIRECTORY_OWNED',
        owner,
      });
    }
    await manager.registerTask({ kind: 'function', taskId: 'on', description: 'work', run: () => 1 });
    expect(await manager.waitForTask('on')).toMatchObject({ status: 'completed' });
    await manager.close();
    await openManager({ directory });
  });

  it('is one of 8 that open at once in one process', async () => {
    const directory = join(place(), 'not', 'there', 'yet');
    const opened = await Promise.allSettled(Array.from({ length: 8 }, () => openManager({ directory })));
    const owners = opened.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    expect(owners).toHaveLength(1);
    for (const one of opened)
      if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'DIRECTORY_OWNED' });
    await owners[0]!.close();
  });

  it.each(['a fork', 'a worker thread'])('%s of the host is refused, and leaves the owner unharmed', async (who) => {
    const directory = place();
    const other = `import { BackgroundTaskManager } from 'holdfast';
      BackgroundTaskManager.open({ directory: ${JSON.stringify(directory)} }).then(() => 'opened', (error) => error.code + ' ' + error.owner.pid)`;
    const host = startHost(
      `import { fork } from 'node:child_process';
       import { writeFileSync } from 'node:fs';
       import { Worker } from 'node:worker_threads';
       ${begin}
       const file = process.cwd() + '/.fault-other-' + process.pid + '.mjs';
       const answer = await new Promise((resolve, reject) => {
         if (${JSON.stringify(who)} === 'a fork') {
           writeFileSync(file, ${JSON.stringify(other)} + '.then((answer) => { process.send(answer); process.disconnect(); });');
           fork(file, { execArgv: [] }).on('message', resolve).on('error', reject);
         } else {
           writeFileSync(file, 'import { parentPort } from "node:worker_threads";' + ${JSON.stringify(other)} + '.then((answer) => parentPort.postMessage(answer));');
           new Worker(file, { execArgv: [] }).on('message', resolve).on('error', reject);
         }
       }).finally(async () => (await import('node:fs')).rmSync(file));
       say(answer);
       ${short}
       say((await manager.waitForTask('short')).details.exitCode);
       process.kill(process.pid, 'SIGKILL');`,
      directory,
    );
    expect(await host.next()).toBe(`DIRECTORY_OWNED ${host.child.pid}`);
    expect(await host.next()).toBe(5);
    await host.ended;
    await expectAftermath(directory);
  });

  it('in a worker thread that is terminated is replaced as soon as the thread is gone', async () => {
    const directory = place();
    const host = startHost(
      `import { Worker } from 'node:worker_threads';
       const worker = new Worker(\`
         const { parentPort } = require('node:worker_threads');
         const { BackgroundTaskManager } = require('holdfast');
         (async () => {
           const manager = await BackgroundTaskManager.open({ directory: \${JSON.stringify(directory)}, fsync: false });
           await manager.registerTask({ kind: 'process', taskId: 'on', description: 'work', command: 'exec sleep 600' });
           parentPort.postMessage('ready');
           setInterval(() => {}, 1000);
         })();\`, { eval: true, execArgv: [] });
       await new Promise((resolve, reject) => worker.on('message', resolve).on('error', reject));
       await worker.terminate();
       say(await BackgroundTaskManager.open({ directory, fsync: false }).then(() => 'opened', (error) => error.code));
       process.exit(0);`,
      directory,
    );
    // The process that the claim names still lives, so nothing tells for certain that its thread does not: refused, never robbed.
    expect(['opened', 'DIRECTORY_OWNED']).toContain(await host.next());
    await host.ended;
    const manager = await openManager({ directory });
    expect(manager.status().lastReconcile?.report.adopted).toEqual(['on']);
    await manager.close({ tasks: 'stop', graceMs: 1_000 });
  });
});

describe('what holds the process', () => {
  it.each([
    ['importing the package', `say('loaded');`],
    ['an open manager', `await BackgroundTaskManager.open({ directory }); say('open');`],
    [
      'a manager with running work of every sort that was never closed',
      `${begin}
      await manager.registerTask({ kind: 'process', taskId: 'limited', description: 'work', command: 'exec sleep 600', timeoutMs: 500000, maxOutputBytes: 1000 });
      await manager.registerTask({ kind: 'function', taskId: 'asking', description: 'work', run: ({ requestInput }) => requestInput('?') });
      manager.on('task:settled', () => {});
      manager.addHook('pulled', 'pull');
      say('open');`,
    ],
    ['a closed manager', `${begin} await manager.close({ tasks: 'stop', graceMs: 1000 }); say('closed');`],
    ['an open that was refused', `mkdirSync; say('refused');`],
  ])('not %s', async (_, script) => {
    const directory = place();
    const actual = script.includes('mkdirSync;')
      ? `await BackgroundTaskManager.open({ directory: '/proc/nowhere/at-all' }).catch((error) => say(error.code));`
      : script;
    const host = startHost(`${actual}`, directory);
    await host.next();
    expect(await within('the end of the host', host.ended), host.stderr()).toBe(0);
    expect(host.stderr()).toBe('');
  });

  it('nor importing it adds a handle, a timer or a listener that was not there', async () => {
    const host = startHost(
      `say([process.getActiveResourcesInfo().filter((name) => name === 'Timeout' || /FSEvent|Server|TCP|Process/.test(name)),
            process.listenerCount('uncaughtException'), process.listenerCount('unhandledRejection')]);`,
      place(),
    );
    expect(await host.next()).toEqual([[], 0, 0]);
  });
});

it('a host whose directory is taken away is told, and harms nobody', async () => {
  const directory = join(place(), 'tasks');
  mkdirSync(directory);
  const manager = await openManager({ directory });
  const fenced = new Promise((resolve) => manager.on('manager:fenced', resolve));
  await manager.registerTask({
    kind: 'function',
    taskId: 'inside',
    description: 'work',
    run: ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  });
  const { renameSync } = await import('node:fs');
  renameSync(directory, `${directory}-moved`);
  await manager.reconcile().catch(() => undefined);
  await within('manager:fenced', fenced);
  await expect(manager.registerTask({ kind: 'function', description: 'work', run: () => 1 })).rejects.toMatchObject({
    code: 'OWNERSHIP_LOST',
  });
  expect(onDisk(`${directory}-moved`, 'inside')).toMatchObject({ status: 'running' });
  await within(
    'close',
    manager.close().catch(() => undefined),
  );
});
