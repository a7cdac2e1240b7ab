import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { defineTaskKind } from '../../src/index.js';
import { startHost } from '../helpers/host.js';
import { deferred, openManager, record, scratch } from '../helpers/manager.js';
import { afterKill, onDisk } from '../helpers/world.js';

/** Work that counts how often it was begun. */
function counting() {
  const begun: string[] = [];
  const spec = (name: string) =>
    ({ kind: 'function', description: name, idempotencyKey: 'call_9', run: () => void begun.push(name) }) as const;
  return { begun, spec };
}

describe('the same idempotencyKey', () => {
  it('gives the task that is there, running or ended, and begins nothing', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    const { begun, spec } = counting();
    const end = deferred();
    const first = await manager.registerTask({ ...spec('first'), run: () => end.promise });
    const second = await manager.registerTask(spec('second'));
    expect(second).toEqual(first);
    end.resolve();
    const ended = await manager.waitForTask(first.taskId);
    expect(await manager.registerTask({ ...spec('third'), taskId: 'another-id' })).toEqual(ended);
    expect(begun).toEqual([]);
    expect(manager.listTasks()).toHaveLength(1);
    expect(onDisk(directory, first.taskId)).toMatchObject({ idempotencyKey: 'call_9' });
  });

  it('many times at once begins the work once', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, maxRunningTasks: 1 });
    const { begun, spec } = counting();
    const tasks = await Promise.all(Array.from({ length: 20 }, (_, n) => manager.registerTask(spec(`${n}`))));
    expect(new Set(tasks.map(({ taskId }) => taskId)).size).toBe(1);
    await manager.waitForIdle();
    expect(begun).toEqual(['0']);
    expect(manager.status().slots.used).toBe(0);
  });

  it('takes no slot, and gives a reserved one back', async () => {
    const manager = await openManager({ maxRunningTasks: 2 });
    const end = deferred();
    const spec = { kind: 'function', description: 'work', idempotencyKey: 'k', run: () => end.promise } as const;
    await manager.registerTask(spec);
    const slot = manager.reserveSlot();
    await manager.registerTask({ ...spec, slot });
    expect(manager.status().slots.used).toBe(1);
    await manager.registerTask({ kind: 'function', description: 'work', run: () => end.promise });
    expect((await manager.registerTask(spec)).idempotencyKey).toBe('k');
    end.resolve();
    await manager.waitForIdle();
  });

  it('of another kind is IDEMPOTENCY_CONFLICT', async () => {
    const agent = defineTaskKind({ name: 'agent', details: z.object({}) });
    const manager = await openManager({ kinds: [agent] });
    await manager.registerTask({ kind: 'function', description: 'work', idempotencyKey: 'k', run: () => 1 });
    await expect(
      manager.registerTask({ kind: 'agent', description: 'work', details: {}, idempotencyKey: 'k', run: () => 1 }),
    ).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
      message: expect.stringMatching(/"k" .* the kind "function", and this registration has the kind "agent"/),
    });
  });

  it('with another command says both, with other details which', async () => {
    const agent = defineTaskKind({ name: 'agent', details: z.object({ agentId: z.string(), model: z.string() }) });
    const manager = await openManager({ kinds: [agent] });
    const build = { kind: 'process', description: 'work', command: ['true'], idempotencyKey: 'build' } as const;
    const { taskId } = await manager.registerTask(build);
    await expect(manager.registerTask({ ...build, command: ['false'] })).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
      taskId,
      message: expect.stringContaining('the command ["true"], and this registration has ["false"]'),
    });
    await expect(manager.registerTask({ ...build, cwd: '/' })).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
      message: expect.stringContaining('cwd differs'),
    });
    // What no retry has to repeat: words, deadlines, the environment.
    const again = await manager.registerTask({ ...build, description: 'again', timeoutMs: 9_000, env: { A: '1' } });
    expect(again.taskId).toBe(taskId);

    const review = { kind: 'agent', description: 'work', idempotencyKey: 'review', run: () => undefined } as const;
    const details = { agentId: 'a1', model: 'm' };
    const { taskId: reviewId } = await manager.registerTask({
      ...review,
      details,
      run: ({ updateDetails }) => updateDetails({ agentId: 'a2' }),
    });
    await manager.waitForIdle();
    // The details have changed since; what counts is what was registered.
    expect((await manager.registerTask({ ...review, details: { model: 'm', agentId: 'a1' } })).taskId).toBe(reviewId);
    await expect(manager.registerTask({ ...review, details: { agentId: 'a2', model: 'n' } })).rejects.toMatchObject({
      code: 'IDEMPOTENCY_CONFLICT',
      message: expect.stringContaining('other details: agentId, model differ'),
    });
  });

  it('is free again when the registration was refused', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory, maxRunningTasks: 1 });
    const end = deferred();
    await manager.registerTask({ kind: 'function', taskId: 't', description: 'work', run: () => end.promise });
    const { begun, spec } = counting();
    const refused = await Promise.allSettled([manager.registerTask(spec('one')), manager.registerTask(spec('two'))]);
    expect(refused.map((one) => one.status === 'rejected' && one.reason.code)).toEqual([
      'CAPACITY_EXCEEDED',
      'CAPACITY_EXCEEDED',
    ]);
    end.resolve();
    await manager.waitForTask('t');
    await manager.registerTask(spec('three'));
    await manager.waitForIdle();
    expect(begun).toEqual(['three']);
  });

  it('of a launch that failed gives the failed task, which is on record', async () => {
    const manager = await openManager();
    const spec = {
      kind: 'process',
      description: 'work',
      command: 'true',
      cwd: '/no/such/folder',
      idempotencyKey: 'k',
    } as const;
    await expect(manager.registerTask(spec)).rejects.toMatchObject({ code: 'LAUNCH_FAILED' });
    expect(await manager.registerTask(spec)).toMatchObject({ status: 'failed' });
  });

  it('is another one than the task id', async () => {
    const manager = await openManager();
    const { begun, spec } = counting();
    await manager.registerTask({ ...spec('one'), taskId: 'call_9', idempotencyKey: 'k' });
    await manager.registerTask(spec('two'));
    await manager.waitForIdle();
    expect(begun).toEqual(['one', 'two']);
  });
});

describe('across restarts', () => {
  it('a key is known to the host after a clean close', async () => {
    const directory = await scratch();
    const { begun, spec } = counting();
    const first = await openManager({ directory });
    const { taskId } = await first.registerTask(spec('first'));
    await first.waitForTask(taskId);
    await first.close();
    const manager = await openManager({ directory });
    const heard = record(manager);
    expect(await manager.registerTask(spec('second'))).toMatchObject({
      taskId,
      status: 'completed',
      description: 'first',
    });
    expect(begun).toEqual(['first']);
    expect(heard).toEqual([]);
  });

  it('a command is run once, however often its host is killed and asks again', async () => {
    const directory = await scratch();
    const log = join(await scratch(), 'log');
    await writeFile(log, '');
    const script = `
      const manager = await BackgroundTaskManager.open({ directory });
      const command = 'echo ran >>"$LOG"; while [ ! -e "$LOG.go" ]; do sleep 0.02; done';
      const task = await manager.registerTask({ kind: 'process', description: 'work', idempotencyKey: 'call_9', command });
      say([task.taskId, task.status]);
      await new Promise(() => setInterval(() => {}, 1000));`;
    const seen = new Set<string>();
    for (let n = 0; n < 3; n++) {
      const host = startHost(script, directory, { LOG: log });
      const [taskId, status] = await host.next();
      expect(status).toBe('running');
      seen.add(taskId);
      await host.kill();
    }
    expect(seen.size).toBe(1);
    const manager = await openManager({ directory });
    await writeFile(`${log}.go`, '');
    const [taskId] = seen;
    expect(await manager.waitForTask(taskId!)).toMatchObject({ status: 'completed', idempotencyKey: 'call_9' });
    const count = await manager.registerTask({ kind: 'process', description: 'work', command: ['wc', '-l', log] });
    await manager.waitForTask(count.taskId);
    expect((await manager.readOutput(count.taskId)).text).toMatch(/^1 /);
  });

  it('the key of a task that died with its host gives that task: lost, and not begun again', async () => {
    const directory = await scratch();
    const first = await openManager({ directory });
    const { taskId } = await first.registerTask({
      kind: 'function',
      description: 'work',
      idempotencyKey: 'call_9',
      run: ({ signal }) => new Promise((_, reject) => signal.addEventListener('abort', reject)),
    });
    const manager = await openManager({ directory: await afterKill(directory) });
    const { begun, spec } = counting();
    expect(await manager.registerTask(spec('again'))).toMatchObject({ taskId, status: 'lost' });
    expect(begun).toEqual([]);
  });

  it('the key of a kind that this host does not have is still taken', async () => {
    const directory = await scratch();
    const agent = defineTaskKind({ name: 'agent', details: z.object({}) });
    const first = await openManager({ directory, kinds: [agent] });
    await first.registerTask({
      kind: 'agent',
      description: 'work',
      details: {},
      idempotencyKey: 'call_9',
      run: () => 1,
    });
    await first.waitForIdle();
    await first.close();
    const manager = await openManager({ directory });
    await expect(manager.registerTask(counting().spec('x'))).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
  });
});
