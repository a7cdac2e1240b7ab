/* One owner, never robbed: stopped, with a wrong clock, in another pid namespace; and replaced at once when it is dead. */
import { mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { BackgroundTaskManager } from '../../src/index.js';
import { INITIAL_NAMESPACE } from '../../src/process/table/pid-namespaces.js';
import { killAllAfterwards, onDisk, processesWith } from '../helpers/faults.js';
import { type Host, startHost } from '../helpers/host.js';
import { openManager } from '../helpers/manager.js';
import { isAlive, stateOf } from '../helpers/process.js';
import { canRun } from '../helpers/store.js';
import { tempDirectory, until } from '../helpers/wait.js';

function place(): string {
  const directory = tempDirectory('holdfast-owners-');
  killAllAfterwards(directory);
  return directory;
}

/** Works all the time: a function task that updates its own record, a process that prints, short ones that come and go. */
const busyHost = `
  const realNow = Date.now;
  const manager = await BackgroundTaskManager.open({ directory, fsync: false, reconcileIntervalMs: 50, stopGraceMs: 1000, foreignOwnerTimeoutMs: 100 });
  const events = [];
  manager.on('*', (event, payload) => {
    if (event === 'task:settled') events.push(payload.task.taskId + ' ' + payload.task.status);
    if (event === 'error' || event === 'manager:fenced') events.push(event + ' ' + String(payload.error));
  });
  let beats = 0;
  let stopBeating = false;
  await manager.registerTask({ kind: 'function', taskId: 'beats', description: 'work', run: async ({ updateDetails }) => {
    while (!stopBeating) {
      await updateDetails({ beats: ++beats });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return beats;
  } });
  await manager.registerTask({ kind: 'process', taskId: 'prints', description: 'work', command: 'while :; do echo line; sleep 0.05; done' });
  await manager.registerTask({ kind: 'process', taskId: 'ends', description: 'work', command: 'until [ -e "' + directory + '/.gate" ]; do sleep 0.02; done; exit 9' });
  say(process.pid);
  const { existsSync } = await import('node:fs');
  const on = (name, action) => { const timer = setInterval(() => { if (existsSync(directory + '/.' + name)) { clearInterval(timer); action(); } }, 10).unref(); };
  on('forward', () => { Date.now = () => realNow() + 3600e3; say('forward'); });
  on('back', () => { Date.now = () => realNow() - 3600e3; say('back'); });
  on('real', () => { Date.now = realNow; say('real'); });
  on('finish', async () => {
    stopBeating = true;
    const before = beats;
    const beating = await manager.waitForTask('beats');
    const ended = await manager.waitForTask('ends');
    const prints = await manager.stopTask('prints');
    await manager.close();
    say({ beats: before, statuses: [beating.status, ended.status, prints.status], exitCode: ended.details.exitCode, events });
  });
  await manager.waitForIdle();
  await new Promise((resolve) => setTimeout(resolve, 100));`;

/** Another process that tries to open the directory again and again, until told to stop; it answers what it met, and how often. */
function contender(directory: string): { trying(): Promise<void>; stop(): Promise<Record<string, number>> } {
  const host = startHost(
    `const { existsSync } = await import('node:fs');
     const met = {};
     let tries = 0;
     while (!existsSync(directory + '/.enough')) {
       const answer = await BackgroundTaskManager.open({ directory, fsync: false }).then(
         async (manager) => { await manager.close(); return 'opened'; },
         (error) => error.code);
       met[answer] = (met[answer] ?? 0) + 1;
       if (++tries === 3) say('trying');
       await new Promise((resolve) => setTimeout(resolve, 5));
     }
     say(met);`,
    directory,
  );
  return {
    /** Resolves when it has tried some times; to be awaited before `stop`. */
    trying: () => host.next(),
    async stop() {
      writeFileSync(join(directory, '.enough'), '');
      return host.next();
    },
  };
}

const beatsOnDisk = (directory: string) =>
  (onDisk(directory, 'beats') as { details: { beats?: number } }).details.beats ?? 0;

/** The owner's own account at the end: it wrote all the while, nothing was lost, nobody fenced it. */
async function expectUnharmed(host: Host, directory: string): Promise<void> {
  writeFileSync(join(directory, '.gate'), '');
  writeFileSync(join(directory, '.finish'), '');
  const story = await host.next();
  expect(story, host.stderr()).toMatchObject({ statuses: ['completed', 'failed', 'killed'], exitCode: 9 });
  expect([...story.events].sort()).toEqual(['beats completed', 'ends failed', 'prints killed']);
  expect(await host.ended).toBe(0);
  expect(beatsOnDisk(directory)).toBeGreaterThanOrEqual(story.beats);
  const next = await openManager({ directory });
  expect(next.listTasks({ status: 'lost' })).toEqual([]);
}

/** All its threads: one may be in the middle of a write when the first is stopped. */
function standsStill(pid: number): boolean {
  const threads = readdirSync(`/proc/${pid}/task`).map((thread) => `/proc/${pid}/task/${thread}/stat`);
  return threads.every((path) => readFileSync(path, 'latin1').split(') ').at(-1)!.startsWith('T'));
}

describe('an owner with work of every sort', () => {
  it('that is stopped and continued is never robbed, and goes on writing', async () => {
    const directory = place();
    const host = startHost(busyHost, directory);
    await host.next();
    await until(() => beatsOnDisk(directory) > 3);
    const others = [contender(directory), contender(directory)];
    host.child.kill('SIGSTOP');
    await until(() => standsStill(host.child.pid!));
    const before = beatsOnDisk(directory);
    for (let tries = 0; tries < 20; tries++) {
      // A heartbeat that stands still for long means nothing where the owner can be seen.
      const opened = BackgroundTaskManager.open({ directory, foreignOwnerTimeoutMs: 1 });
      await expect(opened).rejects.toMatchObject({ code: 'DIRECTORY_OWNED', owner: { pid: host.child.pid } });
    }
    await Promise.all(others.map((one) => one.trying()));
    // Its process goes on, and ends, while the host stands still.
    writeFileSync(join(directory, '.gate'), '');
    await until(() => stateOf((onDisk(directory, 'ends') as { details: { pid: number } }).details.pid) !== 'S');
    expect(beatsOnDisk(directory)).toBe(before);
    expect(onDisk(directory, 'ends')).toMatchObject({ status: 'running' });
    host.child.kill('SIGCONT');
    await until(() => beatsOnDisk(directory) > before + 3);
    const met = await Promise.all(others.map((one) => one.stop()));
    for (const one of met) expect(Object.keys(one)).toEqual(['DIRECTORY_OWNED']);
    await expectUnharmed(host, directory);
  });

  it('whose wall clock jumps an hour forward and two back is never robbed, and loses nothing', async () => {
    const directory = place();
    const host = startHost(busyHost, directory);
    await host.next();
    const other = contender(directory);
    for (const jump of ['forward', 'back', 'real']) {
      writeFileSync(join(directory, `.${jump}`), '');
      expect(await host.next()).toBe(jump);
      const before = beatsOnDisk(directory);
      await until(() => beatsOnDisk(directory) > before + 3);
      await expect(BackgroundTaskManager.open({ directory, foreignOwnerTimeoutMs: 1 })).rejects.toMatchObject({
        code: 'DIRECTORY_OWNED',
      });
    }
    await other.trying();
    expect(Object.keys(await other.stop())).toEqual(['DIRECTORY_OWNED']);
    await expectUnharmed(host, directory);
  });

  it('is replaced with every task judged right when the next clock is an hour off', async () => {
    const directory = place();
    const host = startHost(busyHost, directory);
    await host.next();
    await host.kill();
    writeFileSync(join(directory, '.gate'), '');
    const { pid } = (onDisk(directory, 'ends') as { details: { pid: number } }).details;
    await until(() => !isAlive(pid));
    const next = startHost(
      `const real = Date.now;
       Date.now = () => real() - 3600e3;
       const manager = await BackgroundTaskManager.open({ directory, fsync: false, reconcileIntervalMs: 50 });
       const { report } = manager.status().lastReconcile;
       const ends = manager.getTask('ends');
       say({ adopted: report.adopted, lost: report.lost, ends: [ends.status, ends.details.exitCode, ends.endedAt >= ends.startedAt] });
       const stopped = await manager.stopTask('prints');
       say([stopped.status, stopped.endedAt >= stopped.startedAt]);
       await manager.close();`,
      directory,
    );
    expect(await next.next()).toEqual({ adopted: ['prints'], lost: ['beats'], ends: ['failed', 9, true] });
    expect(await next.next()).toEqual(['killed', true]);
    expect(await next.ended, next.stderr()).toBe(0);
  });
});

const unshare = ['--pid', '--fork', '--mount-proc', '--kill-child'];
const canUnshare = canRun('unshare', ...unshare, 'true');
const seesAll = canUnshare && readlinkSync('/proc/self/ns/pid') === INITIAL_NAMESPACE;

describe.skipIf(!canUnshare)('an owner in another pid namespace (needs unshare)', () => {
  let containers = 0;
  /** A host whose process table is its own. With `outlived` its container lives on when it has ended. */
  function containedHost(script: string, directory: string, outlived = false): Host & { readonly mark: string } {
    const wrapper = join(directory, '..', `${directory.split('/').at(-1)}-host-${++containers}.mjs`);
    const init = outlived ? ['sh', '-c', '"$@"; exec sleep 600', 'sh'] : [];
    const prelude = `import * as holdfast from '${new URL('../../dist/index.js', import.meta.url).href}';
      const { BackgroundTaskManager } = holdfast;
      const directory = process.env.HOST_DIRECTORY;
      const say = (value) => process.stdout.write(JSON.stringify(value ?? null) + '\\n');`;
    writeFileSync(wrapper, prelude + script);
    const host = startHost(
      `const { spawn } = await import('node:child_process');
       const child = spawn('unshare', ${JSON.stringify([...unshare, ...init, process.execPath, wrapper])}, { stdio: ['ignore', 'inherit', 'inherit'] });
       child.on('exit', (code) => process.exit(code ?? 1));`,
      directory,
    );
    // It holds the output that the helper waits for the end of.
    onTestFinished(() => {
      for (const pid of processesWith(wrapper)) process.kill(pid, 'SIGKILL');
    });
    return { ...host, mark: wrapper };
  }
  const home = () => {
    const directory = join(place(), 'tasks');
    mkdirSync(directory);
    return directory;
  };
  /** The pid, as we see it, of the process that the owner calls by its own number. */
  const insider = (mark: string) => until(() => processesWith(mark).find((pid) => namespacePidOf(pid) === 1));

  it('is never robbed while it stands still, and goes on', async () => {
    const directory = home();
    const host = containedHost(busyHost, directory);
    expect(await host.next()).toBe(1);
    await until(() => beatsOnDisk(directory) > 3);
    const pid = await insider(host.mark);
    const other = contender(directory);
    process.kill(pid, 'SIGSTOP');
    await until(() => standsStill(pid));
    const before = beatsOnDisk(directory);
    for (let tries = 0; tries < 5; tries++) {
      await expect(BackgroundTaskManager.open({ directory, foreignOwnerTimeoutMs: 1 })).rejects.toMatchObject({
        code: 'DIRECTORY_OWNED',
        owner: { pid: 1 },
      });
    }
    await other.trying();
    process.kill(pid, 'SIGCONT');
    await until(() => beatsOnDisk(directory) > before + 3);
    expect(Object.keys(await other.stop())).toEqual(['DIRECTORY_OWNED']);
    await expectUnharmed(host, directory);
  });

  it('is replaced once it is dead; what its container took with it is not called running for ever, nor guessed', async () => {
    const directory = home();
    const host = containedHost(busyHost, directory);
    await host.next();
    writeFileSync(join(directory, '.gate'), '');
    await until(() => onDisk(directory, 'ends').status === 'failed');
    process.kill(await insider(host.mark), 'SIGKILL');
    await host.ended;
    const manager = await openManager({ directory, stopGraceMs: 100 });
    expect(manager.getTask('ends')).toMatchObject({ status: 'failed', details: { exitCode: 9 } });
    expect(manager.getTask('beats')).toMatchObject({ status: 'lost' });
    // Where all of the kernel can be seen, an empty namespace is gone. Elsewhere an exit record could still come: adopted, never signalled.
    expect(manager.getTask('prints')).toMatchObject({ status: seesAll ? 'lost' : 'running' });
    await manager.close();
  });

  it('left work in a container that lives: from outside it is found, adopted and stopped', async () => {
    const directory = home();
    const host = containedHost(busyHost, directory, true);
    const pid = await host.next();
    const insidePid = (mark: string) => processesWith(mark).find((one) => namespacePidOf(one) === pid);
    process.kill(await until(() => insidePid(host.mark)), 'SIGKILL');
    await until(() => insidePid(host.mark) === undefined);
    const manager = await openManager({ directory, stopGraceMs: 10_000 });
    expect([...manager.status().lastReconcile!.report.adopted].sort()).toEqual(['ends', 'prints']);
    writeFileSync(join(directory, '.gate'), '');
    expect(await manager.waitForTask('ends')).toMatchObject({ status: 'failed', details: { exitCode: 9 } });
    // The next owner finds it, too: where it lives is on record.
    await manager.close();
    const next = await openManager({ directory, stopGraceMs: 10_000 });
    expect(await next.stopTask('prints', { reason: 'enough' })).toMatchObject({
      status: 'killed',
      details: { signal: 'SIGTERM' },
      stopReason: 'enough',
    });
    await next.close();
    expect(processesWith(`${directory}/.run`)).toEqual([]);
  });

  it('left work in a container beside this one: it is out of reach until it is abandoned, or ends', async () => {
    const directory = home();
    const first = containedHost(busyHost, directory, true);
    const pid = await first.next();
    process.kill(await until(() => processesWith(first.mark).find((one) => namespacePidOf(one) === pid)), 'SIGKILL');
    const second = containedHost(
      `let manager;
       for (;;) {
         manager = await BackgroundTaskManager.open({ directory, fsync: false, reconcileIntervalMs: 20 }).catch((error) => { if (error.code !== 'DIRECTORY_OWNED') throw error; });
         if (manager) break;
         await new Promise((resolve) => setTimeout(resolve, 20));
       }
       manager.on('error', () => {});
       const status = (taskId) => manager.getTask(taskId).status;
       say([status('beats'), status('prints'), status('ends')]);
       const refused = await manager.stopTask('prints').catch((error) => error);
       say([refused.code, refused.message]);
       await manager.waitForTask('ends');
       say([manager.getTask('ends').details.exitCode, (await manager.stopTask('prints', { abandon: true })).status]);
       await manager.close({ tasks: 'stop' });`,
      directory,
    );
    expect(await second.next()).toEqual(['lost', 'running', 'running']);
    const [code, message] = await second.next();
    expect(code).toBe('OUT_OF_REACH');
    expect(message).toMatch(/on this machine, in the pid namespace pid:\[\d+\] of the host/);
    writeFileSync(join(directory, '.gate'), '');
    expect(await second.next()).toEqual([9, 'lost']);
    expect(await second.ended, second.stderr()).toBe(0);
    // Nobody was signalled.
    expect(processesWith(`${directory}/.run`).length).toBeGreaterThan(0);
  });
});

/** What a process is called in its own innermost pid namespace. */
function namespacePidOf(pid: number): number {
  return Number(/^NSpid:.*\s(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]);
}

describe('from SIGKILL of the owner to a resolved open', () => {
  const rounds = Number(process.env.HOLDFAST_REOPEN_ROUNDS ?? 3);

  it('takes moments with 1,000 records', async () => {
    const directory = place();
    const filler = await openManager({ directory });
    for (let n = 0; n < 1_000; n++) {
      const record = {
        schemaVersion: 1,
        taskId: `t${n}`,
        kind: 'function',
        description: `the task ${n}`,
        status: 'completed',
        detached: true,
        createdAt: 1000 + n,
        startedAt: 1001 + n,
        endedAt: 1002 + n,
        attempt: 1,
        owner: filler.status().owner,
        details: {},
        metadata: { n },
        hooks: {},
      };
      writeFileSync(join(directory, `t${n}.json`), JSON.stringify(record));
    }
    await filler.close();
    const figures: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const owner = startHost(
        `const manager = await BackgroundTaskManager.open({ directory }); say(manager.listTasks().length); setInterval(() => {}, 1000);`,
        directory,
      );
      expect(await owner.next()).toBe(1_000);
      // The next process stands ready: what is measured is the taking over, not the start of Node.
      const heir = startHost(
        `const { existsSync } = await import('node:fs');
         say('ready');
         while (!existsSync(directory + '/.go${round}')) await new Promise((resolve) => setTimeout(resolve, 1));
         const killedAt = performance.timeOrigin + performance.now();
         process.kill(${owner.child.pid}, 'SIGKILL');
         let tries = 0;
         let manager;
         while (!manager) { tries++; manager = await BackgroundTaskManager.open({ directory }).catch((error) => { if (error.code !== 'DIRECTORY_OWNED') throw error; }); }
         say([performance.timeOrigin + performance.now() - killedAt, tries, manager.listTasks().length]);
         await manager.close();`,
        directory,
      );
      await heir.next();
      writeFileSync(join(directory, `.go${round}`), '');
      const [ms, , tasks] = await heir.next();
      expect(tasks).toBe(1_000);
      figures.push(ms);
      await heir.ended;
    }
    const median = figures.sort((a, b) => a - b)[Math.floor(figures.length / 2)]!;
    process.stderr.write(
      `from SIGKILL to a resolved open with 1,000 records: ${figures.map((ms) => ms.toFixed(0)).join(', ')} ms; median ${median.toFixed(0)} ms\n`,
    );
    expect(median).toBeLessThan(10_000);
  });
});
