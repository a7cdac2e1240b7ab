/* Errors and events as a log writes them. */
import { expect, it } from 'vitest';
import { z } from 'zod';
import { BackgroundTaskError, withJsonError } from '../src/errors.js';
import { EventHub } from '../src/events.js';
import { defineTaskKind } from '../src/index.js';
import { eventNames } from '../src/task/events.js';
import { openManager } from './helpers/manager.js';

const written = (value: unknown) => JSON.parse(JSON.stringify(value));

it('an error of ours is written with its code, its task and its causes, and without a stack', () => {
  const system = Object.assign(new Error('no space left'), { code: 'ENOSPC' });
  const cause = new TypeError('odd', { cause: system });
  expect(written(new BackgroundTaskError('STORAGE_FAILED', 'the disk refused', { cause, taskId: 't' }))).toEqual({
    name: 'BackgroundTaskError',
    code: 'STORAGE_FAILED',
    message: 'the disk refused',
    taskId: 't',
    cause: { name: 'TypeError', message: 'odd', cause: { name: 'Error', message: 'no space left', code: 'ENOSPC' } },
  });
});

it('whatever was thrown can be written: cycles, numbers that JSON has none of, what cannot be looked at', () => {
  const circular = new Error('round');
  circular.cause = circular;
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  const odd = [circular, 5n, Symbol('s'), null, undefined, proxy, { self: globalThis }, () => 1, 'text'];
  for (const cause of odd) {
    const error = written(new BackgroundTaskError('LISTENER_FAILED', 'failed', { cause }));
    expect(error).toMatchObject({ code: 'LISTENER_FAILED', message: 'failed' });
    expect(written(withJsonError({ error: cause })).error).toMatchObject({ name: expect.any(String) });
  }
});

it.each(eventNames)('the payload of %s is written with its error', (name) => {
  const hub = new EventHub();
  const heard: unknown[] = [];
  hub.on('*', (_event, payload) => void heard.push(payload));
  const payload = { taskId: 't', error: Object.assign(new Error('boom'), { secret: 5n }) };
  hub.emit(name, payload as never);
  expect(written(heard[0])).toEqual({ taskId: 't', error: { name: 'Error', message: 'boom' } });
  expect(Object.keys(heard[0] as object)).toEqual(['taskId', 'error']);
});

it('what a pass could not judge is written with its error', async () => {
  const probe = () => Promise.reject(new Error('no answer'));
  const kind = defineTaskKind({ name: 'mute', details: z.object({}), start: async () => {}, probe });
  const manager = await openManager({ kinds: [kind] });
  const { taskId } = await manager.registerTask({ kind: 'mute', description: 'work', details: {} });
  const failures = [{ taskId, error: { name: 'Error', message: 'no answer' } }];
  expect(written(await manager.reconcile())).toMatchObject({ failures });
  expect(written(manager.status())).toMatchObject({ lastReconcile: { report: { failures } } });
});
