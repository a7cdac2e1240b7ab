/* What dead owners leave is swept, what is not ours is never touched, and nothing on disk is anybody else's to read, nor holds a secret. */
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { killAllAfterwards, within } from '../helpers/faults.js';
import { startHost } from '../helpers/host.js';
import { openManager, scratch } from '../helpers/manager.js';
import { makeRecord, snapshot } from '../helpers/store.js';
import { until } from '../helpers/wait.js';

const record = (id: string, changes: object = {}) => JSON.stringify(makeRecord(id, changes));

describe('open', () => {
  it('sweeps what dead owners left, and nothing else', async () => {
    const directory = await scratch();
    const first = await openManager({ directory });
    await first.close();
    const ours: Record<string, string> = {
      'old.json.next': '{"half":',
      'old.json.next.123456': 'temporary',
      'gone.json.next': 'of a task that never was',
      '.run/gone.pid': '123\n',
      '.run/gone.exit': '0\n',
      '.run/old.exit': '0\n',
      '.run/old.pid': '99\n',
    };
    const theirs: Record<string, string> = {
      'README.md': 'notes',
      'notes.txt': 'x',
      'old.json.bak': 'x',
      'old.json~': 'x',
      'Some File.next': 'x',
      'package.next': 'x',
      '.gitignore': '*',
      '.hidden.json': '{"not":"ours"}',
      '.run/README': 'x',
      '.run/gone.pid.bak': 'x',
      '.run/.hidden': 'x',
      '.owner/notes': 'x',
      '.owner/epoch-abc': 'x',
      'folder/output.log': 'x',
      'folder/result.json.next': 'x',
      'old/notes.txt': 'x',
    };
    for (const folder of ['folder', 'old']) mkdirSync(join(directory, folder));
    writeFileSync(join(directory, 'old.json'), record('old'));
    for (const [name, content] of Object.entries({ ...ours, ...theirs })) writeFileSync(join(directory, name), content);
    symlinkSync('/etc/passwd', join(directory, 'linked.json.next'));
    mkdirSync(join(directory, '.run', 'folder.pid'));
    const manager = await openManager({ directory });
    const left = snapshot(directory);
    for (const name of Object.keys(ours)) expect(left, name).not.toHaveProperty([name]);
    for (const [name, content] of Object.entries(theirs)) expect(left[name], name).toBe(content);
    expect(left['linked.json.next']).toBeDefined();
    expect(statSync(join(directory, '.run', 'folder.pid')).isDirectory()).toBe(true);
    expect(readdirSync(join(directory, '.owner')).filter((name) => /^epoch-1(?:\.|$)/.test(name))).toEqual([]);
    await manager.close();
  });

  it('keeps what a living task is judged by, and what a repaired record will be', async () => {
    const directory = await scratch();
    const owner = { instanceId: 'x', hostname: 'h', bootId: 'b', pidNamespace: 'p', pid: 1, startTicks: '1' };
    const first = await openManager({ directory });
    const self = first.status().owner;
    await first.close();
    const details = { command: 'true', cwd: '/', pid: 999_999_999, exitCode: null, signal: null };
    const running = { kind: 'process', status: 'running', endedAt: null, details };
    writeFileSync(join(directory, 'mine.json'), record('mine', { ...running, owner: { ...self, instanceId: 'dead' } }));
    writeFileSync(join(directory, '.run', 'mine.pid'), '999999999\n');
    writeFileSync(join(directory, '.run', 'mine.exit'), '17\n');
    writeFileSync(join(directory, 'broken.json'), '{');
    writeFileSync(join(directory, '.run', 'broken.exit'), '3\n');
    writeFileSync(join(directory, 'unknown.json'), record('unknown', { ...running, kind: 'nobodys', owner }));
    writeFileSync(join(directory, '.run', 'unknown.exit'), '4\n');
    const manager = await openManager({ directory });
    expect(manager.getTask('mine')).toMatchObject({ status: 'failed', details: { exitCode: 17 } });
    expect(readFileSync(join(directory, '.run', 'broken.exit'), 'utf8')).toBe('3\n');
    expect(readFileSync(join(directory, '.run', 'unknown.exit'), 'utf8')).toBe('4\n');
    expect(manager.getTask('unknown')).toMatchObject({ status: 'running' });
    await manager.close();
  });

  it('never follows the links that somebody put in the place of our folders', async () => {
    const elsewhere = await scratch();
    writeFileSync(join(elsewhere, 'gone.pid'), 'precious');
    writeFileSync(join(elsewhere, 'output.log'), 'precious');
    for (const name of ['.run', '.owner']) {
      const directory = await scratch();
      symlinkSync(elsewhere, join(directory, name));
      await expect(openManager({ directory })).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    }
    const directory = await scratch();
    writeFileSync(join(directory, 'old.json'), record('old'));
    symlinkSync(elsewhere, join(directory, 'old'));
    const manager = await openManager({ directory });
    await manager.pruneTasks();
    expect(Object.keys(snapshot(elsewhere)).sort()).toEqual(['gone.pid', 'output.log']);
    expect(manager.getTask('old')).toBeUndefined();
  });

  it('leaves nothing behind but the records after ten hosts were killed', async () => {
    const directory = await scratch();
    killAllAfterwards(directory);
    for (let round = 0; round < 10; round++) {
      const host = startHost(
        `const manager = await BackgroundTaskManager.open({ directory, fsync: false });
         for (let n = 0; n < 5; n++) manager.registerTask({ kind: n % 2 ? 'process' : 'function', taskId: 'r${round}-' + n, description: 'work', command: n % 2 ? 'true' : undefined, run: n % 2 ? undefined : () => 'x'.repeat(300000) }).catch(() => {});
         setTimeout(() => process.kill(process.pid, 'SIGKILL'), ${round * 7});`,
        directory,
      );
      await host.ended;
    }
    const manager = await openManager({ directory });
    await manager.waitForIdle();
    await until(() => readdirSync(join(directory, '.run')).every((name) => name.endsWith('.pid')));
    await manager.close();
    const last = await openManager({ directory });
    const names = readdirSync(directory).filter((name) => !name.startsWith('.'));
    const ids = last.listTasks().map(({ taskId }) => taskId);
    expect(names.filter((name) => !ids.includes(name.replace(/\.json$/, '')))).toEqual([]);
    expect(names.filter((name) => name.includes('.next'))).toEqual([]);
    await last.pruneTasks();
    await last.close();
    expect(readdirSync(directory).sort()).toEqual(['.owner', '.run']);
    expect(readdirSync(join(directory, '.run'))).toEqual([]);
    expect(
      readdirSync(join(directory, '.owner')).filter((name) => !/^(?:epoch-\d+\.released|released-\d+)$/.test(name)),
    ).toEqual([]);
  });
});

describe.each([0o000, 0o022, 0o077, 0o777].map((umask) => ({ umask, name: umask.toString(8).padStart(3, '0') })))(
  'with the umask $name',
  ({ umask }) => {
    it('everything is 0700 and 0600, the command has the umask of its host, and no secret is on disk', async () => {
      const parent = await scratch();
      killAllAfterwards(parent);
      const directory = join(parent, 'new', 'tasks');
      const secrets = ['s3cret-of-the-environment', 's3cret-of-a-hook', 's3cret-of-a-header', 's3cret-of-an-input'];
      const host = startHost(
        `process.umask(${umask});
       const { z } = await import('zod');
       const { webhookHook } = await import('holdfast/webhook');
       const kind = holdfast.defineTaskKind({ name: 'agent', details: z.object({ id: z.string() }), start: async (context, input) => undefined, probe: () => ({ state: 'completed' }) });
       const hook = webhookHook({ url: 'http://127.0.0.1:1/' , allowPrivateNetworks: true, secret: Buffer.from('${secrets[1]}').toString('base64'), headers: () => ({ authorization: 'Bearer ${secrets[2]}' }) });
       const manager = await BackgroundTaskManager.open({ directory, kinds: [kind], hooks: { web: typeof hook === 'function' ? { deliver: hook, maxAttempts: 1 } : { ...hook, maxAttempts: 1 } }, maxResultBytes: 10 });
       manager.on('error', ({ error }) => say(error.message));
       await manager.registerTask({ kind: 'process', taskId: 'p', description: 'work', command: 'test -n "$SECRET" && umask && sleep 600', env: { SECRET: '${secrets[0]}' } });
       await manager.registerTask({ kind: 'function', taskId: 'f', description: 'work', run: async ({ appendOutput }) => { await appendOutput('x'); return 'y'.repeat(100); } });
       await manager.registerTask({ kind: 'agent', taskId: 'a', description: 'work', details: { id: '1' }, input: { token: '${secrets[3]}' } });
       await manager.reconcile();
       await manager.waitForTask('a');
       // Nothing is being written any more.
       while (manager.listDeliveries({ state: 'failed' }).length < 2) await new Promise((resolve) => setTimeout(resolve, 10));
       while (!(await manager.readOutput('p')).size) await new Promise((resolve) => setTimeout(resolve, 10));
       say((await manager.readOutput('p')).text);
       setInterval(() => {}, 1000);`,
        directory,
      );
      expect(Number.parseInt(await within('the host', host.next()), 8)).toBe(umask);
      const looked: string[] = [];
      const wrong: string[] = [];
      for (const entry of readdirSync(directory, { withFileTypes: true, recursive: true })) {
        const path = join(entry.parentPath, entry.name);
        looked.push(path.slice(directory.length + 1));
        const mode = (statSync(path).mode & 0o777).toString(8);
        if (mode !== (entry.isDirectory() ? '700' : '600')) wrong.push(`${looked.at(-1)} has ${mode}`);
      }
      expect(wrong).toEqual([]);
      expect(statSync(directory).mode & 0o777).toBe(0o700);
      expect(statSync(join(parent, 'new')).mode & 0o077).toBe(0);
      expect(looked).toEqual(
        expect.arrayContaining(['p.json', 'p/output.log', 'f/output.log', 'f/result.json', '.run/p.pid']),
      );
      await host.kill();
      for (const [path, content] of Object.entries(snapshot(parent))) {
        for (const secret of secrets) {
          expect(content, path).not.toContain(secret);
          expect(content, path).not.toContain(Buffer.from(secret).toString('base64').replace(/=+$/, ''));
        }
      }
      const manager = await openManager({ directory });
      await manager.stopTask('p', { graceMs: 1_000 });
    });
  },
);
