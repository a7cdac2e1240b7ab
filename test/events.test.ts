import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { BackgroundTaskError } from '../src/errors.js';
import { type BackgroundTaskEvents, EventHub } from '../src/events.js';
import { eventNames } from '../src/task/events.js';
import { until } from './helpers/wait.js';

let hub: EventHub;
const warnings: Error[] = [];

beforeEach(() => {
  hub = new EventHub();
  warnings.length = 0;
  vi.spyOn(process, 'emitWarning').mockImplementation((warning) => void warnings.push(warning as Error));
});
afterEach(() => {
  vi.restoreAllMocks();
});

function prune(taskId = 'process-1'): void {
  hub.emit('task:pruned', { taskId });
}

/** Everything that is heard, in order. */
function hearing(): string[] {
  const heard: string[] = [];
  hub.on('*', (event, payload) => {
    heard.push(`${event} ${(payload as { taskId?: string }).taskId}`);
  });
  return heard;
}

/** A promise of another make. */
function thenable(then: (resolve: unknown, reject: (reason: unknown) => void) => void): object {
  return Object.defineProperty({}, 'then', { value: then });
}

describe('EventHub: who hears', () => {
  it('gives listeners the payload, and listeners to all the name first', () => {
    const one = vi.fn();
    const all = vi.fn();
    hub.on('task:pruned', one);
    hub.on('*', all);
    const payload = { taskId: 'process-1' };
    hub.emit('task:pruned', payload);
    hub.emit('manager:fenced', { owner: null });
    expect(one.mock.calls).toEqual([[payload]]);
    expect(all.mock.calls).toEqual([
      ['task:pruned', payload],
      ['manager:fenced', { owner: null }],
    ]);
  });

  it('knows every event of the map, and no other', () => {
    const heard: string[] = [];
    hub.on('*', (event) => void heard.push(event));
    for (const name of eventNames) hub.emit(name, {} as never);
    expect(heard).toEqual([...eventNames]);
    expect(eventNames).toHaveLength(18);
  });

  it.each([['task:ended'], ['toString'], ['__proto__'], [''], [undefined], [7], [Symbol('x')]])(
    'refuses to listen to %s',
    (name) => {
      for (const call of ['on', 'once', 'off'] as const) {
        const wrong = () => hub[call](name as '*', () => undefined);
        expect(wrong).toThrow(BackgroundTaskError);
        expect(wrong).toThrow(
          expect.objectContaining({
            code: 'INVALID_SPEC',
            message: expect.stringContaining('expected one of task:queued'),
          }),
        );
      }
    },
  );

  it.each([[undefined], [null], [{}], ['f']])('refuses %s as a listener', (listener) => {
    for (const call of ['on', 'once', 'off'] as const) {
      expect(() => hub[call]('task:pruned', listener as never)).toThrow(
        expect.objectContaining({ code: 'INVALID_SPEC', message: expect.stringContaining('expected a function') }),
      );
    }
  });

  it('a listener added twice hears twice, and each removal removes one', () => {
    const listener = vi.fn();
    const removeFirst = hub.on('task:pruned', listener);
    hub.on('task:pruned', listener);
    prune();
    expect(listener).toHaveBeenCalledTimes(2);
    removeFirst();
    removeFirst();
    prune();
    expect(listener).toHaveBeenCalledTimes(3);
    hub.off('task:pruned', listener);
    hub.off('task:pruned', listener);
    prune();
    expect(listener).toHaveBeenCalledTimes(3);
  });

  it('once hears once, also when the event comes again meanwhile, and can be removed by its listener', () => {
    const listener = vi.fn(() => prune('process-2'));
    hub.once('task:pruned', listener);
    prune();
    prune();
    expect(listener).toHaveBeenCalledTimes(1);
    const removed = vi.fn();
    hub.once('task:pruned', removed);
    hub.off('task:pruned', removed);
    hub.once('task:pruned', removed)();
    prune();
    expect(removed).not.toHaveBeenCalled();
  });

  it('one added during an event does not hear that event, of whatever sort it is', () => {
    const late = vi.fn();
    hub.once('task:pruned', () => {
      hub.on('task:pruned', late);
      hub.on('*', late);
    });
    prune('process-1');
    expect(late).not.toHaveBeenCalled();
    prune('process-2');
    expect(late.mock.calls).toEqual([[{ taskId: 'process-2' }], ['task:pruned', { taskId: 'process-2' }]]);
  });

  it('one removed during an event does not hear it any more', () => {
    const removed = vi.fn();
    hub.on('task:pruned', () => {
      hub.off('task:pruned', removed);
      removeAll();
    });
    hub.on('task:pruned', removed);
    const removeAll = hub.on('*', removed);
    prune();
    expect(removed).not.toHaveBeenCalled();
  });

  it('what a listener emits comes after the event that it hears, for everybody', () => {
    const heard = hearing();
    hub.once('task:pruned', () => prune('process-2'));
    const second: string[] = [];
    hub.on('task:pruned', ({ taskId }) => void second.push(taskId));
    prune('process-1');
    expect(heard).toEqual(['task:pruned process-1', 'task:pruned process-2']);
    expect(second).toEqual(['process-1', 'process-2']);
  });

  it('whatever is added and removed when, hears what a plain list of listeners says', () => {
    const action = fc.oneof(
      fc.record({
        do: fc.constantFrom('on', 'once', 'off'),
        event: fc.constantFrom('task:pruned', 'manager:fenced', '*'),
        who: fc.nat({ max: 3 }),
      }),
      fc.record({
        do: fc.constant('emit'),
        event: fc.constantFrom('task:pruned', 'manager:fenced'),
        who: fc.constant(0),
      }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
        const tested = new EventHub();
        const heard: string[] = [];
        const expected: string[] = [];
        let list: { event: string; who: number; once: boolean }[] = [];
        const listeners = [0, 1, 2, 3].map((who) => () => void heard.push(`${who}`));
        for (const { do: what, event, who } of actions) {
          if (what === 'emit') {
            tested.emit(event as 'task:pruned', { taskId: 'x' });
            const called = [...list.filter((one) => one.event === event), ...list.filter((one) => one.event === '*')];
            expected.push(...called.map((one) => `${one.who}`));
            list = list.filter((one) => !(one.once && called.includes(one)));
          } else if (what === 'off') {
            tested.off(event as '*', listeners[who]!);
            const index = list.findIndex((one) => one.event === event && one.who === who);
            if (index >= 0) list.splice(index, 1);
          } else {
            tested[what as 'on'](event as '*', listeners[who]!);
            list.push({ event, who, once: what === 'once' });
          }
        }
        expect(heard).toEqual(expected);
      }),
    );
  });
});

describe('EventHub: listeners that fail', () => {
  const boom = new Error('boom');

  function errors(): BackgroundTaskEvents['error'][] {
    const told: BackgroundTaskEvents['error'][] = [];
    hub.on('error', (payload) => void told.push(payload));
    return told;
  }

  it('one that throws keeps nobody from hearing, and is told as an error afterwards', () => {
    const heard = hearing();
    const told = errors();
    hub.on('task:pruned', () => {
      throw boom;
    });
    const other = vi.fn(() => expect(told).toEqual([]));
    hub.on('task:pruned', other);
    prune();
    expect(other).toHaveBeenCalledTimes(1);
    expect(heard).toEqual(['task:pruned process-1', 'error process-1']);
    expect(told).toMatchObject([
      { taskId: 'process-1', error: { code: 'LISTENER_FAILED', cause: boom, taskId: 'process-1' } },
    ]);
    expect(told[0]!.error).toBeInstanceOf(BackgroundTaskError);
    expect(told[0]!.error.message).toBe('a listener to "task:pruned" failed: boom');
    expect(warnings).toEqual([]);
  });

  it('names the task of the payload, where there is one', () => {
    const told = errors();
    hub.on('*', (event) => {
      if (event !== 'error') throw boom;
    });
    hub.emit('task:settled', { task: { taskId: 'agent-7' } } as never);
    hub.emit('manager:fenced', { owner: null });
    expect(told.map(({ taskId }) => taskId)).toEqual(['agent-7', undefined]);
    expect(told[1]).not.toHaveProperty('taskId');
  });

  it.each([
    ['rejects', () => Promise.reject(boom)],
    ['returns something that rejects', () => thenable((_, reject) => reject(boom))],
    [
      'returns something that throws when asked',
      () =>
        thenable(() => {
          throw boom;
        }),
    ],
  ])('one that %s is told as an error', async (_name, listener) => {
    const told = errors();
    hub.on('task:pruned', listener as never);
    prune();
    await until(() => told.length > 0);
    expect(told).toMatchObject([{ taskId: 'process-1', error: { cause: boom } }]);
  });

  it('takes anything that is thrown', () => {
    const told = errors();
    hub.on('task:pruned', () => {
      throw 'text';
    });
    prune();
    expect(told[0]!.error).toMatchObject({
      message: 'a listener to "task:pruned" failed: Thrown: text',
      cause: 'text',
    });
  });

  it('an error that nobody listens to is a warning', () => {
    const error = new BackgroundTaskError('STORAGE_FAILED', 'the disk is full');
    hub.emit('error', { error });
    expect(warnings).toEqual([error]);
    const remove = hub.on('*', () => undefined);
    hub.emit('error', { error });
    expect(warnings).toHaveLength(1);
    remove();
    hub.emit('error', { error });
    expect(warnings).toHaveLength(2);
  });

  it('a listener to errors that fails is a warning, and is not asked to hear of itself', async () => {
    const sync = vi.fn(() => {
      throw boom;
    });
    const late = vi.fn(() => Promise.reject(boom));
    const all = vi.fn(() => {
      throw boom;
    });
    hub.on('error', sync);
    hub.on('error', late);
    hub.on('*', all);
    hub.emit('error', { error: new BackgroundTaskError('STORAGE_FAILED', 'the disk is full') });
    await until(() => warnings.length === 3);
    await setImmediate();
    expect(warnings).toHaveLength(3);
    for (const warning of warnings) expect(warning).toMatchObject({ code: 'LISTENER_FAILED', cause: boom });
    for (const listener of [sync, late, all]) expect(listener).toHaveBeenCalledTimes(1);
  });

  it('one that always fails does not keep the hub busy', () => {
    const all = vi.fn(() => {
      throw boom;
    });
    hub.on('*', all);
    prune();
    expect(all.mock.calls.map((args: unknown[]) => args[0])).toEqual(['task:pruned', 'error']);
    expect(warnings).toHaveLength(1);
  });
});

describe('EventHub: held back', () => {
  it('delivers what was emitted meanwhile at the release, in order, also to those who came later', async () => {
    hub.hold();
    prune('process-1');
    prune('process-2');
    const heard = hearing();
    expect(heard).toEqual([]);
    const released = hub.release();
    expect(heard).toEqual(['task:pruned process-1', 'task:pruned process-2']);
    prune('process-3');
    expect(heard).toHaveLength(3);
    await released;
  });

  it('keeps the order when listeners emit during the release, and when there is too much for one turn', async () => {
    hub.hold();
    const names = Array.from({ length: 1_000 }, (_, index) => `process-${index}`);
    for (const name of names) prune(name);
    const heard = hearing();
    hub.once('task:pruned', () => prune('from-a-listener'));
    let turns = 0;
    let over = false;
    const released = hub.release().then(() => {
      over = true;
    });
    expect(heard.length).toBeLessThan(1_000);
    prune('during');
    while (!over) {
      turns++;
      await setImmediate();
    }
    await released;
    expect(turns).toBeGreaterThan(1);
    expect(heard).toEqual([...names, 'from-a-listener', 'during'].map((name) => `task:pruned ${name}`));
    prune('after');
    expect(heard.at(-1)).toBe('task:pruned after');
  });

  it('a release without a hold changes nothing', async () => {
    const heard = hearing();
    await hub.release();
    prune();
    expect(heard).toEqual(['task:pruned process-1']);
  });
});
