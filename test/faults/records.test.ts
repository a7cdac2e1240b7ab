/* Records that cannot be trusted, through a manager: each is set aside or left, told of once, and keeps nothing else from loading. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type BackgroundTaskManager, readTasks } from '../../src/index.js';
import { killAllAfterwards, within } from '../helpers/faults.js';
import { startHost } from '../helpers/host.js';
import { openManager, scratch } from '../helpers/manager.js';
import { canRun, makeRecord } from '../helpers/store.js';

interface Rejection {
  readonly path: string;
  readonly movedTo: string | null;
  readonly reason: string;
}

/** Opens, and hears what a listener hears that is attached right after `await`. */
async function openAndListen(directory: string): Promise<{ manager: BackgroundTaskManager; rejections: Rejection[] }> {
  const manager = await within('open', openManager({ directory }));
  const rejections: Rejection[] = [];
  manager.on('record:rejected', (payload) => void rejections.push(payload));
  for (let turn = 0; turn < 5; turn++) await setImmediate();
  await setTimeout(0);
  return { manager: manager as never, rejections };
}

const good = (id: string, changes: object = {}) => JSON.stringify(makeRecord(id, changes));
const text = (content: string | Buffer) => (path: string) => writeFileSync(path, content);
const altered = (changes: object) => text(JSON.stringify({ ...makeRecord('bad'), ...changes }));

/** Each makes `bad.json`; the reason must say what a person needs. */
const bad: readonly (readonly [what: string, make: (path: string) => void, reason: RegExp])[] = [
  ['broken JSON', text('{"schemaVersion":1,'), /not valid JSON/],
  ['half a record', text(good('bad').slice(0, 100)), /not valid JSON/],
  ['an empty file', text(''), /is empty/],
  ['bytes that are no text', text(Buffer.from([0xff, 0xfe, 0x7b])), /UTF-8/],
  ['NUL bytes, as a power cut leaves', text(Buffer.alloc(400)), /not valid JSON/],
  ['a list', text('[]'), /not a task record/],
  ['null', text('null'), /not a task record/],
  ['JSON nested 100,000 deep', text('['.repeat(100_000) + ']'.repeat(100_000)), /./],
  ['a wrong type', altered({ createdAt: 'yesterday' }), /createdAt/],
  ['a time that is not finite', text(good('bad').replace('"createdAt":1000', '"createdAt":1e999')), /createdAt/],
  ['a negative time', altered({ endedAt: -1 }), /endedAt/],
  ['an unknown status', altered({ status: 'exploded' }), /status/],
  ['another id', altered({ taskId: 'good' }), /"good"/],
  ['an id that is a path', altered({ taskId: '../../etc/passwd' }), /taskId|not a task record/],
  ['hooks of a wrong shape', altered({ hooks: { told: { state: 'maybe', attempts: 0 } } }), /hooks/],
  ['more than 1 MiB', text(good('bad', { metadata: { long: 'x'.repeat(1_048_576) } })), /bytes/],
  ['a symbolic link to a good record', (path) => symlinkSync('good.json', path), /symbolic link/],
  ['a symbolic link to nowhere', (path) => symlinkSync('/nowhere', path), /symbolic link/],
  ['a symbolic link to itself', (path) => symlinkSync('bad.json', path), /symbolic link/],
  ['a FIFO', (path) => void execFileSync('mkfifo', [path]), /FIFO/],
  ['a folder', (path) => mkdirSync(path), /folder/],
  [
    'a folder with something in it',
    (path) => {
      mkdirSync(path);
      writeFileSync(join(path, 'precious'), 'x');
    },
    /folder/,
  ],
];
const device = canRun(
  'sh',
  '-c',
  'd=$(mktemp -d) && mknod "$d/x" c 1 5 && head -c 1 "$d/x" >/dev/null; r=$?; rm -rf "$d"; exit $r',
);

describe('a record that is no record', () => {
  const cases = device
    ? [
        ...bad,
        [
          'a device that never ends',
          (path: string) => void execFileSync('mknod', [path, 'c', '1', '5']),
          /device/,
        ] as const,
      ]
    : bad;

  it.each(cases)('%s', async (_, make, reason) => {
    const directory = await scratch();
    writeFileSync(join(directory, 'good.json'), good('good'));
    const path = join(directory, 'bad.json');
    make(path);
    const before = lstatSync(path);
    const content = before.isFile() ? readFileSync(path) : undefined;
    // Somebody who does not own it sees the same, and changes nothing.
    expect(await readTasks(directory)).toMatchObject({
      tasks: [{ taskId: 'good' }],
      rejected: [{ path, reason: expect.stringMatching(reason) }],
    });
    expect(lstatSync(path).ino).toBe(before.ino);

    const { manager, rejections } = await openAndListen(directory);
    const movedTo = join(directory, '.rejected', 'bad.json');
    expect(rejections).toEqual([{ path, movedTo, reason: expect.stringMatching(reason) }]);
    expect(manager.listTasks().map(({ taskId }) => taskId)).toEqual(['good']);
    expect(existsSync(path)).toBe(false);
    expect(lstatSync(movedTo).ino).toBe(before.ino);
    if (content) expect(readFileSync(movedTo).equals(content)).toBe(true);
    expect(readFileSync(`${movedTo}.reason`, 'utf8')).toMatch(reason);

    // Its id is free again, and the next host hears nothing of it.
    await manager.registerTask({ kind: 'function', taskId: 'bad', description: 'work', run: () => 1 });
    await manager.waitForTask('bad');
    await manager.close();
    const next = await openAndListen(directory);
    expect(next.rejections).toEqual([]);
    expect(next.manager.getTask('bad')).toMatchObject({ status: 'completed' });
    expect(lstatSync(movedTo).ino).toBe(before.ino);
  });

  it('is told of once by each manager, also to listeners to everything, and never overwrites another', async () => {
    const directory = await scratch();
    for (let round = 0; round < 3; round++) {
      writeFileSync(join(directory, 'bad.json'), `{ round ${round}`);
      const manager = await openManager({ directory });
      const heard: string[] = [];
      manager.on('record:rejected', ({ movedTo }) => void heard.push(String(movedTo)));
      manager.on('*', (...[event]) => void heard.push(event));
      await setImmediate();
      await manager.reconcile();
      await manager.close();
      const movedTo = join(directory, '.rejected', round === 0 ? 'bad.json' : `bad.json.${round}`);
      expect(heard.filter((one) => one !== 'manager:reconciled')).toEqual([movedTo, 'record:rejected']);
    }
    for (let round = 0; round < 3; round++) {
      expect(readFileSync(join(directory, '.rejected', round === 0 ? 'bad.json' : `bad.json.${round}`), 'utf8')).toBe(
        `{ round ${round}`,
      );
    }
  });

  it('keeps none of 500 others from loading, wherever it stands among them', async () => {
    const directory = await scratch();
    for (let n = 0; n < 500; n++)
      writeFileSync(join(directory, `t${n}.json`), n % 10 === 3 ? `{"taskId":"t${n}"` : good(`t${n}`));
    const { manager, rejections } = await openAndListen(directory);
    expect(manager.listTasks()).toHaveLength(450);
    expect(new Set(rejections.map(({ path }) => path)).size).toBe(50);
    expect(rejections).toHaveLength(50);
  });
});

describe('a record of a newer version', () => {
  const newer = (id: string, changes: object = {}) =>
    JSON.stringify({
      ...makeRecord(id, { status: 'running', endedAt: null, metadata: { a: 1 } }),
      schemaVersion: 2,
      fromTheFuture: { x: 1 },
      ...changes,
    });

  it('is listed as it can be read, and never written by any call', async () => {
    const directory = await scratch();
    writeFileSync(
      join(directory, 'n1.json'),
      newer('n1', { deadlineAt: 5, hooks: { told: { state: 'pending', attempts: 0 } } }),
    );
    writeFileSync(join(directory, 'n2.json'), newer('n2', { status: 'completed', endedAt: 1002 }));
    const before = ['n1', 'n2'].map((id) => readFileSync(join(directory, `${id}.json`), 'utf8'));
    const manager = await openManager({
      directory,
      maxRunningTasks: 1,
      hooks: { told: () => undefined },
      retention: { maxTasks: 0 },
      stopGraceMs: 50,
    });
    expect(
      manager
        .listTasks()
        .map(({ taskId }) => taskId)
        .sort(),
    ).toEqual(['n1', 'n2']);
    expect(manager.getTask('n1')).toMatchObject({ status: 'running', schemaVersion: 2, metadata: { a: 1 } });
    expect(manager.status()).toMatchObject({ running: 1, terminal: 1, slots: { used: 0 } });
    const unsupported = { code: 'RECORD_UNSUPPORTED' };
    for (const id of ['n1', 'n2']) {
      await expect(manager.updateTask(id, { description: 'mine' })).rejects.toMatchObject(unsupported);
    }
    await expect(manager.stopTask('n1')).rejects.toMatchObject(unsupported);
    await expect(manager.detachTask('n1').then(({ status }) => Promise.reject({ code: status }))).rejects.toMatchObject(
      { code: expect.stringMatching(/RECORD_UNSUPPORTED|running/) },
    );
    await expect(manager.skipHook('n1', 'told')).rejects.toMatchObject(unsupported);
    await expect(
      manager.registerTask({ kind: 'function', taskId: 'n1', description: 'work', run: () => 1 }),
    ).rejects.toMatchObject({ code: 'TASK_EXISTS' });
    expect(await manager.pruneTasks()).toEqual([]);
    expect(await manager.stopAll()).toEqual([]);
    expect(await manager.waitForIdle({ timeoutMs: 1_000 })).toBe(true);
    await manager.reconcile();
    await manager.close({ tasks: 'stop' });
    expect(['n1', 'n2'].map((id) => readFileSync(join(directory, `${id}.json`), 'utf8'))).toEqual(before);
  });

  it.each([
    ['kind', { kind: 7 }],
    ['status', { status: 'paused' }],
    ['id', { taskId: 'Not An Id' }],
  ])('without a readable %s is left in place, and its id taken', async (_, changes) => {
    const directory = await scratch();
    const content = newer('n1', changes);
    writeFileSync(join(directory, 'n1.json'), content);
    const { manager, rejections } = await openAndListen(directory);
    expect(rejections).toEqual([{ path: join(directory, 'n1.json'), movedTo: null, reason: expect.any(String) }]);
    await expect(
      manager.registerTask({ kind: 'function', taskId: 'n1', description: 'work', run: () => 1 }),
    ).rejects.toMatchObject({ code: 'TASK_EXISTS' });
    await expect(
      manager.registerTask({ kind: 'process', taskId: 'n1', description: 'work', command: 'true' }),
    ).rejects.toMatchObject({ code: 'TASK_EXISTS' });
    expect(manager.status().slots.used).toBe(0);
    expect(readFileSync(join(directory, 'n1.json'), 'utf8')).toBe(content);
    expect(readdirSync(join(directory, '.run'))).toEqual([]);
  });
});

describe('a record that cannot be reached', () => {
  const nobody = canRun('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, '-e', '1');

  it.skipIf(!nobody)('for want of permission is left, told of, and its id taken', async () => {
    const directory = await scratch();
    killAllAfterwards(directory);
    writeFileSync(join(directory, 'good.json'), good('good'));
    writeFileSync(join(directory, 'theirs.json'), good('theirs'));
    execFileSync('chown', ['-R', '65534:65534', directory]);
    execFileSync('chown', ['0:0', join(directory, 'theirs.json')]);
    chmodSync(join(directory, 'theirs.json'), 0o600);
    const host = startHost(
      `process.setgroups([]); process.setgid(65534); process.setuid(65534);
       const manager = await BackgroundTaskManager.open({ directory, fsync: false });
       const heard = [];
       manager.on('record:rejected', (payload) => heard.push(payload));
       await new Promise((resolve) => setTimeout(resolve, 10));
       say(heard);
       say(manager.listTasks().map(({ taskId }) => taskId));
       say(await manager.registerTask({ kind: 'function', taskId: 'theirs', description: 'work', run: () => 1 }).catch((error) => error.code));
       await manager.close();`,
      directory,
    );
    expect(await host.next()).toEqual([
      { path: join(directory, 'theirs.json'), movedTo: null, reason: expect.stringContaining('permission') },
    ]);
    expect(await host.next()).toEqual(['good']);
    expect(await host.next()).toBe('TASK_EXISTS');
    expect(await host.ended, host.stderr()).toBe(0);
    expect(readFileSync(join(directory, 'theirs.json'), 'utf8')).toBe(good('theirs'));
  });

  it('where it cannot be moved either (.rejected is a file) is left, told of, and its id taken', async () => {
    const directory = await scratch();
    writeFileSync(join(directory, '.rejected'), 'somebody else’s');
    writeFileSync(join(directory, 'bad.json'), '{');
    writeFileSync(join(directory, 'good.json'), good('good'));
    const { manager, rejections } = await openAndListen(directory);
    expect(rejections).toEqual([
      {
        path: join(directory, 'bad.json'),
        movedTo: null,
        reason: expect.stringMatching(/JSON.*could not be moved aside/),
      },
    ]);
    expect(manager.getTask('good')).toBeDefined();
    await expect(
      manager.registerTask({ kind: 'function', taskId: 'bad', description: 'work', run: () => 1 }),
    ).rejects.toMatchObject({ code: 'TASK_EXISTS' });
    expect(readFileSync(join(directory, 'bad.json'), 'utf8')).toBe('{');
    expect(readFileSync(join(directory, '.rejected'), 'utf8')).toBe('somebody else’s');
  });
});

it.each(['metadata', 'details', 'result', 'unknownKey'])(
  'a valid record whose %s is nested 20,000 deep keeps nobody from opening',
  async (key) => {
    const directory = await scratch();
    const nested = `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`;
    writeFileSync(join(directory, 'deep.json'), good('deep').replace(/}$/, `,"${key}":${nested}}`));
    writeFileSync(join(directory, 'good.json'), good('good'));
    const { manager, rejections } = await openAndListen(directory);
    expect(manager.getTask('good')).toBeDefined();
    expect(manager.getTask('deep') ? 0 : 1).toBe(rejections.length);
    if (!manager.getTask('deep')) return;
    const update = manager.updateTask('deep', { description: 'new' }).catch((error: unknown) => error);
    expect(await update).toMatchObject({ description: 'new' });
  },
);

it('input nested 20,000 deep is refused or kept, and brings nothing down', async () => {
  const manager = await openManager({ directory: await scratch() });
  const nested = JSON.parse(`${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`);
  const refused = { code: 'INVALID_SPEC' };
  await manager
    .registerTask({ kind: 'function', description: 'work', metadata: nested, run: () => 1 })
    .catch((error: unknown) => expect(error).toMatchObject(refused));
  const { taskId } = await manager.registerTask({ kind: 'function', description: 'work', run: () => nested });
  expect(['completed', 'failed']).toContain((await within('the task', manager.waitForTask(taskId))).status);
});

it('a record edited by hand while its host lives changes nothing for that host, and is judged by the next', async () => {
  const directory = await scratch();
  killAllAfterwards(directory);
  const manager = await openManager({ directory });
  await manager.registerTask({ kind: 'process', taskId: 'mine', description: 'work', command: 'exec sleep 600' });
  writeFileSync(join(directory, 'mine.json'), '{ edited');
  expect((await manager.reconcile()).failures).toEqual([]);
  expect(await manager.stopTask('mine')).toMatchObject({ status: 'killed' });
  expect(JSON.parse(readFileSync(join(directory, 'mine.json'), 'utf8'))).toMatchObject({ status: 'killed' });
});
