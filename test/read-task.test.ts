// One task of a directory that somebody else may own: read as readTasks reads it, at the cost of that one task.
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { readTask, readTaskOutput, readTasks } from '../src/index.js';
import { startHost } from './helpers/host.js';
import { openManager, scratch } from './helpers/manager.js';
import { makeRecord, snapshot } from './helpers/store.js';
import { Faults } from './helpers/store-faults.js';
import { until } from './helpers/wait.js';
import { onDisk } from './helpers/world.js';

const code = (wanted: string, message = /./) =>
  expect.objectContaining({ code: wanted, message: expect.stringMatching(message) });
const session = (task_id: string) => ({
  task_id,
  session_id: 's1',
  prompt: 'Fix the login',
  workdir: '/home/dev/app',
  status: 'running',
  created_at: 1_700_000_000.5,
});

/** Another system's tasks, one whose folder is written in capitals, and one that was written back since. */
async function withOthers() {
  const directory = await scratch();
  const legacy = (folder: string, output: string) => {
    mkdirSync(join(directory, folder));
    writeFileSync(join(directory, folder, 'task.json'), JSON.stringify(session(folder.toLowerCase())));
    writeFileSync(join(directory, folder, 'output.log'), output);
  };
  const own = (taskId: string, more: object = {}) =>
    writeFileSync(join(directory, `${taskId}.json`), JSON.stringify(makeRecord(taskId, more)));
  legacy('small', 'in small letters');
  legacy('Big', 'in capitals');
  legacy('Twin', 'the first of two');
  legacy('twin', 'the second of two');
  legacy('Back', 'still in the old folder');
  own('back');
  own('plain');
  own('newer', { schemaVersion: 2, wheels: 4 });
  return { directory, own };
}

/** What a test does is done with the file system watched. */
async function watched(directory: string) {
  const faults = await Faults.install(directory);
  onTestFinished(() => faults.restore());
  return faults;
}

describe('readTask', () => {
  it('gives every task as readTasks gives it, and changes nothing', async () => {
    const { directory } = await withOthers();
    const before = snapshot(directory);
    const { tasks } = await readTasks(directory);
    expect(tasks.map(({ taskId }) => taskId).sort()).toEqual(['back', 'big', 'newer', 'plain', 'small', 'twin']);
    for (const task of tasks) {
      expect(await readTask(directory, task.taskId)).toEqual(task);
      expect(await readTask(directory, task, { judge: true })).toEqual(task);
    }
    expect(await readTask(directory, 'nobody')).toBeUndefined();
    expect(snapshot(directory)).toEqual(before);
  });

  it('of ours costs the same in any directory, and of another system no other record', async () => {
    const { directory, own } = await withOthers();
    const callsOf = async (taskId: string) => {
      faults.calls.length = 0;
      await readTask(directory, taskId);
      return [...faults.calls];
    };
    const faults = await watched(directory);
    const before = await callsOf('plain');
    for (let n = 0; n < 300; n++) own(`t${n}`);
    expect(await callsOf('plain')).toEqual(before);
    expect(before).toEqual(['realpath', 'lstatSync', 'openSync', 'readFileSync']);
    for (const taskId of ['small', 'big']) {
      const calls = await callsOf(taskId);
      // Each file is looked at before it is opened.
      expect(calls.filter((name) => name === 'openSync')).toHaveLength(1);
      expect(calls.filter((name) => name === 'lstatSync').length).toBeLessThan(5);
    }
    expect((await callsOf('nobody')).filter((name) => name === 'openSync')).toEqual([]);
  });

  it('does not pass over a record that cannot be read', async () => {
    const { directory, own } = await withOthers();
    writeFileSync(join(directory, 'broken.json'), '{');
    symlinkSync('plain.json', join(directory, 'link.json'));
    writeFileSync(join(directory, 'other.json'), readFileSync(join(directory, 'plain.json')));
    mkdirSync(join(directory, 'Odd'));
    writeFileSync(join(directory, 'Odd', 'task.json'), '{');
    await expect(readTask(directory, 'broken')).rejects.toEqual(
      code('STORAGE_FAILED', /broken\.json: is not valid JSON/),
    );
    await expect(readTask(directory, 'link')).rejects.toEqual(code('STORAGE_FAILED', /symbolic link/));
    await expect(readTask(directory, 'other')).rejects.toEqual(
      code('STORAGE_FAILED', /"plain" is not what the file name says/),
    );
    await expect(readTask(directory, 'odd')).rejects.toEqual(code('STORAGE_FAILED', /Odd\/task\.json/));
    own('odd');
    expect(await readTask(directory, 'odd')).toMatchObject({ taskId: 'odd' });
  });

  it('tries again what may pass', async () => {
    const { directory } = await withOthers();
    const faults = await watched(directory);
    faults.arm('EMFILE', (_, name) => name === 'openSync' && faults.fired.length < 2);
    expect(await readTask(directory, 'plain')).toMatchObject({ taskId: 'plain' });
    faults.arm('EIO', (_, name) => name === 'openSync');
    await expect(readTask(directory, 'plain')).rejects.toEqual(code('STORAGE_FAILED', /cannot be read: EIO/));
  });

  it('refuses what is no directory and no task', async () => {
    const { directory } = await withOthers();
    await expect(readTask(join(directory, 'none'), 'plain')).rejects.toEqual(code('STORAGE_FAILED'));
    await expect(readTask(join(directory, 'plain.json'), 'plain')).rejects.toEqual(code('STORAGE_FAILED'));
    await expect(readTask(directory, '../plain')).rejects.toEqual(code('INVALID_TASK_ID'));
    await expect(readTask(directory, 'plain', { judged: true } as never)).rejects.toEqual(
      code('INVALID_SPEC', /^readTask: judged: is unknown; did you mean judge\?$/),
    );
  });

  it('judges a process that ended while nobody lived, as an owner would', async () => {
    const directory = await scratch();
    const host = startHost(
      `const manager = await BackgroundTaskManager.open({ directory, reconcileIntervalMs: 0 });
       const start = (taskId, command, more) => manager.registerTask({ kind: 'process', taskId, description: 'work', command, ...more });
       await start('ends', 'printf half; while [ ! -e "$G" ]; do sleep 0.02; done; exit 3', { env: { G: directory + '/go' } });
       await start('lives', 'exec sleep 1000');
       await start('cut', 'exec sleep 1000');
       say('ready'); setInterval(() => {}, 1e6);`,
      directory,
    );
    await host.next();
    // It stands still: it lives, so that what left no trace is for it to judge.
    process.kill(host.child.pid!, 'SIGSTOP');
    process.kill(-(onDisk(directory, 'cut') as any).details.pid, 'SIGKILL');
    await until(async () => (await readTaskOutput(directory, 'ends')).text === 'half');
    expect(await readTask(directory, 'cut', { judge: true })).toMatchObject({ status: 'running' });
    await host.kill();
    writeFileSync(join(directory, 'go'), '');
    await until(() => existsSync(join(directory, '.run', 'ends.exit')));
    const before = snapshot(directory);
    expect(await readTask(directory, 'ends')).toMatchObject({ status: 'running' });
    const ended = await readTask(directory, 'ends', { judge: true });
    expect(ended).toMatchObject({ status: 'failed', details: { exitCode: 3 } });
    await until(async () => (await readTask(directory, 'cut', { judge: true }))?.status === 'lost');
    expect(await readTask(directory, 'lives', { judge: true })).toMatchObject({ status: 'running', endedAt: null });
    const { tasks } = await readTasks(directory, { judge: true });
    expect(tasks.find(({ taskId }) => taskId === 'ends')).toEqual(ended);
    expect(snapshot(directory)).toEqual(before);
    const manager = await openManager({ directory, reconcileIntervalMs: 0 });
    expect(manager.getTask('ends')).toMatchObject({ status: 'failed', endedAt: ended!.endedAt });
    await manager.stopAll({ graceMs: 0 });
  });
});

describe('readTaskOutput', () => {
  it('gives the windows that the owner gives, while it owns', async () => {
    const directory = await scratch();
    const manager = await openManager({ directory });
    const { taskId } = await manager.registerTask({
      kind: 'function',
      description: 'speaks',
      run: async ({ appendOutput, signal }) => {
        await appendOutput('one\ntwo\nthree ü\n');
        await appendOutput(Buffer.from([0xc3])); // the first half of a character
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
      },
    });
    await until(async () => (await manager.readOutput(taskId)).size === 18);
    const same = async () => {
      const task = manager.getTask(taskId)!;
      for (const options of [undefined, { offset: 4, maxBytes: 5 }, { tailBytes: 6 }, { tailLines: 2 }]) {
        const window = await manager.readOutput(taskId, options);
        expect(await readTaskOutput(directory, taskId, options)).toEqual(window);
        expect(await readTaskOutput(new URL(`file://${directory}`), task, options)).toEqual(window);
      }
      return (await readTaskOutput(directory, taskId)).text;
    };
    expect(await same()).toBe('one\ntwo\nthree ü\n');
    await manager.stopTask(taskId, { graceMs: 0 });
    expect(await same()).toBe('one\ntwo\nthree ü\n\uFFFD');
  });

  it('finds the output where the task of another system has it, also once its record was written back', async () => {
    const { directory } = await withOthers();
    const before = snapshot(directory);
    const manager = async () => openManager({ directory, reconcileIntervalMs: 0 });
    const read = async (taskId: string) => (await readTaskOutput(directory, taskId)).text;
    const outputs = {
      small: 'in small letters',
      big: 'in capitals',
      twin: 'the first of two',
      back: 'still in the old folder',
      plain: '',
    };
    for (const [taskId, text] of Object.entries(outputs)) expect(await read(taskId)).toBe(text);
    expect(await readTaskOutput(directory, 'plain')).toMatchObject({
      size: 0,
      path: join(directory, 'plain/output.log'),
    });
    expect(snapshot(directory)).toEqual(before);
    // An owner says the same.
    const owner = await manager();
    for (const taskId of Object.keys(outputs)) {
      expect(await readTaskOutput(directory, taskId)).toEqual(await owner.readOutput(taskId));
    }
  });

  it('costs the same in any directory, where there is output', async () => {
    const { directory, own } = await withOthers();
    mkdirSync(join(directory, 'plain'));
    writeFileSync(join(directory, 'plain', 'output.log'), 'here');
    for (let n = 0; n < 300; n++) own(`t${n}`);
    const faults = await watched(directory);
    expect(await readTaskOutput(directory, 'plain')).toMatchObject({ text: 'here' });
    expect(faults.calls).not.toContain('opendirSync');
    expect(faults.calls.filter((name) => name === 'openSync')).toHaveLength(1);
  });

  it('refuses what is no task and no part of an output', async () => {
    const { directory } = await withOthers();
    await expect(readTaskOutput(directory, 'nobody')).rejects.toEqual(code('TASK_NOT_FOUND'));
    await expect(readTaskOutput(directory, 'plain', { tail: 5 } as never)).rejects.toEqual(code('INVALID_SPEC'));
    await expect(readTaskOutput(directory, { status: 'x' } as never)).rejects.toEqual(code('INVALID_TASK_ID'));
    expect(readdirSync(directory)).not.toContain('.owner');
  });
});
