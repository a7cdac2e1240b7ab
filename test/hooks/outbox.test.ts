import { describe, expect, it } from 'vitest';
import { type BackgroundTaskError, PermanentDeliveryError } from '../../src/errors.js';
import { Outbox } from '../../src/hooks/outbox.js';
import { SKIPPED } from '../../src/hooks/skipped.js';
import type { Delivery } from '../../src/hooks/types.js';
import type { TaskRecord } from '../../src/task/record.js';
import { FakeClock } from '../helpers/clock.js';
import { deferred } from '../helpers/manager.js';
import { diskError, MemoryPort, openOutbox, pending, settle, taskRecord } from '../helpers/outbox.js';

const codeOf = async (work: Promise<unknown>) =>
  ((await work.catch((error: unknown) => error)) as BackgroundTaskError).code;

describe('names and definitions', () => {
  const open = (hooks: object) => new Outbox(new MemoryPort(new FakeClock()), hooks as never);

  it.each(['', 'a b', '-a', '.', '__proto__', 'a/b', 'ä', 'a\n', 'x'.repeat(65), 'a:b'])(
    'refuses the name %j',
    (name) => {
      expect(() => open(Object.fromEntries([[name, async () => undefined]]))).toThrow(
        expect.objectContaining({
          code: 'INVALID_OPTIONS',
          message: expect.stringContaining(JSON.stringify(name.slice(0, 64)).slice(0, -1)),
        }),
      );
    },
  );

  it.each(['a', 'A', '0', 'conversation', 'x'.repeat(64), 'a.b-c_d', 'constructor', 'toString'])(
    'takes the name %j',
    (name) => {
      const outbox = open({ [name]: 'pull' });
      expect(outbox.has(name)).toBe(true);
      expect(outbox.names()).toEqual([name]);
    },
  );

  it.each([
    [undefined, 'undefined'],
    [null, 'null'],
    ['push', '"push"'],
    [5, '5'],
    [{}, 'deliver'],
    [{ deliver: 'x' }, 'deliver'],
    [{ deliver() {}, maxAttempts: 0 }, 'maxAttempts'],
    [{ deliver() {}, maxAttempts: 1.5 }, 'maxAttempts'],
    [{ deliver() {}, minDelayMs: -1 }, 'minDelayMs'],
    [{ deliver() {}, maxDelayMs: Number.NaN }, 'maxDelayMs'],
    [{ deliver() {}, minDelayMs: 10, maxDelayMs: 9 }, 'got 9'],
    [{ deliver() {}, timeoutMs: '1' }, 'timeoutMs'],
    [{ deliver() {}, retries: 3 }, 'retries'],
  ])('refuses the definition %j and says why', (definition, why) => {
    expect(() => open({ good: definition })).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTIONS', message: expect.stringContaining(why) }),
    );
  });

  it('refuses a hook that is there already', () => {
    const outbox = open({ a: 'pull' });
    expect(() => outbox.addHook('a', async () => undefined)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTIONS' }),
    );
    outbox.addHook('b', 'pull');
    expect(outbox.names()).toEqual(['a', 'b']);
  });

  it('a new task owes to all hooks, or to those named', () => {
    const outbox = open({ a: 'pull', b: async () => undefined });
    expect(outbox.owe(undefined)).toEqual({ a: pending(), b: pending() });
    expect(outbox.owe(['b', 'b'])).toEqual({ b: pending() });
    expect(outbox.owe([])).toEqual({});
    expect(() => outbox.owe(['a', 'c'])).toThrow(
      expect.objectContaining({ code: 'UNKNOWN_HOOK', message: expect.stringContaining('"c"') }),
    );
    expect(() => outbox.owe(['constructor'])).toThrow(expect.objectContaining({ code: 'UNKNOWN_HOOK' }));
  });
});

describe('delivering', () => {
  it('calls nobody before start, nor at once', async () => {
    const calls: string[] = [];
    const { outbox, port } = openOutbox({ hook: (task) => void calls.push(task.taskId) });
    outbox.offer(port.add({ taskId: 'a' }));
    await settle();
    expect(calls).toEqual([]);
    outbox.start();
    expect(calls).toEqual([]);
    await settle();
    outbox.offer(port.add({ taskId: 'b' }));
    expect(calls).toEqual(['a']);
    await settle();
    expect(calls).toEqual(['a', 'b']);
    expect(port.told).toEqual(['hook:delivered a hook 1', 'hook:delivered b hook 1']);
  });

  it('hands over the frozen record, the id, the attempt and the output', async () => {
    const got: { task: TaskRecord; delivery: Delivery; text: string }[] = [];
    const { outbox, port, clock } = openOutbox({
      hook: async (task, delivery) => {
        got.push({ task: task as never, delivery, text: (await delivery.readOutput({ tailBytes: 10 })).text });
      },
    });
    port.output = 'its output';
    const record = port.add({ taskId: 'a' });
    outbox.start();
    outbox.offer(record);
    await settle();
    expect(got).toHaveLength(1);
    expect(got[0]!.task).toBe(record);
    expect(Object.isFrozen(got[0]!.task)).toBe(true);
    expect(got[0]!.delivery).toMatchObject({ deliveryId: 'a:hook', attempt: 1 });
    expect(got[0]!.delivery.signal.aborted).toBe(false);
    expect(got[0]!.text).toBe('its output');
    expect(port.owed('a')).toEqual({ state: 'delivered', attempts: 1, deliveredAt: clock.now() });
    expect(clock.pendingTimers).toBe(0);
  });

  it('tells of a delivery only once it is on record', async () => {
    const gate = deferred();
    const { outbox, port } = openOutbox({ hook: async () => undefined });
    port.slow = () => gate.promise;
    port.onEvent = ({ task }) => expect(port.owed(task.taskId)?.state).toBe('delivered');
    outbox.start();
    outbox.offer(port.add());
    await settle();
    expect(port.events).toEqual([]);
    gate.resolve();
    await settle();
    expect(port.events).toHaveLength(1);
  });

  it('pays only what is owed by tasks that have ended and whose record may be written', async () => {
    let calls = 0;
    const { outbox, port } = openOutbox({ hook: () => void calls++ });
    outbox.start();
    outbox.offer(port.add({ status: 'running' }));
    for (const state of ['delivered', 'failed', 'skipped'] as const)
      outbox.offer(port.add({ hooks: { hook: { state, attempts: 1 } } }));
    outbox.offer({ ...port.add(), schemaVersion: 2 });
    await settle();
    expect(calls).toBe(0);
    expect(port.writes).toEqual([]);
  });

  it('a task offered twice is delivered once', async () => {
    let calls = 0;
    const { outbox, port } = openOutbox({ hook: () => void calls++ });
    outbox.start();
    const record = port.add();
    outbox.offer(record);
    outbox.offer(record);
    await settle();
    outbox.offer(port.get(record.taskId)!);
    await settle();
    expect(calls).toBe(1);
  });

  it('a debt to a hook that is not here waits until it is added; pull hooks are never called', async () => {
    const calls: string[] = [];
    const { outbox, port } = openOutbox({ inbox: 'pull' });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a', hooks: { inbox: pending(), late: pending(), never: pending() } }));
    await settle();
    expect(port.writes).toEqual([]);
    outbox.addHook('late', (task, { deliveryId }) => void calls.push(`${task.taskId} ${deliveryId}`));
    expect(calls).toEqual([]);
    await settle();
    expect(calls).toEqual(['a a:late']);
    expect(port.owed('a', 'inbox')).toEqual(pending());
    expect(port.owed('a', 'never')).toEqual(pending());
  });

  it('one that was withdrawn before its hook came is not delivered', async () => {
    let calls = 0;
    const { outbox, port } = openOutbox({});
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await outbox.skip('a', 'hook');
    outbox.addHook('hook', () => void calls++);
    await settle();
    expect(calls).toBe(0);
  });

  it('runs at most 8 at once, oldest debts first, whoever waits for its next attempt not counted', async () => {
    const running: { id: string; end: ReturnType<typeof deferred<void>> }[] = [];
    const order: string[] = [];
    let most = 0;
    const { outbox, port, clock } = openOutbox({
      hook: async (task) => {
        order.push(task.taskId);
        const one = { id: task.taskId, end: deferred() };
        running.push(one);
        most = Math.max(most, running.length);
        await one.end.promise.finally(() => running.splice(running.indexOf(one), 1));
      },
    });
    const ids = Array.from({ length: 30 }, (_, n) => `t-${n}`);
    // Offered from the newest to the oldest.
    for (const [n, taskId] of [...ids.entries()].reverse())
      outbox.offer(port.add({ taskId, endedAt: clock.now() - 1000 + n }));
    outbox.start();
    await settle();
    expect(order).toEqual(ids.slice(0, 8));
    // The first eight fail and wait: their places are free.
    for (const { end } of [...running]) end.reject(new Error('not yet'));
    await settle();
    expect(order).toEqual(ids.slice(0, 16));
    while (order.length < 38 || running.length > 0) {
      for (const { end } of [...running]) end.resolve();
      await clock.advance(1000);
    }
    expect(order.slice(0, 30)).toEqual(ids);
    expect(most).toBe(8);
    expect(new Set(order.slice(30))).toEqual(new Set(ids.slice(0, 8)));
    expect([...port.disk.values()].every(({ hooks }) => hooks.hook?.state === 'delivered')).toBe(true);
  });

  it('a hook that answers "nobody to deliver to" is skipped, without an event', async () => {
    const { outbox, port } = openOutbox({ hook: async () => SKIPPED });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await settle();
    expect(port.owed('a')).toEqual({ state: 'skipped', attempts: 0 });
    expect(port.events).toEqual([]);
  });

  it('calls a method with its receiver', async () => {
    class Sender {
      readonly #sent: string[] = [];
      deliver(task: { taskId: string }) {
        this.#sent.push(task.taskId);
      }
      get sent() {
        return this.#sent;
      }
    }
    const sender = new Sender();
    const { outbox, port } = openOutbox({ hook: sender });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await settle();
    expect(sender.sent).toEqual(['a']);
  });
});

describe('skip', () => {
  it('withdraws a debt of a task that still runs', async () => {
    let calls = 0;
    const { outbox, port } = openOutbox({ hook: () => void calls++ });
    outbox.start();
    const { taskId } = port.add({ status: 'running' });
    expect((await outbox.skip(taskId, 'hook')).hooks.hook).toEqual({ state: 'skipped', attempts: 0 });
    outbox.offer(taskRecord({ ...port.get(taskId)!, status: 'completed' }));
    await settle();
    expect(calls).toBe(0);
  });

  it('aborts an attempt under way, once the withdrawal is on record', async () => {
    const seen: { signal?: AbortSignal } = {};
    const { outbox, port } = openOutbox({
      hook: (_, { signal }) => {
        seen.signal = signal;
        return new Promise(() => undefined);
      },
    });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await settle();
    port.refuse = () => diskError();
    await expect(outbox.skip('a', 'hook')).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    expect(seen.signal?.aborted).toBe(false);
    port.refuse = () => undefined;
    await outbox.skip('a', 'hook');
    expect(seen.signal?.reason).toMatchObject({ name: 'AbortError' });
    await settle();
    expect(port.owed('a')).toEqual({ state: 'skipped', attempts: 0 });
    expect(port.events).toEqual([]);
  });

  it('ends the wait for the next attempt', async () => {
    let calls = 0;
    const { outbox, port, clock } = openOutbox({
      hook: () => {
        calls++;
        throw new Error('no');
      },
    });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await settle();
    await outbox.skip('a', 'hook');
    await clock.advance(100_000);
    expect(calls).toBe(1);
    expect(clock.pendingTimers).toBe(0);
    expect(port.owed('a')).toMatchObject({ state: 'skipped', attempts: 1 });
    expect(port.owed('a')).not.toHaveProperty('nextAttemptAt');
  });

  it('puts a dead letter away, leaves what was delivered, knows what it is asked', async () => {
    const { outbox, port } = openOutbox({});
    port.add({ taskId: 'dead', hooks: { hook: { state: 'failed', attempts: 4 } } });
    port.add({ taskId: 'done', hooks: { hook: { state: 'delivered', attempts: 1, deliveredAt: 5 } } });
    expect((await outbox.skip('dead', 'hook')).hooks.hook?.state).toBe('skipped');
    expect((await outbox.skip('done', 'hook')).hooks.hook?.state).toBe('delivered');
    expect((await outbox.skip('dead', 'hook')).hooks.hook?.state).toBe('skipped');
    expect(port.writes).toHaveLength(1);
    expect(await codeOf(outbox.skip('dead', 'other'))).toBe('UNKNOWN_HOOK');
    expect(await codeOf(outbox.skip('dead', 'toString'))).toBe('UNKNOWN_HOOK');
    expect(await codeOf(outbox.skip('nobody', 'hook'))).toBe('TASK_NOT_FOUND');
  });
});

describe('acknowledge', () => {
  it('pays a debt, once', async () => {
    const { outbox, port, clock } = openOutbox({ hook: 'pull' });
    port.add({ taskId: 'a' });
    const record = await outbox.acknowledge('a', 'hook');
    expect(record.hooks.hook).toEqual({ state: 'delivered', attempts: 1, deliveredAt: clock.now() });
    expect(await outbox.acknowledge('a', 'hook')).toBe(record);
    expect(port.told).toEqual(['hook:delivered a hook 1']);
  });

  it('two at once make one delivery', async () => {
    const { outbox, port } = openOutbox({ hook: 'pull' });
    port.add({ taskId: 'a' });
    await Promise.all([outbox.acknowledge('a', 'hook'), outbox.acknowledge('a', 'hook')]);
    expect(port.told).toEqual(['hook:delivered a hook 1']);
  });

  it('is only for what is owed by a task that has ended', async () => {
    const { outbox, port } = openOutbox({ hook: 'pull' });
    port.add({ taskId: 'runs', status: 'running' });
    port.add({ taskId: 'dead', hooks: { hook: { state: 'failed', attempts: 4 } } });
    expect(await codeOf(outbox.acknowledge('runs', 'hook'))).toBe('INVALID_SPEC');
    expect(await codeOf(outbox.acknowledge('runs', 'other'))).toBe('UNKNOWN_HOOK');
    expect(await codeOf(outbox.acknowledge('dead', 'hook'))).toBe('INVALID_SPEC');
    expect(await codeOf(outbox.acknowledge('nobody', 'hook'))).toBe('TASK_NOT_FOUND');
    expect(port.writes).toEqual([]);
  });

  it('aborts the attempt that is no longer needed', async () => {
    const seen: { signal?: AbortSignal } = {};
    const { outbox, port } = openOutbox({
      hook: (_, { signal }) => {
        seen.signal = signal;
        return new Promise(() => undefined);
      },
    });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await settle();
    await outbox.acknowledge('a', 'hook');
    expect(seen.signal?.aborted).toBe(true);
    expect(port.told).toEqual(['hook:delivered a hook 1']);
  });
});

describe('redeliver', () => {
  it('starts a fresh set of attempts for every failed hook', async () => {
    let up = false;
    const { outbox, port, clock } = openOutbox({
      hook: async () => {
        if (!up) throw new Error('down');
      },
      other: async () => undefined,
    });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a', hooks: { hook: pending(), other: pending() } }));
    await clock.advance(100_000);
    expect(port.owed('a')).toEqual({ state: 'failed', attempts: 4, lastError: { name: 'Error', message: 'down' } });
    up = true;
    const record = await outbox.redeliver('a');
    expect(record.hooks).toMatchObject({ hook: pending(), other: { state: 'delivered' } });
    expect(record.hooks.hook).toEqual(pending());
    await settle();
    expect(port.owed('a')).toEqual({ state: 'delivered', attempts: 1, deliveredAt: clock.now() });
    expect(port.told.filter((line) => line.includes('other'))).toHaveLength(1);
  });

  it('with a name, brings back whatever became of that one, and only that one', async () => {
    const calls: string[] = [];
    const hook = (name: string) => async () => void calls.push(name);
    const { outbox, port } = openOutbox({ a: hook('a'), b: hook('b'), c: hook('c') });
    outbox.start();
    const hooks = {
      a: { state: 'delivered' as const, attempts: 1, deliveredAt: 5 },
      b: { state: 'failed' as const, attempts: 4, lastError: { name: 'Error', message: 'x' } },
      c: { state: 'skipped' as const, attempts: 0 },
    };
    for (const name of ['a', 'b', 'c']) {
      const { taskId } = port.add({ taskId: `t-${name}`, hooks });
      await outbox.redeliver(taskId, name);
      await settle();
      expect(calls.splice(0)).toEqual([name]);
      expect(port.owed(taskId, name)).toMatchObject({ state: 'delivered', attempts: 1 });
    }
  });

  it('leaves what is owed anyway, and knows what it is asked', async () => {
    const { outbox, port } = openOutbox({});
    port.add({ taskId: 'a', hooks: { hook: pending({ attempts: 2, nextAttemptAt: 1_800_000_000_000 }) } });
    port.add({ taskId: 'runs', status: 'running' });
    expect((await outbox.redeliver('a', 'hook')).hooks.hook?.attempts).toBe(2);
    expect((await outbox.redeliver('a')).hooks.hook?.attempts).toBe(2);
    expect(port.writes).toEqual([]);
    expect(await codeOf(outbox.redeliver('runs'))).toBe('INVALID_SPEC');
    expect(await codeOf(outbox.redeliver('a', 'other'))).toBe('UNKNOWN_HOOK');
    expect(await codeOf(outbox.redeliver('nobody'))).toBe('TASK_NOT_FOUND');
  });

  it('called from the event of the failure, is not lost', async () => {
    let calls = 0;
    const { outbox, port } = openOutbox({
      hook: async () => {
        if (++calls === 1) throw new PermanentDeliveryError('never');
      },
    });
    port.onEvent = ({ event, task }) => {
      if (event === 'hook:failed') void outbox.redeliver(task.taskId);
    };
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await settle(6);
    expect(calls).toBe(2);
    expect(port.owed('a')?.state).toBe('delivered');
  });
});

describe('list', () => {
  it('shows the deliveries of ended tasks, by state and name', () => {
    const { outbox, port } = openOutbox({});
    const lastError = { name: 'Error', message: 'x' };
    const ended = port.add({
      taskId: 'a',
      hooks: { one: pending({ nextAttemptAt: 7 }), two: { state: 'failed', attempts: 4, lastError } },
    });
    const runs = port.add({ taskId: 'b', status: 'running', hooks: { one: pending() } });
    const all = outbox.list([ended, runs]);
    expect(all).toEqual([
      { taskId: 'a', hook: 'one', deliveryId: 'a:one', state: 'pending', attempts: 0, nextAttemptAt: 7, task: ended },
      { taskId: 'a', hook: 'two', deliveryId: 'a:two', state: 'failed', attempts: 4, lastError, task: ended },
    ]);
    expect(Object.isFrozen(all[0])).toBe(true);
    expect(outbox.list([ended], { state: 'failed' }).map(({ hook }) => hook)).toEqual(['two']);
    expect(outbox.list([ended], { name: 'one' }).map(({ hook }) => hook)).toEqual(['one']);
    expect(outbox.list([ended], { name: 'one', state: 'failed' })).toEqual([]);
  });
});
