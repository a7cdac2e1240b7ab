import { describe, expect, it } from 'vitest';
import { PermanentDeliveryError } from '../../src/errors.js';
import { backoffMs, MAX_RETRY_AFTER_MS, remainingMs } from '../../src/hooks/backoff.js';
import type { HookEvents } from '../../src/hooks/outbox.js';
import { FakeClock } from '../helpers/clock.js';
import { deferred } from '../helpers/manager.js';
import { diskError, openOutbox, pending, settle } from '../helpers/outbox.js';

/** A hook that throws these, one after the other, then succeeds. */
function failing(...errors: unknown[]) {
  const at: number[] = [];
  const clock = new FakeClock();
  const hook = async () => {
    at.push(clock.now());
    if (errors.length > 0) throw errors.shift();
  };
  return { hook, at, clock };
}

describe('backoff', () => {
  const limits = { minDelayMs: 500, maxDelayMs: 30_000 };

  it('doubles, is spread by up to twice, and has a ceiling', () => {
    expect([1, 2, 3, 4].map((n) => backoffMs(limits, n, new Error(), 0))).toEqual([500, 1000, 2000, 4000]);
    expect(backoffMs(limits, 1, new Error(), 0.5)).toBe(750);
    expect(backoffMs(limits, 9, new Error(), 0.999)).toBe(30_000);
    expect(backoffMs(limits, 5000, new Error(), 0)).toBe(30_000);
    expect(backoffMs({ minDelayMs: 0, maxDelayMs: 0 }, 5000, new Error())).toBe(0);
  });

  it('waits at least as long as the error asks for, within reason', () => {
    const asks = (retryAfterMs: unknown) => backoffMs(limits, 1, Object.assign(new Error(), { retryAfterMs }), 0);
    expect(asks(120_000)).toBe(120_000);
    expect(asks(10)).toBe(500);
    expect(asks(1e12)).toBe(MAX_RETRY_AFTER_MS);
    for (const nonsense of [Number.NaN, -1, '9999', null]) expect(asks(nonsense)).toBe(500);
  });

  it('goes on with a wait on record, whatever became of the clock', () => {
    const record = { endedAt: 1_000_000 };
    expect(remainingMs(limits, record, 1_010_000, 1_005_000)).toBe(5000);
    expect(remainingMs(limits, record, 1_010_000, 9_000_000)).toBe(0);
    expect(remainingMs(limits, record, 1_600_000, 1_005_000)).toBe(595_000);
    expect(remainingMs(limits, record, 90_000_000, 1_005_000)).toBe(MAX_RETRY_AFTER_MS);
    // The task seems to end in the future: the clock was set back.
    expect(remainingMs(limits, record, 1_010_000, 5_000)).toBe(30_000);
  });
});

describe('attempts that fail', () => {
  it('are on record, with the error and the time of the next, before anybody waits', async () => {
    const { hook, at, clock } = failing(new RangeError('too far'), new TypeError('no such type'), 'a string');
    const { outbox, port } = openOutbox({ hook }, { clock });
    const start = clock.now();
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await settle();
    const first = port.owed('a')!;
    expect(first).toMatchObject({
      state: 'pending',
      attempts: 1,
      lastError: { name: 'RangeError', message: 'too far' },
    });
    expect(first.nextAttemptAt! - start).toBeGreaterThanOrEqual(500);
    expect(first.nextAttemptAt! - start).toBeLessThanOrEqual(1000);
    expect(clock.nextTimerIn).toBe(first.nextAttemptAt! - start);
    await clock.advance(first.nextAttemptAt! - start - 1);
    expect(at).toHaveLength(1);
    await clock.advance(1);
    expect(at).toEqual([start, first.nextAttemptAt]);
    expect(port.owed('a')).toMatchObject({ attempts: 2, lastError: { name: 'TypeError', message: 'no such type' } });
    await clock.advance(2000);
    expect(port.owed('a')).toMatchObject({ attempts: 3, lastError: { message: 'Thrown: a string' } });
    await clock.advance(4000);
    expect(port.owed('a')).toEqual({ state: 'delivered', attempts: 4, deliveredAt: at[3] });
    expect(port.told).toEqual(
      ['retrying', 'retrying', 'retrying', 'delivered'].map((event, n) => `hook:${event} a hook ${n + 1}`),
    );
    const retrying = port.events[0] as HookEvents['hook:retrying'];
    expect(retrying.error).toBeInstanceOf(RangeError);
    expect(retrying.nextAttemptAt).toBe(first.nextAttemptAt);
    expect(retrying.task.hooks.hook).toEqual(first);
  });

  it('end as a dead letter after the last', async () => {
    const error = Object.assign(new Error(`x${'é'.repeat(9000)}`), { code: 'E_DOWN' });
    const { hook, at, clock } = failing(error, error, error, error, error);
    const { outbox, port } = openOutbox({ hook: { deliver: hook, maxAttempts: 3 } }, { clock });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await clock.advance(100_000);
    expect(at).toHaveLength(3);
    const owed = port.owed('a')!;
    expect(owed).toEqual({
      state: 'failed',
      attempts: 3,
      lastError: { name: 'Error', message: expect.any(String), code: 'E_DOWN' },
    });
    expect(Buffer.byteLength(owed.lastError!.message)).toBeLessThanOrEqual(8192);
    expect(port.events.at(-1)).toMatchObject({ event: 'hook:failed', attempt: 3, error });
    expect(clock.pendingTimers).toBe(0);
    outbox.offer(port.get('a')!);
    await clock.advance(100_000);
    expect(at).toHaveLength(3);
  });

  it.each([
    ['an instance', new PermanentDeliveryError('gone')],
    ['one of another copy', Object.assign(new Error('gone'), { name: 'PermanentDeliveryError' })],
  ])('for good: %s is not tried again', async (_, error) => {
    const { hook, at, clock } = failing(error);
    const { outbox, port } = openOutbox({ hook }, { clock });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await clock.advance(100_000);
    expect(at).toHaveLength(1);
    expect(port.owed('a')).toMatchObject({
      state: 'failed',
      attempts: 1,
      lastError: { name: 'PermanentDeliveryError', message: 'gone' },
    });
    expect(port.told).toEqual(['hook:failed a hook 1']);
  });

  it('with one attempt allowed, are the last', async () => {
    const { hook, at, clock } = failing(new Error('no'));
    const { outbox, port } = openOutbox({ hook: { deliver: hook, maxAttempts: 1 } }, { clock });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await clock.advance(100_000);
    expect(at).toHaveLength(1);
    expect(port.told).toEqual(['hook:failed a hook 1']);
  });

  it('by a synchronous throw, or by throwing what cannot be shown', async () => {
    const unshowable = Object.create(null);
    const hostile = Object.defineProperty(new Error('x'), 'message', {
      get() {
        throw new Error('never');
      },
    });
    const errors = [unshowable, hostile, undefined];
    const { outbox, port, clock } = openOutbox({
      hook: () => {
        throw errors.shift();
      },
    });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await clock.advance(100_000);
    expect(port.owed('a')).toMatchObject({ state: 'failed', attempts: 4, lastError: { message: 'Thrown: undefined' } });
    expect(port.writes.map(({ hooks }) => hooks.hook?.lastError?.message)).toContainEqual(
      expect.stringContaining('cannot be shown'),
    );
    expect(port.reports).toEqual([]);
  });

  it('with retryAfterMs, are not tried again sooner', async () => {
    const { hook, at, clock } = failing(Object.assign(new Error('busy'), { retryAfterMs: 120_000 }));
    const { outbox, port } = openOutbox({ hook }, { clock });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await clock.advance(119_999);
    expect(at).toHaveLength(1);
    await clock.advance(1);
    expect(at).toHaveLength(2);
  });

  it('wait by a clock that may jump: neither for hours, nor not at all', async () => {
    for (const jump of [-7_200_000, 7_200_000]) {
      const { hook, at, clock } = failing(new Error('no'));
      const { outbox, port } = openOutbox({ hook }, { clock });
      outbox.start();
      outbox.offer(port.add({ taskId: 'a' }));
      await settle();
      clock.jump(jump);
      await clock.advance(499);
      expect(at).toHaveLength(1);
      await clock.advance(501);
      expect(at).toHaveLength(2);
      expect(port.owed('a')?.state).toBe('delivered');
    }
  });
});

it('a clock that jumps while the failed attempt is written neither stretches the wait nor skips it', async () => {
  for (const jump of [-7_200_000, 7_200_000]) {
    const { hook, at, clock } = failing(new Error('no'));
    const { outbox, port } = openOutbox({ hook }, { clock });
    const written = deferred();
    port.slow = () => (port.writes.length === 0 ? written.promise : undefined);
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await settle();
    clock.jump(jump);
    written.resolve();
    await clock.advance(30_000);
    expect(at).toHaveLength(2);
  }
});

describe('the time limit', () => {
  it('aborts the signal, counts as a failure, and whatever comes later changes nothing', async () => {
    const late = deferred();
    const signals: AbortSignal[] = [];
    const { outbox, port, clock } = openOutbox({
      hook: {
        deliver: (_, { signal, attempt }) => {
          signals.push(signal);
          return attempt === 1 ? late.promise : Promise.reject(new PermanentDeliveryError('no'));
        },
        timeoutMs: 1000,
      },
    });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await clock.advance(999);
    expect(signals[0]!.aborted).toBe(false);
    await clock.advance(1);
    expect(signals[0]!.reason).toMatchObject({ name: 'TimeoutError' });
    expect(port.owed('a')).toMatchObject({ state: 'pending', attempts: 1, lastError: { name: 'TimeoutError' } });
    late.resolve();
    await settle();
    expect(port.owed('a')).toMatchObject({ state: 'pending', attempts: 1 });
    await clock.advance(2000);
    expect(port.owed('a')).toMatchObject({ state: 'failed', attempts: 2 });
    expect(signals[1]!.aborted).toBe(false);
    expect(clock.pendingTimers).toBe(0);
  });

  it('also of one that rejects when it is aborted', async () => {
    const { outbox, port, clock } = openOutbox({
      hook: {
        deliver: (_, { signal }) =>
          new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('mine')))),
        timeoutMs: 1000,
      },
    });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await clock.advance(1000);
    expect(port.owed('a')).toMatchObject({ attempts: 1, lastError: { name: 'TimeoutError' } });
  });

  it('0 is none', async () => {
    const end = deferred();
    const { outbox, port, clock } = openOutbox({ hook: { deliver: () => end.promise, timeoutMs: 0 } });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await clock.advance(10_000_000);
    end.resolve();
    await settle();
    expect(port.owed('a')?.state).toBe('delivered');
  });
});

describe('a disk that refuses', () => {
  it('a success that cannot be written is kept and written later: the hook is not called again', async () => {
    let calls = 0;
    const { outbox, port, clock } = openOutbox({ hook: () => void calls++ });
    port.refuse = (taskId) => diskError('ENOSPC', taskId);
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    const called = clock.now();
    await clock.advance(3_600_000);
    expect(calls).toBe(1);
    expect(port.events).toEqual([]);
    expect(port.reports).toHaveLength(1);
    expect(port.reports[0]).toMatchObject({ code: 'STORAGE_FAILED', taskId: 'a', cause: { code: 'ENOSPC' } });
    port.refuse = () => diskError('EIO');
    await clock.advance(60_000);
    expect(port.reports.map(({ cause }) => (cause as { code: string }).code)).toEqual(['ENOSPC', 'EIO']);
    port.refuse = () => undefined;
    await clock.advance(10_000);
    expect(calls).toBe(1);
    expect(port.owed('a')).toEqual({ state: 'delivered', attempts: 1, deliveredAt: called });
    expect(port.told).toEqual(['hook:delivered a hook 1']);
    expect(clock.pendingTimers).toBe(0);
  });

  it('a full disk is told once, not once for each delivery; and at most eight successes are in doubt', async () => {
    let calls = 0;
    const { outbox, port, clock } = openOutbox({ hook: () => void calls++ });
    port.refuse = () => diskError();
    outbox.start();
    for (let n = 0; n < 20; n++) outbox.offer(port.add());
    await clock.advance(60_000);
    expect(calls).toBe(8);
    expect(port.reports).toHaveLength(1);
    port.refuse = () => undefined;
    await clock.advance(60_000);
    expect(calls).toBe(20);
    port.refuse = () => diskError();
    outbox.offer(port.add());
    await clock.advance(60_000);
    expect(port.reports).toHaveLength(2);
  });

  it('a failure that cannot be written is not tried again before it is', async () => {
    const { hook, at, clock } = failing(new Error('no'));
    const { outbox, port } = openOutbox({ hook }, { clock });
    port.refuse = () => diskError();
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await clock.advance(600_000);
    expect(at).toHaveLength(1);
    port.refuse = () => undefined;
    await clock.advance(20_000);
    expect(at).toHaveLength(2);
    expect(port.told).toEqual(['hook:retrying a hook 1', 'hook:delivered a hook 2']);
  });

  it('a withdrawal that comes meanwhile does not undo a success', async () => {
    const { outbox, port, clock } = openOutbox({ hook: async () => undefined });
    port.refuse = () => diskError();
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await settle();
    port.refuse = () => undefined;
    expect((await outbox.skip('a', 'hook')).hooks.hook?.state).toBe('delivered');
    await clock.advance(60_000);
    expect(port.told).toEqual(['hook:delivered a hook 1']);
  });

  it('a record that is gone, or that another owner has, ends it', async () => {
    let calls = 0;
    const { outbox, port, clock } = openOutbox({
      hook: (task) => {
        calls++;
        port.disk.delete(task.taskId);
      },
    });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await clock.advance(600_000);
    expect(calls).toBe(1);
    expect(port.reports).toEqual([expect.objectContaining({ code: 'TASK_NOT_FOUND' })]);
    expect(clock.pendingTimers).toBe(0);
  });
});

describe('a restart', () => {
  it('goes on with the count and the waiting time', async () => {
    const { hook, at, clock } = failing(new Error('1'), new Error('2'), new Error('3'), new Error('4'), new Error('5'));
    const first = openOutbox({ hook: { deliver: hook, minDelayMs: 10_000, maxDelayMs: 10_000 } }, { clock });
    first.outbox.start();
    first.outbox.offer(first.port.add({ taskId: 'a' }));
    await clock.advance(10_000);
    expect(first.port.owed('a')).toMatchObject({ attempts: 2, nextAttemptAt: clock.now() + 10_000 });
    await clock.advance(4_000);
    await first.outbox.close(0);
    expect(clock.pendingTimers).toBe(0);

    const { outbox, port } = openOutbox(
      { hook: { deliver: hook, minDelayMs: 10_000, maxDelayMs: 10_000 } },
      { clock, disk: first.port.disk },
    );
    outbox.offer(port.get('a')!);
    outbox.start();
    await clock.advance(5_999);
    expect(at).toHaveLength(2);
    await clock.advance(1);
    expect(at).toHaveLength(3);
    await clock.advance(100_000);
    expect(at).toHaveLength(4);
    expect(port.owed('a')).toMatchObject({ state: 'failed', attempts: 4 });
    expect(port.told.at(-1)).toBe('hook:failed a hook 4');
  });

  it('gives up where fewer attempts are allowed now than were made', async () => {
    let calls = 0;
    const { outbox, port, clock } = openOutbox({ hook: { deliver: () => void calls++, maxAttempts: 2 } });
    const lastError = { name: 'Error', message: 'x' };
    outbox.offer(
      port.add({ taskId: 'a', hooks: { hook: pending({ attempts: 3, lastError, nextAttemptAt: clock.now() }) } }),
    );
    outbox.start();
    await settle();
    expect(calls).toBe(0);
    expect(port.owed('a')).toEqual({ state: 'failed', attempts: 3, lastError });
    expect(port.told).toEqual(['hook:failed a hook 3']);
  });
});

describe('close', () => {
  it('waits for attempts under way, and starts nothing new', async () => {
    const ends = new Map<string, ReturnType<typeof deferred<void>>>();
    const { outbox, port, clock } = openOutbox({
      hook: (task) => {
        const end = deferred();
        ends.set(task.taskId, end);
        return end.promise;
      },
    });
    outbox.start();
    for (let n = 0; n < 10; n++) outbox.offer(port.add({ taskId: `t-${n}` }));
    await settle();
    let closed = false;
    const closing = outbox.close(5_000).then(() => {
      closed = true;
    });
    expect(outbox.close(0)).toBe(outbox.close(5_000));
    for (const end of [...ends.values()].slice(1)) end.resolve();
    ends.get('t-0')!.reject(new Error('no'));
    await closing;
    expect(closed).toBe(true);
    expect(ends.size).toBe(8);
    expect(port.owed('t-0')).toMatchObject({ state: 'pending', attempts: 1, nextAttemptAt: expect.any(Number) });
    expect(port.owed('t-7')?.state).toBe('delivered');
    expect(port.owed('t-8')).toEqual(pending());
    outbox.offer(port.add({ taskId: 'later' }));
    outbox.start();
    await clock.advance(1_000_000);
    expect(ends.size).toBe(8);
    expect(clock.pendingTimers).toBe(0);
  });

  it('aborts them when the grace is over: they count as not made', async () => {
    const signals: AbortSignal[] = [];
    const { outbox, port, clock } = openOutbox({
      hook: {
        deliver: (_, { signal }) => {
          signals.push(signal);
          return new Promise(() => undefined);
        },
        timeoutMs: 0,
      },
    });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await settle();
    const closing = outbox.close(5_000);
    await clock.advance(4_999);
    expect(signals[0]!.aborted).toBe(false);
    await clock.advance(1);
    await closing;
    expect(signals[0]!.reason).toMatchObject({ name: 'AbortError' });
    expect(port.owed('a')).toEqual(pending());
    expect(port.events).toEqual([]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('tries once more to write a success, and lets go', async () => {
    const { outbox, port, clock } = openOutbox({ hook: async () => undefined });
    port.refuse = () => diskError();
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    outbox.offer(port.add({ taskId: 'b' }));
    await clock.advance(60_000);
    port.refuse = (taskId) => (taskId === 'b' ? diskError() : undefined);
    await outbox.close(0);
    expect(port.owed('a')?.state).toBe('delivered');
    expect(port.owed('b')?.state).toBe('pending');
    expect(clock.pendingTimers).toBe(0);
  });

  it('resolves only when nothing more is written', async () => {
    const gate = deferred();
    const { outbox, port } = openOutbox({ hook: async () => undefined });
    port.slow = () => gate.promise;
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await settle();
    let closed = false;
    const closing = outbox.close(0).then(() => {
      closed = true;
    });
    await settle(10);
    expect(closed).toBe(false);
    gate.resolve();
    await closing;
    expect(port.owed('a')?.state).toBe('delivered');
  });
});
