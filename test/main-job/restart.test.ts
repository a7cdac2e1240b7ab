/* The main job: a host is killed, another one opens the directory, and nothing is missing. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BackgroundTaskManager, isProcessTask, readTasks } from '../../src/index.js';
import { startHost, supervisors } from '../helpers/host.js';
import { next, openManager, record, scratch } from '../helpers/manager.js';
import { until } from '../helpers/wait.js';

describe('a host killed while 100 processes run', () => {
  it('is followed by one that knows how each of them ended, and has every byte', async () => {
    const directory = await scratch();
    // Each writes binary output before and after the gate opens, and exits with its own code. Odd ones wait for the second gate.
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory, fsync: false });
       await Promise.all(Array.from({ length: 100 }, (_, n) => manager.registerTask({
         kind: 'process', taskId: 't' + n, description: 'process ' + n,
         command: ['/bin/sh', '-c', \`head -c \${1000 + n} /dev/zero | tr '\\\\0' '\\\\\${(n % 50 + 200).toString(8)}'; until [ -e "$0" ]; do sleep 0.5; done; echo "end \${n}"; exit \${n % 5}\`, directory + '/.gate' + n % 2],
       })));
       say('registered');`,
      directory,
    );
    await host.next();
    await until(() => supervisors(directory).length === 100);
    await host.kill();
    await writeFile(join(directory, '.gate0'), '');
    await until(() => supervisors(directory).length === 50);
    const between = Date.now();

    const manager = await openManager({ directory });
    const { report } = manager.status().lastReconcile!;
    expect(report).toMatchObject({ checked: 100, lost: [], failures: [] });
    expect(report.settled).toHaveLength(50);
    expect(report.adopted).toHaveLength(50);
    expect(manager.listTasks({ active: true })).toHaveLength(50);
    await writeFile(join(directory, '.gate1'), '');
    await manager.waitForIdle();

    for (let n = 0; n < 100; n++) {
      const task = manager.getTask(`t${n}`)!;
      expect(task, `t${n}`).toMatchObject({
        status: n % 5 === 0 ? 'completed' : 'failed',
        details: { exitCode: n % 5, signal: null },
      });
      const expected = Buffer.concat([Buffer.alloc(1000 + n, (n % 50) + 200), Buffer.from(`end ${n}\n`)]);
      expect(readFileSync(join(directory, `t${n}`, 'output.log')).equals(expected), `output of t${n}`).toBe(true);
      if (n % 2 === 0) expect(task.endedAt).toBeLessThanOrEqual(between);
      expect(task.endedAt).toBeGreaterThanOrEqual(task.startedAt!);
    }
  });
});

describe('what is adopted', () => {
  it('is announced, keeps its deadline, goes on writing, and can be stopped', async () => {
    const directory = await scratch();
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory, fsync: false });
       const loop = 'n=0; while :; do n=$((n+1)); echo line $n; sleep 0.05; done';
       await manager.registerTask({ kind: 'process', taskId: 'stopped', description: 'work', command: loop });
       await manager.registerTask({ kind: 'process', taskId: 'late', description: 'work', command: loop, timeoutMs: 3000 });
       await manager.registerTask({ kind: 'function', taskId: 'inside', description: 'work', run: () => new Promise(() => {}) });
       say('registered');`,
      directory,
    );
    await host.next();
    await host.kill();
    const manager = await openManager({ directory });
    const heard = record(manager);
    const { size } = await manager.readOutput('stopped');
    await until(async () => (await manager.readOutput('stopped')).size > size);
    // On a slow machine its deadline has passed by now.
    const ofLate = ['task:stopping late', 'task:settled late'];
    expect(heard.filter((event) => event.startsWith('task:') && !ofLate.includes(event)).sort()).toEqual([
      'task:adopted late',
      'task:adopted stopped',
      'task:settled inside',
    ]);
    expect(manager.getTask('inside')).toMatchObject({
      status: 'lost',
      stopReason: expect.stringContaining('owner died'),
    });
    const adopted = manager.getTask('stopped')!;
    expect(adopted.owner?.instanceId).toBe(manager.status().owner.instanceId);
    expect(JSON.parse(await readFile(join(directory, 'stopped.json'), 'utf8'))).toEqual(adopted);

    expect(await manager.stopTask('stopped')).toMatchObject({ status: 'killed', stop: { cause: 'user' } });
    const late = await manager.waitForTask('late');
    expect(late).toMatchObject({ status: 'timed_out', stop: { cause: 'deadline' } });
    expect(late.stop!.requestedAt).toBeGreaterThanOrEqual(late.deadlineAt!);
    expect(supervisors(directory)).toEqual([]);
  });

  it('includes a stop that its owner had begun: SIGKILL is due when it was due', async () => {
    const directory = await scratch();
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory, fsync: false });
       await manager.registerTask({ kind: 'process', taskId: 'stubborn', description: 'work', command: 'trap "" TERM; echo deaf; while :; do sleep 1; done' });
       while (!(await manager.readOutput('stubborn')).size) await new Promise((resolve) => setTimeout(resolve, 10));
       manager.on('task:stopping', () => say('stopping'));
       manager.stopTask('stubborn', { reason: 'enough', graceMs: 600000 });`,
      directory,
    );
    await host.next();
    await host.kill();
    const manager = await openManager({ directory, stopGraceMs: 300 });
    const task = await manager.waitForTask('stubborn');
    expect(task).toMatchObject({ status: 'killed', stopReason: 'enough' });
    // A supervisor that is too slow to say it is killed as well.
    expect([null, 'SIGKILL']).toContain((task.details as { signal: string | null }).signal);
    // The clock of files is up to a tick (10 ms) behind.
    expect(task.endedAt! - task.stop!.requestedAt).toBeGreaterThanOrEqual(290);
    expect(supervisors(directory)).toEqual([]);
  });
});

describe('a host killed around registerTask', () => {
  const rounds = Number(process.env.HOLDFAST_KILL_ROUNDS ?? 25);

  it.each(['right after it resolved', 'while it was under way'])(
    '%s leaves no process without a record',
    async (when) => {
      const directory = await scratch();
      const script = `
      const manager = await BackgroundTaskManager.open({ directory, fsync: false });
      const spec = { kind: 'process', description: 'work', command: 'echo "$HOLDFAST_TASK" >>"' + directory + '/.ran"; sleep 0.2' };
      const round = Number(process.env.ROUND);
      const registered = manager.registerTask({ ...spec, taskId: 'r' + round });
      if (process.env.WHEN === 'after') await registered;
      else {
        // A different moment of the registration each round.
        const until = performance.now() + (round % 20) / 2;
        while (performance.now() < until) await new Promise(setImmediate);
      }
      process.kill(process.pid, 'SIGKILL');`;
      for (let round = 0; round < rounds; round++) {
        const when_ = when.startsWith('right') ? 'after' : 'during';
        const host = startHost(script, directory, { ROUND: String(round), WHEN: when_ });
        expect(await host.ended, host.stderr()).toBe('SIGKILL');
      }
      const manager = await openManager({ directory });
      await manager.waitForIdle();
      await until(() => supervisors(directory).length === 0);
      const known = new Map(manager.listTasks().map((task) => [task.taskId, task]));
      const ran = (await readFile(join(directory, '.ran'), 'utf8').catch(() => ''))
        .split('\n')
        .filter(Boolean)
        .map((path) => path.split('/').at(-1)!);
      expect(new Set(ran).size, 'no task ran twice').toBe(ran.length);
      for (const taskId of ran)
        expect(known.get(taskId), taskId).toMatchObject({ status: 'completed', details: { exitCode: 0 } });
      for (const [taskId, task] of known) expect(task.status, taskId).toBe(ran.includes(taskId) ? 'completed' : 'lost');
      if (when.startsWith('right')) expect(ran).toHaveLength(rounds);
    },
  );
});

describe('a host whose work is done', () => {
  it.each([
    ['that closed the manager', 'await manager.close();'],
    ['that never closed it', ''],
  ])('%s exits by itself', async (_, last) => {
    const directory = await scratch();
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory });
       const task = await manager.registerTask({ kind: 'process', description: 'work', command: 'sleep 0.3; exit 4', timeoutMs: 600000 });
       say((await manager.waitForTask(task.taskId)).details.exitCode);
       const f = await manager.registerTask({ kind: 'function', description: 'work', run: () => 1, timeoutMs: 600000 });
       say((await manager.waitForTask(f.taskId)).status);
       ${last}
       say('done');`,
      directory,
    );
    expect([await host.next(), await host.next(), await host.next()]).toEqual([4, 'completed', 'done']);
    expect(await host.ended).toBe(0);
    expect(host.stderr()).toBe('');
  });

  it('exits while a detached process runs on, and leaves nothing worse than a dead owner', async () => {
    const directory = await scratch();
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory });
       await manager.registerTask({ kind: 'process', taskId: 'on', description: 'work', command: 'until [ -e "' + directory + '/.gate" ]; do sleep 0.05; done', timeoutMs: 600000 });
       manager.on('task:settled', () => {});`,
      directory,
    );
    expect(await host.ended).toBe(0);
    expect((await readTasks(directory)).tasks).toMatchObject([{ taskId: 'on', status: 'running' }]);
    const manager = await openManager({ directory });
    expect(manager.status().lastReconcile?.report.adopted).toEqual(['on']);
    await writeFile(join(directory, '.gate'), '');
    expect(await manager.waitForTask('on')).toMatchObject({ status: 'completed' });
  });

  it('is not let go while it waits', async () => {
    const directory = await scratch();
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory });
       await manager.registerTask({ kind: 'process', taskId: 'p', description: 'work', command: 'sleep 0.3; echo out' });
       for await (const chunk of manager.followOutput('p')) say(chunk);
       say((await manager.waitForTask('p')).status);`,
      directory,
    );
    expect([await host.next(), await host.next()]).toEqual(['out\n', 'completed']);
    expect(await host.ended).toBe(0);
  });
});

describe('200 processes registered at once with a limit of 8', () => {
  it.each(['queue', 'reject'] as const)('never has more than 8 alive (%s)', async (whenFull) => {
    const directory = await scratch();
    const manager = await openManager({ directory, maxRunningTasks: 8, whenFull });
    let most = 0;
    const count = () => {
      // Whose command has ended is no task any more, though its supervisor may still be on its way out.
      const alive = supervisors(directory).filter((taskId) => !existsSync(join(directory, `.over-${taskId}`)));
      most = Math.max(most, alive.length);
    };
    manager.on('task:started', count);
    const settled = await Promise.allSettled(
      Array.from({ length: 200 }, (_, n) =>
        manager.registerTask({
          kind: 'process',
          taskId: `t${n}`,
          description: 'work',
          command: `echo ${n} >>"${directory}/.ran"; sleep 0.02; : >"${directory}/.over-t${n}"`,
        }),
      ),
    );
    let isIdle = false;
    const idle = manager.waitForIdle().then(() => {
      isIdle = true;
    });
    await until(() => {
      count();
      return isIdle;
    });
    await idle;
    const accepted = settled.filter((one) => one.status === 'fulfilled').length;
    const ran = (await readFile(join(directory, '.ran'), 'utf8')).trim().split('\n');
    expect(most).toBeLessThanOrEqual(8);
    expect(ran).toHaveLength(accepted);
    expect(accepted).toBe(whenFull === 'queue' ? 200 : 8);
    expect(manager.listTasks({ status: 'completed' })).toHaveLength(accepted);
    expect(manager.status().slots.used).toBe(0);
  });
});

describe('a process task', () => {
  it('that does not exist ends with 127, one that fails with its code, and its output is on disk', async () => {
    const manager = await openManager();
    const run = async (command: string | string[]) =>
      manager.waitForTask((await manager.registerTask({ kind: 'process', description: 'work', command })).taskId);
    expect(await run(['no-such-command-here'])).toMatchObject({
      status: 'failed',
      details: { exitCode: 127 },
      error: { name: 'CommandNotFoundError' },
    });
    expect(await run('exit 3')).toMatchObject({ status: 'failed', details: { exitCode: 3, signal: null } });
    expect(await run('kill -KILL $$')).toMatchObject({
      status: 'failed',
      details: { exitCode: 137, signal: 'SIGKILL' },
    });
    const done = await run('echo out; echo err >&2');
    expect(done).toMatchObject({ status: 'completed', details: { exitCode: 0 } });
    expect((await manager.readOutput(done.taskId)).text).toBe('out\nerr\n');
  });

  it.each([
    ['a cwd that does not exist', { command: 'true', cwd: '/no/such/folder' }],
    ['a file as cwd', { command: 'true', cwd: '/etc/passwd' }],
    ['an argument beyond the limit', { command: ['echo', 'x'.repeat(200_000)] }],
  ])('with %s is LAUNCH_FAILED: on record as failed, its slot free', async (_, spec) => {
    const manager = await openManager({ maxRunningTasks: 1, hooks: { told: 'pull' } });
    const settled = next(manager, 'task:settled', 'p');
    await expect(
      manager.registerTask({ kind: 'process', taskId: 'p', description: 'work', ...spec }),
    ).rejects.toMatchObject({ code: 'LAUNCH_FAILED', taskId: 'p' });
    expect((await settled).task).toMatchObject({
      status: 'failed',
      startedAt: null,
      hooks: { told: { state: 'skipped' } },
    });
    expect(manager.status()).toMatchObject({ running: 0, slots: { used: 0 } });
  });

  it('frees its place in the queue when its launch fails, and then owes its hooks', async () => {
    const manager = await openManager({ maxRunningTasks: 1, whenFull: 'queue', hooks: { told: 'pull' } });
    const heard = record(manager);
    await manager.registerTask({ kind: 'process', taskId: 'first', description: 'work', command: 'sleep 0.1' });
    await manager.registerTask({
      kind: 'process',
      taskId: 'bad',
      description: 'work',
      command: 'true',
      cwd: '/no/such/folder',
    });
    await manager.registerTask({ kind: 'process', taskId: 'good', description: 'work', command: 'true' });
    await manager.waitForIdle();
    expect(manager.getTask('bad')).toMatchObject({ status: 'failed', hooks: { told: { state: 'pending' } } });
    expect(manager.getTask('good')).toMatchObject({ status: 'completed' });
    expect(heard).toContain('error bad');
  });

  it('writes no value of its environment to disk', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    const secret = createHash('sha256').update(String(Math.random())).digest('hex');
    const { taskId } = await manager.registerTask({
      kind: 'process',
      description: 'work',
      command: 'test -n "$TOKEN"',
      env: { TOKEN: secret, HOME: undefined },
    });
    expect(await manager.waitForTask(taskId)).toMatchObject({ status: 'completed' });
    expect(await readFile(join(directory, `${taskId}.json`), 'utf8')).not.toContain(secret);
    expect(statSync(join(directory, `${taskId}.json`)).mode & 0o777).toBe(0o600);
    expect(statSync(directory).mode & 0o777).toBe(0o700);
  });

  it('is stopped when its output grows beyond its ceiling', async () => {
    const manager = await openManager();
    const { taskId } = await manager.registerTask({
      kind: 'process',
      description: 'work',
      // Not as fast as it can: this process may stand still for a moment, and everything else shares its disk.
      command: 'while :; do head -c 65536 /dev/zero; sleep 0.002; done',
      maxOutputBytes: 1_000_000,
    });
    const task = await manager.waitForTask(taskId);
    expect(task).toMatchObject({
      status: 'killed',
      stop: { cause: 'output_limit' },
      stopReason: expect.stringContaining('1000000'),
    });
    expect(isProcessTask(task)).toBe(true);
  });
});

it('a killed owner is replaced at once', async () => {
  const directory = await scratch();
  const host = startHost(
    `await BackgroundTaskManager.open({ directory }); say('open'); setInterval(() => {}, 1000);`,
    directory,
  );
  await host.next();
  await expect(BackgroundTaskManager.open({ directory })).rejects.toMatchObject({
    code: 'DIRECTORY_OWNED',
    owner: { pid: host.child.pid },
  });
  await host.kill();
  await openManager({ directory });
});
