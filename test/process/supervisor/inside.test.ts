/*
 * A host inside the tree of one of its own tasks: it stops and freezes that task, and neither itself nor the processes
 * between them.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../src/clock.js';
import { ProcessTree } from '../../../src/process/supervisor/process-tree.js';
import { freeze, kill, terminate } from '../../../src/process/supervisor/stages.js';
import { type ProcessRow, type ProcessTable, Snapshot } from '../../../src/process/table/process-table.js';
import { killAllAfterwards } from '../../helpers/faults.js';
import { startHost } from '../../helpers/host.js';
import { isAlive, spawned } from '../../helpers/process.js';
import { tempDirectory, until } from '../../helpers/wait.js';

const repository = fileURLToPath(new URL('../..', import.meta.url));

/** The host that the task starts: takes the directory over once its first owner is dead, and says what became of it. */
const INNER = `
  import { existsSync, writeFileSync, renameSync } from 'node:fs';
  import { setTimeout as pause } from 'node:timers/promises';
  import { BackgroundTaskManager } from 'holdfast';
  const { HOST_DIRECTORY: directory, HOST_SIDE: side, HOST_ACT: act } = process.env;
  const tell = (name, value) => { writeFileSync(side + '/' + name + '.part', JSON.stringify(value)); renameSync(side + '/' + name + '.part', side + '/' + name); };
  tell('inner', process.pid);
  while (!existsSync(side + '/go')) await pause(10);
  let manager;
  while (!manager) {
    try { manager = await BackgroundTaskManager.open({ directory, fsync: false, stopGraceMs: 100 }); }
    catch (error) { if (error.code !== 'DIRECTORY_OWNED') throw error; await pause(10); }
  }
  const before = manager.getTask('around').status;
  if (act === 'write') writeFileSync(side + '/write', '');
  const task = act === 'stop' ? await manager.stopTask('around') : await manager.waitForTask('around');
  await manager.close();
  tell('told', { before, status: task.status, cause: task.stop?.cause });
  while (!existsSync(side + '/end')) await pause(10);
`;

/**
 * A first host launches the task that starts the inner host, and is killed. Resolves with what that says of the task.
 */
async function told(command: (inner: string) => string, act: 'stop' | 'write', maxOutputBytes?: number) {
  const [directory, side] = [tempDirectory('holdfast-inside-'), tempDirectory('holdfast-side-')];
  killAllAfterwards(directory);
  writeFileSync(join(side, 'inner.mjs'), INNER);
  const node = `cd ${repository} && ${process.execPath} --input-type=module -e "$(cat ${side}/inner.mjs)"`;
  const first = startHost(
    `const manager = await BackgroundTaskManager.open({ directory, fsync: false });
     const { command, maxOutputBytes, env } = JSON.parse(process.env.HOST_TASK);
     await manager.registerTask({ kind: 'process', taskId: 'around', description: 'work', command, maxOutputBytes, env });
     say('registered');`,
    directory,
    {
      HOST_TASK: JSON.stringify({
        command: command(node),
        maxOutputBytes,
        env: { HOST_DIRECTORY: directory, HOST_SIDE: side, HOST_ACT: act },
      }),
    },
  );
  await first.next();
  const inner = await until(() => existsSync(join(side, 'inner')) && Number(readFileSync(join(side, 'inner'), 'utf8')));
  await first.kill();
  writeFileSync(join(side, 'go'), '');
  await until(() => existsSync(join(side, 'told')) || !isAlive(inner), { message: 'what the inner host tells' });
  const report = existsSync(join(side, 'told')) ? JSON.parse(await readFile(join(side, 'told'), 'utf8')) : 'it died';
  const lives = isAlive(inner);
  const record = JSON.parse(await readFile(join(directory, 'around.json'), 'utf8'));
  writeFileSync(join(side, 'end'), '');
  await until(() => !isAlive(inner));
  return { report, lives, record };
}

describe('a host that one of its own tasks started', () => {
  it.each([
    ['as its main command', (inner: string) => inner],
    ['beside other work', (inner: string) => `sleep 600 & ${inner}`],
    ['without waiting for it', (inner: string) => `(${inner}) & sleep 600`],
    ['in a session of its own', (inner: string) => `setsid sh -c '${inner.replaceAll("'", `'\\''`)}' & sleep 600`],
  ])('stops it, %s, and lives', async (_how, command) => {
    const { report, lives, record } = await told(command, 'stop');
    expect(report).toEqual({ before: 'running', status: 'killed', cause: 'user' });
    expect(lives).toBe(true);
    expect(record.status).toBe('killed');
  });

  it('freezes it for its output, and neither itself nor who is between them', async () => {
    const writer = (side: string) =>
      `(until [ -e ${side}/write ]; do sleep 0.02; done; ulimit -f 2097152; while :; do printf %64s; done) &`;
    const { report, lives } = await told((inner) => `${writer('"$HOST_SIDE"')} ${inner}`, 'write', 100_000);
    expect(report).toEqual({ before: 'running', status: 'killed', cause: 'output_limit' });
    expect(lives).toBe(true);
  });
});

describe('the stages of a stop, where this process is in the tree', () => {
  /** This process is in the session of a supervisor that is its ancestor; another process is, too. */
  async function around() {
    const victim = spawned('sleep', ['600'], { detached: true });
    const row = (pid: number, ppid: number): ProcessRow => ({
      pid,
      ppid,
      pgid: 4_194_400,
      session: 4_194_400,
      start: '1',
    });
    const rows = [
      row(4_194_400, 1),
      row(4_194_401, 4_194_400),
      row(process.pid, 4_194_401),
      row(victim.pid!, 4_194_401),
    ];
    let snapshot = new Snapshot(rows);
    const line = ['/bin/sh', '-c', 'script', 'holdfast', '/nowhere', 'a', '0022', 'true', ''].join('\0');
    const table: ProcessTable = {
      snapshot: () => Promise.resolve(snapshot),
      row: (pid) => snapshot.rows.get(pid),
      commandLine: (pid) => (pid === 4_194_400 ? { text: line, separator: '\0' } : undefined),
      commandLines: () => Promise.resolve(new Map()),
      printsTo: () => false,
      now: () => Number.NaN,
    };
    const work = new ProcessTree('a', { runDir: '/nowhere', outputPath: '/nowhere/output.log' }, table);
    work.pid = 4_194_400;
    const leave = () => {
      snapshot = new Snapshot(rows.slice(0, -1));
    };
    return { work, victim: victim.pid!, leave };
  }

  it('leave it and its ancestors out, one by one and as a group', async () => {
    for (const stage of [freeze, terminate, kill]) {
      const { work, victim } = await around();
      expect((await work.members()).map(({ pid }) => pid)).toEqual([victim]);
      expect(await work.isAroundUs()).toBe(true);
      await stage(work, systemClock);
      expect(await work.signalGroup('SIGKILL')).toBe(false);
      expect(await work.signalSupervisor('SIGKILL')).toBe(false);
      if (stage !== freeze) await until(() => !isAlive(victim));
    }
  });

  it('are over when only they are left, and are work all the same until a stop', async () => {
    const { work, leave } = await around();
    expect([await work.isGone(false), await work.isGone(true)]).toEqual([false, false]);
    leave();
    expect([await work.isGone(false), await work.isGone(true)]).toEqual([false, true]);
  });
});
