/* Every mistake that the types do not keep out, with the exact words that it is told in. Nothing is touched by any of them. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import {
  BackgroundTaskManager,
  defineTaskKind,
  importTasks,
  parseTaskRecord,
  readTask,
  readTaskOutput,
} from '../src/index.js';
import { webhookHook } from '../src/webhook/index.js';
import { type openManager, scratch } from './helpers/manager.js';

type Mistake = readonly [given: unknown, message: string];

const agent = defineTaskKind({
  name: 'agent',
  details: z.object({ agentId: z.string(), tags: z.array(z.string()).optional() }),
});
const box = defineTaskKind({
  name: 'box',
  details: z.strictObject({ image: z.enum(['small', 'large']) }),
  start: async () => {},
  probe: async () => ({ state: 'running' as const }),
});
const NOTHING = '';
const run = () => 1;
const given = { kind: 'function', description: 'count' };
const fn = { kind: 'function', description: 'count', run };
const proc = { kind: 'process', description: 'build', command: 'true' };
const web = new URL('http://example.com/');
const later = () => Promise.resolve({});

const openMistakes: readonly Mistake[] = [
  [undefined, 'directory: is missing; expected a path or a file: URL'],
  [null, 'expected options such as { directory }, got null'],
  ['/var/tasks', 'expected options such as { directory }, got a string ("/var/tasks")'],
  [5, 'expected options such as { directory }, got a number (5)'],
  [later(), 'expected options such as { directory }, got a Promise'],
  [{}, 'directory: is missing; expected a path or a file: URL'],
  [{ directory: 5 }, 'directory: expected a path or a file: URL, got a number (5)'],
  [{ directory: web }, 'directory: expected a path or a file: URL, got a URL with the protocol http:'],
  [{ directory: '' }, 'directory: expected a path or a file: URL, got ""'],
  [{ directory: 'a\0b' }, 'directory: expected a path without a NUL byte, got "a\\u0000b"'],
  [{ dir: 'x', directory: 'y' }, 'dir: is unknown; did you mean directory?'],
  [{ maxRunning: 8 }, 'maxRunning: is unknown; did you mean maxRunningTasks?'],
  [{ maxrunningtasks: 8 }, 'maxrunningtasks: is unknown; did you mean maxRunningTasks?'],
  [{ max_running_tasks: 8 }, 'max_running_tasks: is unknown; did you mean maxRunningTasks?'],
  [
    { colour: 'red' },
    'colour: is unknown; known are directory, maxRunningTasks, countsTowardsLimit, maxRunningTasksPerGroup, whenFull, reconcileIntervalMs, stopGraceMs, maxOutputBytes, maxResultBytes, fsync, retention, kinds, hooks, legacyShapes, resumeQueued, recoverProcess, foreignOwnerTimeoutMs, abandonAfterMs, waitForOwnerMs, signal',
  ],
  [{ maxRunningTasks: 0 }, 'maxRunningTasks: expected a whole number of at least 1, or Infinity, got 0'],
  [{ maxRunningTasks: '8' }, 'maxRunningTasks: expected a whole number of at least 1, or Infinity, got a string ("8")'],
  [
    { maxRunningTasks: later() },
    'maxRunningTasks: expected a whole number of at least 1, Infinity, or a function that gives a limit, got a Promise',
  ],
  [
    { countsTowardsLimit: 'registered-detach' },
    'countsTowardsLimit: expected one of "detached", "registered-detached", got "registered-detach"; did you mean "registered-detached"?',
  ],
  [{ countsTowardLimit: 'detached' }, 'countsTowardLimit: is unknown; did you mean countsTowardsLimit?'],
  [
    { maxRunningTasksPerGroup: 'two' },
    'maxRunningTasksPerGroup: expected a whole number, Infinity, or a function of the group, got a string ("two")',
  ],
  [{ whenFull: 'wait' }, 'whenFull: expected one of "reject", "queue", got "wait"'],
  [{ whenFull: 'que' }, 'whenFull: expected one of "reject", "queue", got "que"; did you mean "queue"?'],
  [{ whenFull: true }, 'whenFull: expected one of "reject", "queue", got a boolean (true)'],
  [
    { reconcileIntervalMs: Number.NaN },
    'reconcileIntervalMs: expected a number of milliseconds of at least 0, got NaN',
  ],
  [
    { reconcileIntervalMs: '10s' },
    'reconcileIntervalMs: expected a number of milliseconds of at least 0, got a string ("10s")',
  ],
  [{ stopGraceMs: -1 }, 'stopGraceMs: expected a number of milliseconds of at least 0, got -1'],
  [{ stopGrace: 1 }, 'stopGrace: is unknown; did you mean stopGraceMs?'],
  [{ maxOutputBytes: 1.5 }, 'maxOutputBytes: expected a whole number of at least 1, or Infinity, got 1.5'],
  [{ maxResultBytes: 1_000_000 }, 'maxResultBytes: expected a whole number from 0 to 262144, got 1000000'],
  [{ fsync: 'yes' }, 'fsync: expected true or false, got a string ("yes")'],
  [{ retention: 30 }, 'retention: expected options such as { maxAgeMs }, got a number (30)'],
  [{ retention: { maxAge: 1 } }, 'retention.maxAge: is unknown; did you mean maxAgeMs?'],
  [
    { retention: { maxTasks: null } },
    'retention.maxTasks: expected a whole number of at least 0, or Infinity, got null',
  ],
  [{ kinds: agent }, 'kinds: expected an array, got an object'],
  [{ kinds: [{ name: 'x' }] }, 'kinds.0: expected a kind from defineTaskKind, got an object'],
  [{ kinds: [agent, agent] }, 'kinds.1: expected a name of its own, got "agent", which is taken'],
  [{ hooks: ['a'] }, 'hooks: expected an object, got an array of 1'],
  [
    { hooks: { 'a b': run } },
    'expected a hook name of 1 to 64 letters, digits, ".", "_" and "-" that starts with a letter or digit, got "a b"',
  ],
  [{ hooks: { a: 'pul' } }, 'hook "a": expected a function, "pull" or { deliver, … }, got a string ("pul")'],
  [{ hooks: { a: { deliver: run, maxAttempt: 3 } } }, 'hook "a": maxAttempt: is unknown; did you mean maxAttempts?'],
  [{ hooks: { a: { maxAttempts: 3 } } }, 'hook "a": deliver: is missing; expected a function'],
  [
    { hooks: { a: { deliver: run, maxAttempts: 0 } } },
    'hook "a": maxAttempts: expected a whole number of at least 1, or Infinity, got 0',
  ],
  [
    { hooks: { a: { deliver: run, minDelayMs: 9, maxDelayMs: 5 } } },
    'hook "a": maxDelayMs: expected at least minDelayMs (9), got 5',
  ],
  [{ legacyShapes: [{ name: 'x' }] }, 'legacyShapes.0: expected a shape: { name, schema, toRecord }, got an object'],
  [
    { foreignOwnerTimeoutMs: 5n },
    'foreignOwnerTimeoutMs: expected a number of milliseconds of at least 0, got a bigint',
  ],
  [
    { whenFull: 'wait', fsync: 1, retain: {} },
    'whenFull: expected one of "reject", "queue", got "wait"; fsync: expected true or false, got a number (1); retain: is unknown; known are directory, maxRunningTasks, countsTowardsLimit, maxRunningTasksPerGroup, whenFull, reconcileIntervalMs, stopGraceMs, maxOutputBytes, maxResultBytes, fsync, retention, kinds, hooks, legacyShapes, resumeQueued, recoverProcess, foreignOwnerTimeoutMs, abandonAfterMs, waitForOwnerMs, signal',
  ],
];

const specMistakes: readonly Mistake[] = [
  [undefined, 'expected a task spec, got undefined'],
  [null, 'expected a task spec, got null'],
  ['npm test', 'expected a task spec, got a string ("npm test")'],
  [[proc], 'expected a task spec, got an array of 1'],
  [later(), 'expected a task spec, got a Promise'],
  [{ description: 'x' }, 'kind: is missing; expected one of process, function, agent, box'],
  [{ ...fn, kind: 7 }, 'kind: expected one of process, function, agent, box, got a number (7)'],
  [{ kind: 'function', run }, 'description: is missing; expected a string that is not blank'],
  [{ ...fn, description: NOTHING }, 'description: expected a string that is not blank, got ""'],
  [{ ...fn, description: ' \n' }, 'description: expected a string that is not blank, got " \\n"'],
  [{ ...fn, description: 5 }, 'description: expected a string that is not blank, got a number (5)'],
  [{ kind: 'function', description: 'x' }, 'run: is missing; expected a function, or work beside no run'],
  [{ ...fn, work: { done: later() } }, 'work: expected either run or work, got both'],
  [{ ...given, work: later() }, 'work.done: is missing; expected a promise'],
  [{ ...given, work: { done: 5 } }, 'work.done: expected a promise, got a number (5)'],
  [
    { ...given, work: { done: later(), output: ['text'] } },
    'work.output: expected a stream or another async iterable of strings and Uint8Arrays, or an array of them, got an array of 1',
  ],
  [{ ...given, work: { done: later(), stop: 'now' } }, 'work.stop: expected a function, got a string ("now")'],
  [{ ...given, work: { done: later(), kill: run } }, 'work.kill: is unknown; known are done, output, stop'],
  [
    { ...given, work: { done: later() }, whenFull: 'queue' },
    'whenFull: would have no effect; expected no work beside it: what runs already is not queued',
  ],
  [
    { ...given, work: { done: later() }, queueTimeoutMs: 5 },
    'queueTimeoutMs: would have no effect; expected no work beside it: what runs already is not queued',
  ],
  [{ ...fn, run: later() }, 'run: expected a function, got a Promise'],
  [{ ...fn, timeout: 5 }, 'timeout: is unknown; did you mean timeoutMs?'],
  [{ ...fn, timeoutSeconds: 5 }, 'timeoutSeconds: is unknown; did you mean timeoutMs?'],
  [{ ...fn, timeoutMs: '5000' }, 'timeoutMs: expected a number of milliseconds of at least 0, got a string ("5000")'],
  [{ ...fn, timeoutMs: -1 }, 'timeoutMs: expected a number of milliseconds of at least 0, got -1'],
  [
    { ...fn, timeoutMs: Number.POSITIVE_INFINITY },
    'timeoutMs: expected a number of milliseconds of at least 0, got Infinity',
  ],
  [{ ...fn, queueTimeoutMs: Number.NaN }, 'queueTimeoutMs: expected a number of milliseconds of at least 0, got NaN'],
  [{ ...fn, group: '' }, 'group: expected a string of 1 to 256 characters, got ""'],
  [{ ...fn, group: 7 }, 'group: expected a string of 1 to 256 characters, got a number (7)'],
  [
    { ...fn, idempotencyKey: 'k'.repeat(1_025) },
    'idempotencyKey: expected a string of 1 to 1024 characters, got "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…" (1025 characters)',
  ],
  [{ ...fn, metadata: [1] }, 'metadata: expected an object, got an array of 1'],
  [{ ...fn, metadata: { secret: run } }, 'metadata.secret is a function, which JSON cannot hold'],
  [{ ...fn, hooks: 'conversation' }, 'hooks: expected an array, got a string ("conversation")'],
  [{ ...fn, hooks: [5] }, 'hooks.0: expected a string, got a number (5)'],
  [{ ...fn, whenFull: 'queued' }, 'whenFull: expected one of "reject", "queue", got "queued"; did you mean "queue"?'],
  [{ ...fn, detached: 'no' }, 'detached: expected true or false, got a string ("no")'],
  [{ ...fn, slot: 3 }, 'slot: expected a slot from reserveSlot, got a number (3)'],
  [{ ...fn, slot: {} }, 'slot: expected a slot from reserveSlot of this manager'],
  [
    { ...fn, detached: false, signal: new AbortController() },
    'signal: expected an AbortSignal, got an AbortController',
  ],
  [
    { ...fn, signal: new AbortController().signal },
    'signal: would have no effect; expected detached: false beside it; a detached task is ended with stopTask',
  ],
  [
    { ...fn, detached: true, detachTimeoutMs: 5 },
    'detachTimeoutMs: would have no effect; expected detached: false beside it',
  ],
  [
    { ...fn, timeoutMs: 5, detachOnTimeout: true },
    'detachOnTimeout: would have no effect; expected detached: false beside it',
  ],
  [
    { ...fn, detached: false, detachOnTimeout: true },
    'detachOnTimeout: would have no effect; expected a timeoutMs beside it',
  ],
  [
    { ...fn, tmeoutMs: 1, labels: [] },
    'tmeoutMs: is unknown; did you mean timeoutMs?; labels: is unknown; known are kind, description, taskId, timeoutMs, queueTimeoutMs, ttlMs, group, idempotencyKey, metadata, hooks, slot, whenFull, detached, signal, detachTimeoutMs, detachOnTimeout, run, work',
  ],
  [{ ...proc, comand: 'x' }, 'comand: is unknown; did you mean command?'],
  [
    { kind: 'process', description: 'x', cmd: 'x' },
    'command: is missing; expected a command without NUL bytes: a string that is not blank, or an array of strings that begins with a program; cmd: is unknown; did you mean command?',
  ],
  [
    { ...proc, args: ['x'] },
    'args: is unknown; known are kind, description, taskId, timeoutMs, queueTimeoutMs, ttlMs, group, idempotencyKey, metadata, hooks, slot, whenFull, detached, signal, detachTimeoutMs, detachOnTimeout, command, cwd, env, inheritEnv, maxOutputBytes',
  ],
  [
    { ...proc, command: undefined },
    'command: is missing; expected a command without NUL bytes: a string that is not blank, or an array of strings that begins with a program',
  ],
  [
    { ...proc, command: ' ' },
    'command: expected a command without NUL bytes: a string that is not blank, or an array of strings that begins with a program, got " "',
  ],
  [
    { ...proc, command: [] },
    'command: expected a command without NUL bytes: a string that is not blank, or an array of strings that begins with a program, got an array of 0',
  ],
  [{ ...proc, command: ['sleep', 5] }, 'command.1: expected a string, got a number (5)'],
  [{ ...proc, command: ['echo', 'a\0b'] }, 'command.1: expected a string without a NUL byte, got "a\\u0000b"'],
  [{ ...proc, cwd: web }, 'cwd: expected a path without a NUL byte, or a file: URL, got a URL with the protocol http:'],
  [{ ...proc, cwd: 5 }, 'cwd: expected a path without a NUL byte, or a file: URL, got a number (5)'],
  [{ ...proc, env: { TOKEN: 'hunter2\0' } }, 'env.TOKEN: expected a string without a NUL byte'],
  [{ ...proc, env: { TOKEN: 12345 } }, 'env.TOKEN: expected a string, got a number'],
  [{ ...proc, env: ['TOKEN=hunter2'] }, 'env: expected an object, got an array of 1'],
  [{ ...proc, env: { 'A=B': 'hunter2' } }, 'env."A=B": expected a variable name without "=" and NUL bytes'],
  [{ ...proc, inheritEnv: 'no' }, 'inheritEnv: expected true or false, got a string ("no")'],
  [{ ...proc, maxOutputBytes: 0 }, 'maxOutputBytes: expected a whole number of at least 1, or Infinity, got 0'],
  [
    { ...proc, run },
    'run: is unknown; known are kind, description, taskId, timeoutMs, queueTimeoutMs, ttlMs, group, idempotencyKey, metadata, hooks, slot, whenFull, detached, signal, detachTimeoutMs, detachOnTimeout, command, cwd, env, inheritEnv, maxOutputBytes',
  ],
  [
    { ...proc, timeoutMs: 'soon', whenFull: 'wait' },
    'timeoutMs: expected a number of milliseconds of at least 0, got a string ("soon"); whenFull: expected one of "reject", "queue", got "wait"',
  ],
  [{ kind: 'agent', description: 'x', run }, 'details: is missing; expected an object'],
  [{ kind: 'agent', description: 'x', run, details: 'a7' }, 'details: expected an object, got a string'],
  [{ kind: 'agent', description: 'x', run, details: {} }, 'details: agentId: is missing; expected a string'],
  [
    { kind: 'agent', description: 'x', run, details: { agentId: 7 } },
    'details: agentId: expected a string, got a number',
  ],
  [
    { kind: 'agent', description: 'x', run, details: { agentId: 'a', tags: ['a', 5] } },
    'details: tags.1: expected a string, got a number',
  ],
  [
    { kind: 'agent', description: 'x', details: { agentId: 'a7' } },
    'run: is missing; expected a function, or work beside no run',
  ],
  [{ kind: 'box', description: 'x', details: { image: 'tiny' } }, 'details: image: expected one of "small", "large"'],
  [{ kind: 'box', description: 'x', details: { image: 'small', imge: 1 } }, 'details: imge: is unknown'],
  [
    { kind: 'box', description: 'x', details: { image: 'small' }, run },
    'run: is unknown; known are kind, description, taskId, timeoutMs, queueTimeoutMs, ttlMs, group, idempotencyKey, metadata, hooks, slot, whenFull, detached, signal, detachTimeoutMs, detachOnTimeout, details, input',
  ],
];

const kindMistakes: readonly Mistake[] = [
  [undefined, 'defineTaskKind: expected a definition such as { name, details }, got undefined'],
  ['agent', 'defineTaskKind: expected a definition such as { name, details }, got a string ("agent")'],
  [{ name: 'a' }, 'defineTaskKind: details: is missing; expected a Standard Schema (zod, valibot, arktype)'],
  [
    { details: z.object({}) },
    'defineTaskKind: name: is missing; expected 1 to 40 characters matching ^[a-z0-9]+(?:[-_][a-z0-9]+)*$',
  ],
  [
    { name: 'My Agent', details: z.object({}) },
    'defineTaskKind: name: expected 1 to 40 characters matching ^[a-z0-9]+(?:[-_][a-z0-9]+)*$, got "My Agent"',
  ],
  [
    { name: 'a', details: { agentId: 'string' } },
    'defineTaskKind: details: expected a Standard Schema (zod, valibot, arktype), got an object',
  ],
  [
    { name: 'a', details: z.object({}), result: 5 },
    'defineTaskKind: result: expected a Standard Schema (zod, valibot, arktype), got a number (5)',
  ],
  [
    { name: 'a', details: z.object({}), idPrefix: '-' },
    'defineTaskKind: idPrefix: expected 1 to 40 characters matching ^[a-z0-9]+(?:[-_][a-z0-9]+)*$, got "-"',
  ],
  [
    { name: 'a', details: z.object({}), start: run },
    'defineTaskKind: probe: is missing; expected a function beside start',
  ],
  [
    { name: 'a', details: z.object({}), probe: run },
    'defineTaskKind: start: is missing; expected a function beside probe',
  ],
  [
    { name: 'a', details: z.object({}), start: run, prob: run },
    'defineTaskKind: probe: is missing; expected a function beside start; prob: is unknown; did you mean probe?',
  ],
  [
    { name: 'a', details: z.object({}), recover: true },
    'defineTaskKind: recover: expected a function, got a boolean (true)',
  ],
  [
    { name: 'a', details: z.object({}), run },
    'defineTaskKind: run: would have no effect here; expected it in the spec of each task',
  ],
  [
    { name: 'a', details: z.object({}), stop: run },
    'defineTaskKind: stop: would have no effect; expected start and probe beside it',
  ],
];

const webhookMistakes: readonly Mistake[] = [
  [undefined, 'webhookHook: expected url or resolveUrl, got neither'],
  ['https://example.com', 'webhookHook: expected options such as { url }, got a string ("https://example.com")'],
  [{}, 'webhookHook: expected url or resolveUrl, got neither'],
  [{ url: 'https://user:hunter2@example.com', resolveUrl: run }, 'webhookHook: expected url or resolveUrl, got both'],
  [{ url: 'hunter2' }, 'webhookHook: url: expected an absolute http: or https: URL, got a string that is none'],
  [{ url: 'ftp://hunter2.example.com' }, 'webhookHook: url: expected an absolute http: or https: URL, got "ftp:"'],
  [{ url: 5 }, 'webhookHook: url: expected an absolute http: or https: URL, got a number (5)'],
  [
    { url: 'https://example.com', secret: 'hunter2!' },
    'webhookHook: secret: expected base64, with or without "whsec_", or a function of the task, got a string that is none',
  ],
  [{ url: 'https://example.com', secrt: 'x' }, 'webhookHook: secrt: is unknown; did you mean secret?'],
  [{ url: 'https://example.com', timeout: 5 }, 'webhookHook: timeout: is unknown; did you mean timeoutMs?'],
  [
    { url: 'https://example.com', timeoutMs: 0 },
    'webhookHook: timeoutMs: expected a number of milliseconds of at least 1, got 0',
  ],
  [
    { url: 'https://example.com', headers: { a: 'hunter2' } },
    'webhookHook: headers: expected a function, got an object',
  ],
  [
    { url: 'https://example.com', allowPrivateNetworks: 'yes' },
    'webhookHook: allowPrivateNetworks: expected true or false, got a string ("yes")',
  ],
];

type Manager = Awaited<ReturnType<typeof openManager>>;
type Call = readonly [name: string, call: (manager: Manager, id: string) => unknown, code: string, message: string];

const any = (value: unknown) => value as never;

const callMistakes: readonly Call[] = [
  [
    'UNKNOWN_KIND',
    (m) => m.registerTask(any({ ...fn, kind: 'proces' })),
    'UNKNOWN_KIND',
    'kind: expected one of process, function, agent, box, got "proces"; did you mean "process"?',
  ],
  [
    'UNKNOWN_KIND far',
    (m) => m.registerTask(any({ ...fn, kind: 'zebra' })),
    'UNKNOWN_KIND',
    'kind: expected one of process, function, agent, box, got "zebra"; open the manager with this kind',
  ],
  [
    'id in a spec',
    (m) => m.registerTask(any({ ...fn, taskId: '../x' })),
    'INVALID_TASK_ID',
    'taskId: expected a task id of 1 to 64 characters matching ^[a-z0-9]+(?:[-_][a-z0-9]+)*$, got "../x"',
  ],
  [
    'long id in a spec',
    (m) => m.registerTask(any({ ...fn, taskId: 'x'.repeat(200) })),
    'INVALID_TASK_ID',
    'taskId: expected a task id of 1 to 64 characters matching ^[a-z0-9]+(?:[-_][a-z0-9]+)*$, got "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…" (200 characters)',
  ],
  [
    'a hook of a spec',
    (m) => m.registerTask(any({ ...fn, hooks: ['conversatoin'] })),
    'UNKNOWN_HOOK',
    'hooks: expected hooks that this manager has ("conversation"), got "conversatoin"; did you mean "conversation"?',
  ],
  [
    'getTask(5)',
    (m) => m.getTask(any(5)),
    'INVALID_TASK_ID',
    'expected a task id of 1 to 64 characters matching ^[a-z0-9]+(?:[-_][a-z0-9]+)*$, got a number (5)',
  ],
  [
    'getTask(undefined)',
    (m) => m.getTask(any(undefined)),
    'INVALID_TASK_ID',
    'expected a task id of 1 to 64 characters matching ^[a-z0-9]+(?:[-_][a-z0-9]+)*$, got undefined',
  ],
  [
    'getTask(A)',
    (m) => m.getTask('A'),
    'INVALID_TASK_ID',
    'expected a task id of 1 to 64 characters matching ^[a-z0-9]+(?:[-_][a-z0-9]+)*$, got "A"',
  ],
  [
    'waitForTask(a promise)',
    (m) => m.waitForTask(any(later())),
    'INVALID_TASK_ID',
    'expected a task or its id, got a Promise without a taskId',
  ],
  ['waitForTask(unknown)', (m) => m.waitForTask('nobody'), 'TASK_NOT_FOUND', 'there is no task "nobody"'],
  [
    'waitForTask(5000)',
    (m, id) => m.waitForTask(id, any(5_000)),
    'INVALID_SPEC',
    'waitForTask: expected options such as { timeoutMs }, got a number (5000)',
  ],
  [
    'waitForTask(signal)',
    (m, id) => m.waitForTask(id, any(new AbortController().signal)),
    'INVALID_SPEC',
    'waitForTask: expected options such as { signal }, got an AbortSignal',
  ],
  [
    'waitForTask(promise)',
    (m, id) => m.waitForTask(id, any(later())),
    'INVALID_SPEC',
    'waitForTask: expected options such as { timeoutMs }, got a Promise',
  ],
  [
    'waitForTask(null)',
    (m, id) => m.waitForTask(id, any(null)),
    'INVALID_SPEC',
    'waitForTask: expected options such as { timeoutMs }, got null',
  ],
  [
    'waitForTask([])',
    (m, id) => m.waitForTask(id, any([1, 2, 3])),
    'INVALID_SPEC',
    'waitForTask: expected options such as { timeoutMs }, got an array of 3',
  ],
  [
    'waitForTask timeout',
    (m, id) => m.waitForTask(id, any({ timeout: 5 })),
    'INVALID_SPEC',
    'waitForTask: timeout: is unknown; did you mean timeoutMs?',
  ],
  [
    'waitForTask string',
    (m, id) => m.waitForTask(id, any({ timeoutMs: '5s' })),
    'INVALID_SPEC',
    'waitForTask: timeoutMs: expected a number of milliseconds of at least 0, got a string ("5s")',
  ],
  [
    'waitForTask controller',
    (m, id) => m.waitForTask(id, any({ signal: new AbortController() })),
    'INVALID_SPEC',
    'waitForTask: signal: expected an AbortSignal, got an AbortController',
  ],
  [
    'waitForRelease',
    (m, id) => m.waitForRelease(id, any({ timeoutMS: 5, sgnal: 1 })),
    'INVALID_SPEC',
    'waitForRelease: timeoutMS: is unknown; did you mean timeoutMs?; sgnal: is unknown; did you mean signal?',
  ],
  [
    'waitForAny(id)',
    (m, id) => m.waitForAny(any(id)),
    'INVALID_SPEC',
    'waitForAny: tasks: expected an array, got a string ("f")',
  ],
  [
    'waitForAny([5])',
    (m) => m.waitForAny(any([5])),
    'INVALID_TASK_ID',
    'expected a task id of 1 to 64 characters matching ^[a-z0-9]+(?:[-_][a-z0-9]+)*$, got a number (5)',
  ],
  [
    'waitForAny 5000',
    (m, id) => m.waitForAny([id], any(5_000)),
    'INVALID_SPEC',
    'waitForAny: expected options such as { timeoutMs }, got a number (5000)',
  ],
  [
    'waitForIdle 5000',
    (m) => m.waitForIdle(any(5_000)),
    'INVALID_SPEC',
    'waitForIdle: expected options such as { timeoutMs }, got a number (5000)',
  ],
  [
    'waitForIdle filter',
    (m) => m.waitForIdle(any({ filter: { stauts: 'running' } })),
    'INVALID_SPEC',
    'waitForIdle: filter.stauts: is unknown; did you mean status?',
  ],
  [
    'waitForIdle filter text',
    (m) => m.waitForIdle(any({ filter: 'running' })),
    'INVALID_SPEC',
    'waitForIdle: filter: expected options such as { status }, got a string ("running")',
  ],
  [
    'listTasks text',
    (m) => m.listTasks(any('running')),
    'INVALID_SPEC',
    'listTasks: expected options such as { status }, got a string ("running")',
  ],
  [
    'listTasks status',
    (m) => m.listTasks(any({ status: 'done' })),
    'INVALID_SPEC',
    'listTasks: status: expected one of "queued", "running", "waiting", "completed", "failed", "timed_out", "killed", "lost", got "done"',
  ],
  [
    'listTasks near status',
    (m) => m.listTasks(any({ status: 'complete' })),
    'INVALID_SPEC',
    'listTasks: status: expected one of "queued", "running", "waiting", "completed", "failed", "timed_out", "killed", "lost", got "complete"; did you mean "completed"?',
  ],
  [
    'listTasks statuses',
    (m) => m.listTasks(any({ status: ['running', 'killd'] })),
    'INVALID_SPEC',
    'listTasks: status.1: expected one of "queued", "running", "waiting", "completed", "failed", "timed_out", "killed", "lost", got "killd"; did you mean "killed"?',
  ],
  [
    'listTasks status 5',
    (m) => m.listTasks(any({ status: 5 })),
    'INVALID_SPEC',
    'listTasks: status: expected one of "queued", "running", "waiting", "completed", "failed", "timed_out", "killed", "lost", got a number (5)',
  ],
  [
    'listTasks active',
    (m) => m.listTasks(any({ active: 'yes' })),
    'INVALID_SPEC',
    'listTasks: active: expected true or false, got a string ("yes")',
  ],
  [
    'listTasks kind',
    (m) => m.listTasks(any({ kind: 5 })),
    'INVALID_SPEC',
    'listTasks: kind: expected a string, got a number (5)',
  ],
  [
    'listTasks metadata',
    (m) => m.listTasks(any({ metadata: 'hunter2' })),
    'INVALID_SPEC',
    'listTasks: metadata: expected an object, got a string',
  ],
  [
    'listTasks limit',
    (m) => m.listTasks(any({ limit: -1 })),
    'INVALID_SPEC',
    'listTasks: limit: expected a whole number of at least 0, got -1',
  ],
  [
    'listTasks order',
    (m) => m.listTasks(any({ order: 'old' })),
    'INVALID_SPEC',
    'listTasks: order: expected one of "newest", "oldest", got "old"; did you mean "oldest"?',
  ],
  [
    'listTasks where',
    (m) => m.listTasks(any({ where: { group: 'g' } })),
    'INVALID_SPEC',
    'listTasks: where: expected a function, got an object',
  ],
  [
    'listTasks async',
    (m) => m.listTasks(any(async () => false)),
    'INVALID_SPEC',
    'filter: expected a function that returns true or false, got a Promise from it',
  ],
  [
    'stopAll order',
    (m) => m.stopAll(any({ filter: { order: 'oldest' } })),
    'INVALID_SPEC',
    'stopAll: filter.order: is unknown; known are status, active, kind, group, metadata, includeForeground, where',
  ],
  [
    'pruneTasks where',
    (m) => m.pruneTasks(any({ filter: { where: true } })),
    'INVALID_SPEC',
    'pruneTasks: filter.where: expected a function, got a boolean (true)',
  ],
  [
    'waitForIdle function',
    (m) => m.waitForIdle(any(() => true)),
    'INVALID_SPEC',
    'waitForIdle: expected options such as { filter }, got a function',
  ],
  ['listTasks after', (m) => m.listTasks({ after: 'nobody' }), 'TASK_NOT_FOUND', 'there is no task "nobody"'],
  [
    'listTasks foreground',
    (m) => m.listTasks(any({ foreground: true })),
    'INVALID_SPEC',
    'listTasks: foreground: is unknown; did you mean includeForeground?',
  ],
  [
    'updateTask text',
    (m, id) => m.updateTask(id, any('new words')),
    'INVALID_SPEC',
    'updateTask: expected options such as { description }, got a string ("new words")',
  ],
  [
    'updateTask blank',
    (m, id) => m.updateTask(id, { description: ' ' }),
    'INVALID_SPEC',
    'updateTask: description: expected a string that is not blank, got " "',
  ],
  [
    'updateTask meta',
    (m, id) => m.updateTask(id, any({ meta: {} })),
    'INVALID_SPEC',
    'updateTask: meta: is unknown; did you mean metadata?',
  ],
  [
    'updateTask metadata',
    (m, id) => m.updateTask(id, any({ metadata: 'hunter2' })),
    'INVALID_SPEC',
    'metadata: expected an object, got a string',
  ],
  [
    'stopTask text',
    (m, id) => m.stopTask(id, any('no longer needed')),
    'INVALID_SPEC',
    'stopTask: expected options such as { reason }, got a string ("no longer needed")',
  ],
  [
    'stopTask 5000',
    (m, id) => m.stopTask(id, any(5_000)),
    'INVALID_SPEC',
    'stopTask: expected options such as { graceMs }, got a number (5000)',
  ],
  [
    'stopTask grace',
    (m, id) => m.stopTask(id, any({ grace: 5 })),
    'INVALID_SPEC',
    'stopTask: grace: is unknown; did you mean graceMs?',
  ],
  [
    'stopTask reason',
    (m, id) => m.stopTask(id, any({ reason: new Error('x') })),
    'INVALID_SPEC',
    'stopTask: reason: expected a string, got an Error',
  ],
  [
    'stopAll skipHook',
    (m) => m.stopAll(any({ skipHook: true })),
    'INVALID_SPEC',
    'stopAll: skipHook: is unknown; did you mean skipHooks?',
  ],
  [
    'stopAll filter',
    (m) => m.stopAll(any({ filter: { group: 5 } })),
    'INVALID_SPEC',
    'stopAll: filter.group: expected a string, got a number (5)',
  ],
  [
    'readOutput 100',
    (m, id) => m.readOutput(id, any(100)),
    'INVALID_SPEC',
    'readOutput: expected options such as { offset }, got a number (100)',
  ],
  [
    'readOutput tail',
    (m, id) => m.readOutput(id, any({ tail: 5 })),
    'INVALID_SPEC',
    'readOutput: tail: is unknown; did you mean tailBytes?',
  ],
  [
    'readOutput lines',
    (m, id) => m.readOutput(id, any({ tailLines: 1.5 })),
    'INVALID_SPEC',
    'readOutput: tailLines: expected a whole number of at least 0, got 1.5',
  ],
  [
    'readOutput both',
    (m, id) => m.readOutput(id, any({ tailBytes: 1, offset: 2 })),
    'INVALID_SPEC',
    'readOutput: expected one of offset, tailBytes and tailLines, got offset and tailBytes',
  ],
  [
    'readOutput maxBytes',
    (m, id) => m.readOutput(id, any({ maxBytes: 0 })),
    'INVALID_SPEC',
    'readOutput: maxBytes: expected a whole number of at least 1, or Infinity, got 0',
  ],
  [
    'followOutput',
    (m, id) => m.followOutput(id, any({ ofset: 1 })).next(),
    'INVALID_SPEC',
    'followOutput: ofset: is unknown; did you mean offset?',
  ],
  [
    'pruneTasks 5',
    (m) => m.pruneTasks(any(5)),
    'INVALID_SPEC',
    'pruneTasks: expected options such as { olderThanMs }, got a number (5)',
  ],
  [
    'pruneTasks older',
    (m) => m.pruneTasks(any({ olderThan: 5 })),
    'INVALID_SPEC',
    'pruneTasks: olderThan: is unknown; did you mean olderThanMs?',
  ],
  [
    'pruneTasks keep',
    (m) => m.pruneTasks(any({ keep: '5' })),
    'INVALID_SPEC',
    'pruneTasks: keep: expected a whole number of at least 0, got a string ("5")',
  ],
  [
    'listDeliveries state',
    (m) => m.listDeliveries(any({ state: 'fail' })),
    'INVALID_SPEC',
    'listDeliveries: state: expected one of "pending", "delivered", "failed", "skipped", got "fail"; did you mean "failed"?',
  ],
  [
    'listDeliveries hook',
    (m) => m.listDeliveries(any({ hook: 'x' })),
    'INVALID_SPEC',
    'listDeliveries: hook: is unknown; known are state, name',
  ],
  [
    'reserveSlot',
    (m) => m.reserveSlot(any('agents')),
    'INVALID_SPEC',
    'reserveSlot: expected options such as { group }, got a string ("agents")',
  ],
  [
    'redeliver',
    (m, id) => m.redeliver(id, 'conversatoin'),
    'UNKNOWN_HOOK',
    'expected a hook that the task owes something to ("conversation"), got "conversatoin"; did you mean "conversation"?',
  ],
  [
    'addHook name',
    (m) => m.addHook('a b', run),
    'INVALID_OPTIONS',
    'expected a hook name of 1 to 64 letters, digits, ".", "_" and "-" that starts with a letter or digit, got "a b"',
  ],
  [
    'addHook twice',
    (m) => m.addHook('conversation', run),
    'INVALID_OPTIONS',
    'expected a new hook name, got "conversation", which is there already',
  ],
  [
    'addHook',
    (m) => m.addHook('x', any({ deliver: 'no' })),
    'INVALID_OPTIONS',
    'hook "x": deliver: expected a function, got a string ("no")',
  ],
  [
    'provideInput',
    (m, id) => m.provideInput(id, 5),
    'TASK_NOT_WAITING',
    'the task is completed, and waits for nothing',
  ],
  [
    'on',
    (m) => m.on(any('task:setled'), run as never),
    'INVALID_SPEC',
    'event: expected one of task:queued, task:started, task:updated, task:progress, task:waiting, task:resumed, task:detached, task:stopping, task:adopted, task:settled, task:pruned, hook:delivered, hook:retrying, hook:failed, record:rejected, manager:reconciled, manager:fenced, error or *, got "task:setled"; did you mean "task:settled"?',
  ],
  [
    'once',
    (m) => m.once(any('end'), run as never),
    'INVALID_SPEC',
    'event: expected one of task:queued, task:started, task:updated, task:progress, task:waiting, task:resumed, task:detached, task:stopping, task:adopted, task:settled, task:pruned, hook:delivered, hook:retrying, hook:failed, record:rejected, manager:reconciled, manager:fenced, error or *, got "end"',
  ],
  ['off', (m) => m.off('error', any(undefined)), 'INVALID_SPEC', 'listener: expected a function, got undefined'],
  [
    'close',
    (m) => m.close(any('stop')),
    'INVALID_SPEC',
    'close: expected options such as { tasks }, got a string ("stop")',
  ],
  [
    'close tasks',
    (m) => m.close(any({ tasks: 'kill' })),
    'INVALID_SPEC',
    'close: tasks: expected one of "leave", "stop", got "kill"',
  ],
  [
    'new',
    () => new (BackgroundTaskManager as never as new () => unknown)(),
    'INVALID_OPTIONS',
    'expected BackgroundTaskManager.open(options), which makes a manager, got new BackgroundTaskManager',
  ],
  [
    'importTasks',
    async () => importTasks(await scratch(), any('x')),
    'INVALID_SPEC',
    'importTasks: records: expected an array, got a string ("x")',
  ],
  [
    'readTask judge',
    async () => readTask(await scratch(), 'a', any(true)),
    'INVALID_SPEC',
    'readTask: expected options such as { judge }, got a boolean (true)',
  ],
  [
    'readTask path',
    async () => readTask(await scratch(), '../a'),
    'INVALID_TASK_ID',
    'expected a task id of 1 to 64 characters matching ^[a-z0-9]+(?:[-_][a-z0-9]+)*$, got "../a"',
  ],
  [
    'readTaskOutput of nobody',
    async () => readTaskOutput(await scratch(), 'nobody'),
    'TASK_NOT_FOUND',
    'there is no task "nobody"',
  ],
  [
    'parseTaskRecord(5)',
    () => parseTaskRecord(5),
    'INVALID_SPEC',
    'not a task record: expected a JSON object, got a number (5)',
  ],
  [
    'parseTaskRecord',
    () => parseTaskRecord({ ...onRecord, status: 'done', owner: 5 }),
    'INVALID_SPEC',
    'not a task record: status: expected one of "queued", "running", "waiting", "completed", "failed", "timed_out", "killed", "lost", got "done"; owner: expected an object, got a number (5)',
  ],
  [
    'parseTaskRecord without',
    () => parseTaskRecord({ ...onRecord, kind: undefined }),
    'INVALID_SPEC',
    'not a task record: kind: is missing; expected a string',
  ],
];

const onRecord = {
  schemaVersion: 1,
  taskId: 't',
  kind: 'x',
  description: 'x',
  status: 'lost',
  detached: true,
  createdAt: 1,
  startedAt: 1,
  endedAt: 1,
  attempt: 1,
  owner: null,
  details: {},
  metadata: {},
  hooks: {},
};

/** What a call throws or rejects with. */
async function mistakeOf(call: () => unknown): Promise<{ code: string; message: string }> {
  try {
    await call();
  } catch (error) {
    return error as { code: string; message: string };
  }
  throw new Error('expected a refusal');
}

const label = (given: unknown) =>
  typeof given === 'object' && given !== null ? Object.keys(given).join() : typeof given;
const numbered = (mistakes: readonly Mistake[]) =>
  mistakes.map(([given, message], index) => [`${index + 1} (${label(given)})`, given, message] as const);

/** What no message may show. */
const SECRET = /hunter2|12345/;

it('there are enough of them', () => {
  const tables = [openMistakes, specMistakes, kindMistakes, webhookMistakes, callMistakes];
  expect(tables.flat().length).toBeGreaterThanOrEqual(120);
});

describe('open', () => {
  it.each(numbered(openMistakes))('mistake %s', async (_, given, message) => {
    const parent = await scratch();
    const plain = typeof given === 'object' && given !== null && !(given instanceof Promise);
    const options = plain && Object.keys(given).length > 0 ? { directory: join(parent, 'tasks'), ...given } : given;
    const error = await mistakeOf(() => BackgroundTaskManager.open(options as never));
    expect(error).toMatchObject({ name: 'BackgroundTaskError', code: 'INVALID_OPTIONS', message });
    expect(await readdir(parent)).toEqual([]);
  });
});

describe('registerTask and other calls', () => {
  let directory: string;
  let manager: Manager;
  let id: string;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'holdfast-test-'));
    const conversation = () => undefined;
    manager = (await BackgroundTaskManager.open({ directory, kinds: [agent, box], hooks: { conversation } })) as never;
    ({ taskId: id } = await manager.waitForTask((await manager.registerTask({ ...fn, taskId: 'f' } as never)).taskId));
  });
  afterAll(async () => {
    await manager.close();
    await rm(directory, { recursive: true });
  });

  const untouched = async () => {
    expect(manager.status()).toMatchObject({ running: 0, queued: 0, terminal: 1, slots: { used: 0 } });
    expect((await readdir(directory)).filter((name) => name.endsWith('.json'))).toEqual(['f.json']);
  };

  it.each(numbered(specMistakes))('spec mistake %s', async (_, spec, message) => {
    const error = await mistakeOf(() => manager.registerTask(spec as never));
    expect(error).toMatchObject({ name: 'BackgroundTaskError', code: 'INVALID_SPEC', message });
    expect(error.message).not.toMatch(SECRET);
    await untouched();
  });

  it.each(callMistakes)('%s', async (_, call, code, message) => {
    const error = await mistakeOf(() => call(manager, id));
    expect(error).toMatchObject({ name: 'BackgroundTaskError', code, message });
    expect(error.message).not.toMatch(SECRET);
    await untouched();
  });
});

describe('definitions', () => {
  it.each(numbered(kindMistakes))('kind mistake %s', async (_, definition, message) => {
    const error = await mistakeOf(() => defineTaskKind(definition as never));
    expect(error).toMatchObject({ name: 'BackgroundTaskError', code: 'INVALID_OPTIONS', message });
  });

  it.each(numbered(webhookMistakes))('webhook mistake %s', async (_, options, message) => {
    const error = await mistakeOf(() => webhookHook(options as never));
    expect(error).toMatchObject({ name: 'BackgroundTaskError', code: 'INVALID_OPTIONS', message });
    expect(error.message).not.toMatch(SECRET);
  });
});
