/* A host switches over: it opens the directory of another system and finds its tasks, as they were. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { mkdir, utimes, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { z } from 'zod';
import { defineTaskKind, importTasks, type Probe, readTasks } from '../../src/index.js';
import { webhookHook } from '../../src/webhook/index.js';
import { FakeClock } from '../helpers/clock.js';
import { leftRecord, nothingPending, onDisk, startEndpoint, tally } from '../helpers/integration.js';
import { meaningOf, records, type System, systems } from '../helpers/legacy.js';
import { next, openManager, record, scratch } from '../helpers/manager.js';

type Value = Record<string, unknown>;

/** The next warning of this name. */
function warningNamed(name: string): Promise<Error> {
  return new Promise((resolve) => {
    const listener = (warning: Error) => {
      if (warning.name === name) resolve(warning);
    };
    process.on('warning', listener);
    onTestFinished(() => void process.off('warning', listener));
  });
}

const all = { includeForeground: true } as const;

/** A kube-coder task that runs, as its `task.json` has it. */
const session = (task_id: string, fields: object = {}): Value => ({
  task_id,
  session_id: 's1',
  prompt: `do ${task_id}`,
  workdir: '/home/dev/app',
  status: 'running',
  created_at: 1_700_000_000.5,
  tmux_session: `kube-${task_id}`,
  ...fields,
});

/** Writes a record where its system would: in a file of its own, or in its folder. Returns where. */
function put(directory: string, value: Value, layout: 'file' | 'folder', output?: string): string {
  const id = String(value.taskId ?? value.task_id);
  const path = layout === 'file' ? join(directory, `${id}.json`) : join(directory, id, 'task.json');
  if (layout === 'folder' || output !== undefined) mkdirSync(join(directory, id), { recursive: true });
  writeFileSync(path, JSON.stringify(value, null, 2));
  if (output !== undefined) writeFileSync(join(directory, id, 'output.log'), output);
  return path;
}

/** What would change if a file were written or replaced. */
function fingerprint(path: string): object {
  const { mtimeNs, ino, size, mode } = statSync(path, { bigint: true });
  return { mtimeNs, ino, size, mode, text: readFileSync(path, 'utf8') };
}

describe('a directory with 2,000 mixed records, a tenth of them broken', () => {
  const COUNT = 2_000;
  const seed = 5;

  interface Good {
    readonly path: string;
    readonly expected: Value;
    readonly output: string | undefined;
    /** It is not written at all when it is opened. */
    readonly untouched: boolean;
  }
  interface Broken {
    readonly path: string;
    readonly name: string;
    /** What a person may read as the reason. */
    readonly reason: RegExp;
    /** That what was moved is what was there. */
    readonly same: (movedTo: string) => void;
  }

  it('is opened once: every good one is listed, every broken one is set aside untouched, with a reason', {
    timeout: 120_000,
  }, async () => {
    const directory = await scratch();
    const good: Good[] = [];
    const broken: Broken[] = [];
    for (let n = 0; n < COUNT; n++) {
      if (n % 10 === 9) broken.push(breakOne(directory, n, (n - 9) / 10));
      else good.push(n % 6 === 5 ? putCurrent(directory, n) : putLegacy(directory, n, systems[n % 6]!));
    }
    expect([good.length, broken.length]).toEqual([1_800, 200]);
    const before = new Map(good.map(({ path }) => [path, fingerprint(path)]));

    const read = await readTasks(directory);
    expect([read.tasks.length, read.rejected.length]).toEqual([1_800, 200]);
    expect(existsSync(join(directory, '.rejected'))).toBe(false);

    const options = { directory, retention: { maxForegroundTasks: Number.POSITIVE_INFINITY } };
    const manager = await openManager(options);
    const rejected: { path: string; movedTo: string | null; reason: string }[] = [];
    manager.on('record:rejected', (payload) => void rejected.push(payload));
    const heard = record(manager);
    expect(manager.listTasks(all)).toHaveLength(1_800);
    for (const { expected, output, path } of good) {
      const task = manager.getTask(expected.taskId as string);
      expect(task, path).toMatchObject(expected);
      expect(typeof task!.description).toBe('string');
      if (output === undefined) continue;
      const window = await manager.readOutput(task!.taskId);
      expect(window, path).toMatchObject({ text: output, path: join(outputFolder(path), 'output.log') });
    }

    expect(rejected).toHaveLength(200);
    const byPath = new Map(rejected.map((one) => [one.path, one]));
    for (const { path, name, reason, same } of broken) {
      const { movedTo, reason: said } = byPath.get(path)!;
      expect(said, path).toMatch(reason);
      expect(movedTo, path).toBe(join(directory, '.rejected', `${name}.json`));
      expect(existsSync(path) && lstatSync(path).isFile(), `${path} is not there any more`).toBe(false);
      expect(readFileSync(`${movedTo}.reason`, 'utf8')).toBe(`${said}\n`);
      same(movedTo!);
    }
    expect(readdirSync(join(directory, '.rejected'))).toHaveLength(400);
    const settled = heard.filter((event) => event.startsWith('task:settled'));
    expect(settled).toHaveLength(good.filter(({ untouched }) => !untouched).length);

    const snapshot = JSON.stringify(manager.listTasks(all));
    await manager.close();
    for (const { path, expected, untouched } of good) {
      const { taskId } = expected as { taskId: string };
      const own = join(directory, `${taskId}.json`);
      if (untouched || path !== own) expect(fingerprint(path), path).toEqual(before.get(path));
      if (!untouched) expect(onDisk(directory, taskId)).toMatchObject({ schemaVersion: 1, status: 'lost' });
      else expect(existsSync(own), `${taskId}: nothing was written`).toBe(path === own);
    }
    const again = await openManager(options);
    const heardAgain = record(again);
    expect(JSON.stringify(again.listTasks(all))).toBe(snapshot);
    await again.reconcile();
    expect(heardAgain).toEqual([]);
  });

  const samples = Object.fromEntries(
    systems.map((system) => [system, fc.sample(records[system], { numRuns: COUNT / 6 + 1, seed })]),
  ) as Record<System, Value[]>;

  function putLegacy(directory: string, n: number, system: System): Good {
    const sample = samples[system][Math.floor(n / 6)]!;
    const layout = system === 'kube-coder' || (system === 'kimi-snake' && n % 4 === 1) ? 'folder' : 'file';
    const id =
      system === 'kube-coder'
        ? `${n % 4 < 2 ? 'Fix-Login' : 'tidy'}_${n}`
        : system === 'kimi-current' || system === 'kimi-snake'
          ? `${sample.kind === 'question' ? 'question' : sample.kind === 'agent' || String(sample.task_id).startsWith('agent-') ? 'agent' : 'bash'}-${String(n).padStart(8, '0')}`
          : `row-${n}`;
    const value = { ...sample, [system === 'kimi-current' ? 'taskId' : 'task_id']: id };
    const output = n % 5 < 2 ? `output of ${id}\nñ ${n}\n` : undefined;
    const meaning = meaningOf(system, value);
    const active = meaning.status === 'running' || meaning.status === 'waiting';
    const lost = active && system !== 'kube-coder';
    return {
      path: put(directory, value, layout, output),
      output,
      untouched: !lost,
      expected: lost ? { ...meaning, status: 'lost', endedAt: expect.any(Number) } : meaning,
    };
  }

  /** Our own: ended, or running without an owner that lives. */
  function putCurrent(directory: string, n: number): Good {
    const running = n % 4 === 1;
    const value = leftRecord(`own-${n}`, {
      ...(running && { status: 'running', endedAt: null }),
      metadata: { n, unknown: { kept: true } },
    });
    const output = n % 5 < 2 ? `own output ${n}\n` : undefined;
    return {
      path: put(directory, value, 'file', output),
      output,
      untouched: !running,
      expected: running ? { ...value, status: 'lost', endedAt: expect.any(Number) } : { ...value },
    };
  }

  function outputFolder(path: string): string {
    return basename(path) === 'task.json' ? dirname(path) : path.slice(0, -'.json'.length);
  }

  const kimi = (n: number, fields: object = {}): Value => ({
    taskId: `broken-${n}`,
    kind: 'process',
    description: 'npm test',
    status: 'completed',
    startedAt: 1_700_000_000_000,
    endedAt: 1_700_000_009_000,
    command: 'npm test',
    pid: 4242,
    exitCode: 0,
    ...fields,
  });

  function breakOne(directory: string, n: number, turn: number): Broken {
    const name = `broken-${n}`;
    const path = join(directory, `${name}.json`);
    const file = (content: string | Buffer, reason: RegExp): Broken => {
      writeFileSync(path, content);
      const bytes = Buffer.from(content);
      return { path, name, reason, same: (movedTo) => expect(readFileSync(movedTo).equals(bytes)).toBe(true) };
    };
    const json = (value: unknown, reason: RegExp) => file(JSON.stringify(value), reason);
    const ways: (() => Broken)[] = [
      () => file(JSON.stringify(kimi(n)).slice(0, -9), /JSON/),
      () => file('', /empty|JSON/),
      () => json(kimi(n, { startedAt: 'yesterday' }), /startedAt/),
      () => json(kimi(n, { status: 'paused' }), /status/),
      () => json(kimi(n, { taskId: `other-${n}` }), /taskId|file name/),
      () => json({ task_id: name }, /no known shape/),
      () => json([kimi(n)], /object/),
      () => json(kimi(n, { status: 'running' }), /endedAt.*null while the task runs/),
      () => json(leftRecord(name, { status: 'sleeping' }), /status/),
      () => json(leftRecord(name, { createdAt: -1 }), /createdAt/),
      () => file(Buffer.from([0xff, 0xfe, 0, 0x7b, 0x7d, n % 256]), /./),
      () => {
        const { prompt: _, ...value } = session(name);
        const bytes = JSON.stringify(value);
        const at = put(directory, value, 'folder');
        writeFileSync(at, bytes);
        return {
          path: at,
          name,
          reason: /prompt/,
          same: (movedTo) => expect(readFileSync(movedTo, 'utf8')).toBe(bytes),
        };
      },
      () => {
        mkdirSync(path);
        writeFileSync(join(path, 'inside'), 'kept');
        return { path, name, reason: /regular file/, same: (to) => expect(readdirSync(to)).toEqual(['inside']) };
      },
      () => {
        symlinkSync('/etc/hostname', path);
        return { path, name, reason: /link|regular/, same: (to) => expect(readlinkSync(to)).toBe('/etc/hostname') };
      },
      () => {
        execFileSync('mkfifo', [path]);
        return { path, name, reason: /regular file/, same: (to) => expect(lstatSync(to).isFIFO()).toBe(true) };
      },
      () => (turn < 32 ? json(kimi(n, { padding: 'x'.repeat(1 << 20) }), /1 ?MiB|bytes/) : json(null, /object/)),
    ];
    return ways[turn % ways.length]!();
  }
});

describe('running work of systems that are gone', () => {
  it('is lost, whatever the host defined, and nobody is signalled for it', async () => {
    const directory = await scratch();
    const stranger = spawn('sleep', ['600'], { stdio: 'ignore' });
    const ended = once(stranger, 'close');
    onTestFinished(async () => {
      stranger.kill('SIGKILL');
      await ended;
    });
    const common = { description: 'd', status: 'running', startedAt: 1_700_000_000_000, endedAt: null };
    put(
      directory,
      { ...common, taskId: 'bash-00000001', kind: 'process', command: 'x', pid: stranger.pid, exitCode: null },
      'file',
      'so far\n',
    );
    put(directory, { ...common, taskId: 'agent-00000001', kind: 'agent', agentId: 'a1' }, 'file');
    put(directory, { ...common, taskId: 'question-00000001', kind: 'question', questionCount: 2 }, 'file');
    const asked: string[] = [];
    const kind = (name: 'agent' | 'question') =>
      defineTaskKind({
        name,
        details: z.looseObject({}),
        recover: (task) => {
          asked.push(task.taskId);
          return async () => 'again';
        },
      });
    const manager = await openManager({
      directory,
      kinds: [kind('agent'), kind('question')],
      hooks: { inbox: 'pull' },
    });
    await manager.reconcile();
    expect(
      manager
        .listTasks()
        .map(({ taskId, status }) => `${taskId} ${status}`)
        .sort(),
    ).toEqual(['agent-00000001 lost', 'bash-00000001 lost', 'question-00000001 lost']);
    expect(asked).toEqual([]);
    expect(manager.listDeliveries(), 'nothing was ever promised for them').toEqual([]);
    expect(manager.status()).toMatchObject({ running: 0, slots: { used: 0 } });
    expect((await manager.readOutput('bash-00000001')).text).toBe('so far\n');
    await manager.stopTask('bash-00000001');
    expect([stranger.exitCode, stranger.signalCode]).toEqual([null, null]);
  });
});

describe('running kube-coder tasks', () => {
  it('are kept as they are by a host without a tmux kind, and written back only when they change', async () => {
    const directory = await scratch();
    const paths = {
      'fix-login': put(directory, session('Fix-Login'), 'folder', 'line 1\n'),
      asks: put(directory, session('asks', { status: 'waiting-for-input', last_input_prompt: 'Which?' }), 'folder'),
    };
    const before = Object.values(paths).map(fingerprint);
    let manager = await openManager({ directory, stopGraceMs: 0 });
    await manager.reconcile();
    expect(await manager.waitForIdle()).toBe(true);
    expect(manager.status()).toMatchObject({ running: 1, waiting: 1, slots: { used: 0 } });
    expect(manager.getTask('asks')).toMatchObject({ status: 'waiting', waitingFor: { prompt: 'Which?' } });
    await expect(manager.stopTask('asks')).rejects.toMatchObject({ code: 'UNKNOWN_KIND' });
    expect(await manager.stopAll()).toEqual([]);
    await manager.close({ tasks: 'stop' });
    expect(Object.values(paths).map(fingerprint)).toEqual(before);
    expect(existsSync(join(directory, 'fix-login.json'))).toBe(false);

    manager = await openManager({ directory });
    await manager.updateTask('fix-login', { metadata: { mine: 1 } });
    appendFileSync(join(directory, 'Fix-Login', 'output.log'), 'line 2\n');
    expect(Object.values(paths).map(fingerprint), 'task.json stays').toEqual(before);
    expect(onDisk(directory, 'fix-login')).toEqual(JSON.parse(JSON.stringify(manager.getTask('fix-login'))));
    expect(existsSync(join(directory, 'asks.json'))).toBe(false);
    const changed = manager.getTask('fix-login')!;
    expect(changed).toMatchObject({
      kind: 'tmux',
      status: 'running',
      details: { session: 'kube-Fix-Login' },
      metadata: { mine: 1, 'kube-coder': { task_id: 'Fix-Login', session_id: 's1', workdir: '/home/dev/app' } },
    });
    await manager.close();

    manager = await openManager({ directory });
    expect(manager.getTask('fix-login'), '<id>.json wins').toEqual(changed);
    expect(await manager.readOutput('fix-login')).toMatchObject({
      text: 'line 1\nline 2\n',
      path: join(directory, 'Fix-Login', 'output.log'),
    });
    const { tasks, rejected } = await readTasks(directory);
    expect([tasks.length, rejected]).toEqual([2, []]);
    expect(tasks.find(({ taskId }) => taskId === 'fix-login')).toEqual(changed);
  });

  it('whose ids collide in lower case: one is read, the other set aside', async () => {
    const directory = await scratch();
    put(directory, session('Same'), 'folder', 'first\n');
    put(directory, session('same', { prompt: 'another one' }), 'folder');
    const manager = await openManager({ directory });
    const { path, movedTo, reason } = await next(manager, 'record:rejected');
    expect([path, movedTo]).toEqual([join(directory, 'same', 'task.json'), join(directory, '.rejected', 'same.json')]);
    expect(reason).toContain('same');
    expect(manager.listTasks()).toMatchObject([{ taskId: 'same', description: 'do Same' }]);
    expect((await manager.readOutput('same')).text).toBe('first\n');
  });

  it('are probed and adopted by a host with a tmux kind', async () => {
    const directory = await scratch();
    for (const id of ['Goes-On', 'asks', 'ended', 'vanished', 'stopped'])
      put(directory, session(id), 'folder', `${id}\n`);
    put(directory, session('nameless', { tmux_session: null }), 'folder');
    const probed = new Set<string>();
    let states: Record<string, Probe<{ session: string }, unknown>> = {
      'kube-asks': { state: 'waiting', prompt: 'Deploy?' },
      'kube-ended': { state: 'completed', result: 'fine', endedAt: 1_700_000_100_000 },
      'kube-vanished': { state: 'gone' },
    };
    const tmux = defineTaskKind({
      name: 'tmux',
      details: z.object({ session: z.string() }),
      start: () => undefined,
      probe: ({ taskId, details }): Probe<{ session: string }, any> => {
        probed.add(taskId);
        return (states[details.session] as Probe<{ session: string }, any>) ?? { state: 'running' };
      },
      stop: ({ details }) => {
        states = { ...states, [details.session]: { state: 'gone' } };
      },
    });
    const clock = new FakeClock(Date.now());
    const manager = await openManager({ directory, kinds: [tmux], reconcileIntervalMs: 10_000 }, clock);
    const heard = record(manager);
    const { report } = manager.status().lastReconcile!;
    expect([...report.adopted].sort()).toEqual(['asks', 'goes-on', 'stopped']);
    expect([...report.lost]).toEqual(['vanished']);
    expect([...report.settled, ...report.lost].sort()).toEqual(expect.arrayContaining(['ended', 'vanished']));
    expect(manager.getTask('ended')).toMatchObject({ status: 'completed', endedAt: 1_700_000_100_000 });
    expect(await manager.readResult('ended')).toBe('fine');
    expect(manager.getTask('vanished')).toMatchObject({ status: 'lost' });
    expect(manager.getTask('asks')).toMatchObject({ status: 'waiting', waitingFor: { prompt: 'Deploy?' } });
    const adopted = manager.getTask('goes-on')!;
    expect(adopted).toMatchObject({ status: 'running', owner: manager.status().owner });
    expect(onDisk(directory, 'goes-on')).toEqual(JSON.parse(JSON.stringify(adopted)));
    expect(existsSync(join(directory, 'Goes-On', 'task.json'))).toBe(true);
    // Its details do not fit the kind: it is kept, and not probed.
    expect(manager.getTask('nameless')).toMatchObject({ status: 'running', owner: null });
    expect(existsSync(join(directory, 'nameless.json'))).toBe(false);
    expect([...probed].sort()).toEqual(['asks', 'ended', 'goes-on', 'stopped', 'vanished']);

    expect(await manager.stopTask('stopped')).toMatchObject({ status: 'killed' });
    const settled = next(manager, 'task:settled', 'goes-on');
    states = { ...states, 'kube-Goes-On': { state: 'failed', error: { name: 'Error', message: 'no' } } };
    await clock.advance(10_000);
    expect((await settled).task).toMatchObject({ status: 'failed', error: { message: 'no' } });
    expect((await manager.readOutput('goes-on')).text).toBe('Goes-On\n');
    expect(heard.filter((event) => event.startsWith('task:adopted')).sort()).toEqual([
      'task:adopted asks',
      'task:adopted goes-on',
      'task:adopted stopped',
    ]);
  });
});

describe('a response_url that is still owed', () => {
  it('stays owed until the host has a hook of that name, which is then called once for each', async () => {
    const directory = await scratch();
    const endpoint = await startEndpoint(() => 200);
    const ended = { status: 'completed', finished_at: 1_700_000_050, response_url: endpoint.url };
    put(directory, session('Owed', { ...ended, response_secret: 'hush' }), 'folder', 'the output\n');
    put(directory, session('fired', { ...ended, hook_fired_at: 1_700_000_060 }), 'folder');
    put(
      directory,
      session('told', { ...ended, hook_delivery: { state: 'delivered', attempts: 2, delivered_at: 1_700_000_070 } }),
      'folder',
    );
    put(
      directory,
      session('dead', { ...ended, hook_delivery: { state: 'failed', attempts: 5, last_error: 'HTTP 500' } }),
      'folder',
    );
    put(directory, session('goes-on', { response_url: endpoint.url }), 'folder');

    let manager = await openManager({ directory });
    await manager.reconcile();
    expect(manager.listDeliveries({ state: 'pending' })).toMatchObject([{ taskId: 'owed', hook: 'response_url' }]);
    expect(await manager.pruneTasks({ filter: { status: 'completed' } })).toEqual(
      expect.not.arrayContaining(['owed', 'dead']),
    );
    await manager.close();
    expect(existsSync(join(directory, 'owed.json'))).toBe(false);

    const toResponseUrl = webhookHook({
      resolveUrl: ({ metadata }) => (metadata as any)['kube-coder'].response_url,
      allowPrivateNetworks: true,
    });
    let state: Probe<{ session: string }, never> = { state: 'running' };
    const tmux = defineTaskKind({
      name: 'tmux',
      details: z.object({ session: z.string() }),
      start: () => undefined,
      probe: () => state as Probe<{ session: string }, any>,
    });
    const clock = new FakeClock(Date.now());
    const options = { directory, kinds: [tmux], hooks: { response_url: toResponseUrl } } as const;
    manager = await openManager(options, clock);
    await nothingPending(manager);
    expect(endpoint.received.map(({ deliveryId }) => deliveryId)).toEqual(['owed:response_url']);
    expect(JSON.parse(endpoint.received[0]!.body)).toMatchObject({
      type: 'task.completed',
      data: { task: { taskId: 'owed', metadata: { 'kube-coder': { task_id: 'Owed' } } }, output: 'the output\n' },
    });
    expect(onDisk(directory, 'owed').hooks.response_url).toMatchObject({ state: 'delivered', attempts: 1 });
    for (const text of [readFileSync(join(directory, 'owed.json'), 'utf8'), endpoint.received[0]!.body])
      expect(text).not.toContain('hush');

    const delivered = next(manager, 'hook:delivered', 'goes-on');
    state = { state: 'completed' };
    await manager.reconcile();
    await delivered;
    await manager.redeliver('dead');
    await nothingPending(manager);
    expect(endpoint.received.map(({ taskId }) => taskId)).toEqual(['owed', 'goes-on', 'dead']);
    await manager.close();
    manager = await openManager(options, clock);
    await manager.reconcile();
    expect(tally(manager)).not.toHaveProperty('pending');
    expect(endpoint.received).toHaveLength(3);
  });
});

describe('importTasks', () => {
  const hermes = (n: number, fields: object = {}): Value => ({
    task_id: `web-${n}`,
    bg_session_id: 'b1',
    stream_id: 'st1',
    prompt: 'Summarise',
    status: 'done',
    started_at: 1_700_000_000.25,
    answer: 'Fine.',
    completed_at: 1_700_000_003,
    ...fields,
  });
  const row = (n: number, fields: object = {}): Value => ({
    task_id: `row-${n}`,
    status: 'success',
    started_at: 1_700_000_000,
    finished_at: 1_700_000_009,
    cost_usd: 0.25,
    ...fields,
  });

  it('keeps large results, each in a file of its own', async () => {
    const directory = await scratch();
    const answers = { 'web-1': 'x'.repeat(300_000), 'web-2': 'y'.repeat(1_200_000) };
    const list = [hermes(1, { answer: answers['web-1'] }), hermes(2, { answer: answers['web-2'] })];
    expect(await importTasks(directory, list)).toMatchObject({ imported: ['web-1', 'web-2'], rejected: [] });
    const manager = await openManager({ directory });
    for (const [taskId, answer] of Object.entries(answers)) {
      expect(manager.getTask(taskId)).toMatchObject({ status: 'completed' });
      expect(manager.getTask(taskId)).not.toHaveProperty('result');
      expect(await manager.readResult(taskId)).toEqual({ answer });
    }
  });

  it('goes on after a record whose parts fit and whose whole does not', async () => {
    const directory = await scratch();
    const large = hermes(1, { answer: 'x'.repeat(200_000), prompt: 'y'.repeat(900_000) });
    const report = await importTasks(directory, [large, hermes(2)]);
    expect(report).toMatchObject({ imported: ['web-1', 'web-2'], rejected: [] });
    const manager = await openManager({ directory });
    expect(await manager.readResult('web-1')).toEqual({ answer: 'x'.repeat(200_000) });
  });

  it('says of what it finds there and sets aside', async () => {
    const directory = await scratch();
    await writeFile(join(directory, 'broken.json'), '{ nope');
    const warned = warningNamed('RejectedRecord');
    expect(await importTasks(directory, [])).toEqual({ imported: [], skipped: [], rejected: [] });
    expect(await warned).toMatchObject({ name: 'RejectedRecord', message: expect.stringContaining('broken.json') });
  });

  it('brings a list in: each is written once, what is there is left alone, what is none is named', async () => {
    const directory = join(await scratch(), 'new', 'tasks');
    const list = [
      hermes(1),
      hermes(2, { status: 'running', answer: null, completed_at: null }),
      row(1, { status: 'interrupted' }),
      row(2, { status: 'running', finished_at: null }),
      session('Tmux-1'),
      { task_id: 'only-an-id' },
      row(1, { status: 'cancelled' }),
      hermes(3, { started_at: 'soon' }),
    ];
    const report = await importTasks(directory, list);
    expect(report).toMatchObject({ imported: ['web-1', 'web-2', 'row-1', 'row-2', 'tmux-1'], skipped: [] });
    expect(report.rejected.map(({ index }) => index)).toEqual([5, 6, 7]);
    expect(report.rejected[2]!.reason).toMatch(/started_at/);
    const files = readdirSync(directory).filter((name) => name.endsWith('.json'));
    expect(files.sort()).toEqual(['row-1.json', 'row-2.json', 'tmux-1.json', 'web-1.json', 'web-2.json']);

    const before = files.map((name) => fingerprint(join(directory, name)));
    expect(await importTasks(directory, list.slice(0, 5))).toEqual({
      imported: [],
      skipped: ['web-1', 'web-2', 'row-1', 'row-2', 'tmux-1'],
      rejected: [],
    });
    const manager = await openManager({ directory });
    expect(manager.getTask('web-1')).toMatchObject({
      kind: 'agent',
      status: 'completed',
      description: 'Summarise',
      createdAt: 1_700_000_000_250,
      result: { answer: 'Fine.' },
    });
    const status = (taskId: string) => manager.getTask(taskId)!.status;
    expect(['web-2', 'row-1', 'row-2', 'tmux-1'].map(status)).toEqual(['lost', 'lost', 'lost', 'running']);
    expect(manager.getTask('row-1')).toMatchObject({ metadata: { 'claude-hooks': { cost_usd: 0.25 } } });
    expect(await manager.readResult('web-1')).toEqual({ answer: 'Fine.' });
    await manager.close();
    expect(files.map((name) => fingerprint(join(directory, name)))).toEqual(before);
  });

  it('needs the directory for itself while it works, and gives it back', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    const { owner } = manager.status();
    await expect(importTasks(directory, [row(1)])).rejects.toMatchObject({ code: 'DIRECTORY_OWNED', owner });
    expect(readdirSync(directory).filter((name) => name.endsWith('.json'))).toEqual([]);
    await manager.close();
    const rows = Array.from({ length: 50 }, (_, n) => row(n));
    const racing = await Promise.allSettled([1, 2, 3].map(() => importTasks(directory, rows)));
    const imported = racing.flatMap((one) => (one.status === 'fulfilled' ? one.value.imported : []));
    expect([...new Set(imported)].length, 'each is imported once').toBe(imported.length);
    expect(imported).toHaveLength(50);
    for (const one of racing)
      if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'DIRECTORY_OWNED' });
    const after = await openManager({ directory });
    expect(after.listTasks({ status: 'completed' })).toHaveLength(50);
  });

  it('leaves alone what lies in the legacy layout already, and does not take the place of what could not be read', async () => {
    const directory = await scratch();
    const path = put(directory, session('Here'), 'folder');
    writeFileSync(join(directory, 'row-7.json'), '{ broken');
    const before = fingerprint(path);
    const report = await importTasks(directory, [session('here', { prompt: 'other' }), row(8)]);
    expect(report).toMatchObject({ imported: ['row-8'], skipped: ['here'], rejected: [] });
    expect(fingerprint(path)).toEqual(before);
    expect(existsSync(join(directory, 'here.json'))).toBe(false);
    expect(readFileSync(join(directory, '.rejected', 'row-7.json'), 'utf8')).toBe('{ broken');
  });
});

describe('readTasks while a manager owns the directory', () => {
  it('is never wrong-footed by its writes, and changes nothing', async () => {
    const directory = await scratch();
    for (let n = 0; n < 20; n++) put(directory, session(`Tmux-${n}`), 'folder');
    const manager = await openManager({ directory });
    let working = true;
    const work = (async () => {
      for (let n = 0; n < 20; n++) {
        const { taskId } = await manager.registerTask({
          kind: 'function',
          taskId: `f${n}`,
          description: 'work',
          run: () => n,
        });
        await manager.waitForTask(taskId);
        await manager.updateTask(`tmux-${n % 20}`, { metadata: { n } });
        if (n % 3 === 0) await manager.pruneTasks({ filter: { kind: 'function' }, keep: 5 });
      }
    })().finally(() => {
      working = false;
    });
    let reads = 0;
    while (working) {
      const { tasks, rejected } = await readTasks(directory);
      expect(rejected).toEqual([]);
      expect(tasks.filter(({ taskId }) => taskId.startsWith('tmux-'))).toHaveLength(20);
      for (const task of tasks) {
        const ended = ['completed', 'lost'].includes(task.status);
        expect(ended ? task.endedAt : null, `${task.taskId} is one record, not two halves`).toBe(task.endedAt);
      }
      reads++;
      await setImmediate();
    }
    await work;
    expect(reads).toBeGreaterThan(1);
    const { tasks } = await readTasks(directory);
    expect(tasks).toEqual(JSON.parse(JSON.stringify(manager.listTasks())));
    expect(manager.listTasks({ active: true })).toHaveLength(20);
  });
});

describe("the host's own legacyShapes", () => {
  const jobs = {
    name: 'jobs',
    schema: z.object({ job: z.string(), state: z.enum(['busy', 'done']), at: z.number(), note: z.string().optional() }),
    toRecord: (
      value: { job: string; state: 'busy' | 'done'; at: number; note?: string | undefined },
      { fileName }: { fileName?: string },
    ) => {
      if (value.note === 'bad') throw new Error('a note nobody can read');
      return {
        taskId: value.job,
        kind: 'job',
        description: `job ${value.job}`,
        status: value.state === 'done' ? 'completed' : 'running',
        startedAt: value.at,
        endedAt: value.state === 'done' ? value.at + 5 : null,
        metadata: { jobs: { ...(fileName !== undefined && { fileName }) } },
      } as const;
    },
  };

  it('are read before the built-in ones, and kept in our own shape once they change', async () => {
    const directory = await scratch();
    const write = (name: string, value: object) => writeFileSync(join(directory, name), JSON.stringify(value));
    write('one.json', { job: 'one', state: 'done', at: 1_700_000_000_000 });
    write('two.json', { job: 'two', state: 'busy', at: 1_700_000_000_000 });
    write('bad.json', { job: 'bad', state: 'done', at: 1, note: 'bad' });
    write('none.json', { job: 'none', state: 'odd', at: 1 });
    put(directory, session('tmux-1'), 'folder');
    // Both shapes would read it: the host's comes first.
    write('both.json', { ...session('both'), job: 'both', state: 'done', at: 1_700_000_000_000 });
    const options = { directory, legacyShapes: [jobs] };
    let manager = await openManager(options);
    const rejected: { path: string; reason: string }[] = [];
    manager.on('record:rejected', (one) => void rejected.push(one));
    await manager.reconcile();
    const kinds = Object.fromEntries(
      manager.listTasks().map(({ taskId, kind, status }) => [taskId, `${kind} ${status}`]),
    );
    expect(kinds).toEqual({
      one: 'job completed',
      two: 'job running', // of a kind that this host does not have: kept
      both: 'job completed',
      'tmux-1': 'tmux running',
    });
    expect(manager.getTask('one')).toMatchObject({
      createdAt: 1_700_000_000_000,
      owner: null,
      metadata: { jobs: { fileName: 'one.json' } },
    });
    const reasons = Object.fromEntries(rejected.map(({ path, reason }) => [relative(directory, path), reason]));
    expect(Object.keys(reasons).sort()).toEqual(['bad.json', 'none.json']);
    expect(reasons['bad.json']).toContain('a note nobody can read');
    expect(reasons['none.json']).toMatch(/jobs.*state/);
    await manager.updateTask('one', { description: 'renamed' });
    await manager.close();

    manager = await openManager({ directory });
    expect(manager.getTask('one')).toMatchObject({ kind: 'job', status: 'completed', description: 'renamed' });
    expect((await next(manager, 'record:rejected')).path, 'without the shape it is none').toBe(
      join(directory, 'two.json'),
    );
  });
});

it('a task that was written back does not come back from its old file when its record breaks; one that a person repaired does', async () => {
  const directory = await scratch();
  await mkdir(join(directory, 't1'));
  const old = {
    task_id: 't1',
    session_id: 's',
    prompt: 'p',
    workdir: '/',
    status: 'running',
    created_at: 1_700_000_000,
  };
  await writeFile(join(directory, 't1', 'task.json'), JSON.stringify(old));
  // A tick of the clock of files may be all there is between what follows.
  await utimes(join(directory, 't1', 'task.json'), Date.now() / 1000 - 60, Date.now() / 1000 - 60);
  const first = await openManager({ directory });
  await first.updateTask('t1', { description: 'written back' });
  await first.close();
  await writeFile(join(directory, 't1.json'), '{ torn');
  for (const open of [1, 2]) {
    const manager = await openManager({ directory });
    expect(manager.listTasks(), `open ${open}`).toEqual([]);
    await manager.close();
    expect((await readTasks(directory)).tasks).toEqual([]);
  }
  await utimes(join(directory, 't1', 'task.json'), Date.now() / 1000 + 60, Date.now() / 1000 + 60);
  expect((await openManager({ directory })).getTask('t1')).toMatchObject({ status: 'running' });
});

it('a folder that was set aside for the sake of another one does not hide that', async () => {
  const directory = await scratch();
  const now = Date.now() / 1000;
  for (const [name, age] of [
    ['Foo', 60],
    ['foo', 0],
  ] as const) {
    await mkdir(join(directory, name));
    const path = join(directory, name, 'task.json');
    const task = {
      task_id: name,
      session_id: 's',
      prompt: name,
      workdir: '/',
      status: 'running',
      created_at: 1_700_000_000,
    };
    await writeFile(path, JSON.stringify(task));
    await utimes(path, now - age, now - age);
  }
  for (const open of [1, 2]) {
    const manager = await openManager({ directory });
    expect(manager.getTask('foo'), `open ${open}`).toMatchObject({ description: 'Foo' });
    await manager.close();
    expect((await readTasks(directory)).tasks).toHaveLength(1);
  }
});
