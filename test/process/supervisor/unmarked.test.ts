/*
 * Work that nothing marks, and whose supervisor is gone: what may be the task's is not called gone, and what is not
 * provably its is not signalled.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ProcessTask } from '../../../src/task/types.js';
import { isAlive, ProcessLab, spawned, stateOf, stopping } from '../../helpers/process.js';
import { until } from '../../helpers/wait.js';

const old = (task: ProcessTask): ProcessTask => ({ ...task, startedAt: 0 });
const numberIn = (path: string) => existsSync(path) && Number(readFileSync(path, 'utf8'));

/**
 * A task whose command has no mark and no supervisor any more, with the command's pid. `seen` is called while the
 * supervisor still lives.
 */
async function orphaned(lab: ProcessLab, redirect: string, seen: (task: ProcessTask) => unknown = () => undefined) {
  const file = join(lab.layout.directory, 'command');
  const script = `echo $$ >${file}; exec sleep 600 ${redirect}`;
  const task = await lab.visible(await lab.run(['env', '-i', '/bin/sh', '-c', script]));
  const pid = await until(() => numberIn(file));
  await until(() => readFileSync(`/proc/${pid}/cmdline`, 'latin1').startsWith('sleep'));
  await seen(task);
  process.kill(task.details.pid!, 'SIGKILL');
  await until(() => !isAlive(task.details.pid!));
  expect(lab.marked(task)).toEqual([]);
  return { task, pid };
}

describe('a command without a mark whose supervisor was killed', () => {
  const SILENT = '>/dev/null 2>&1';

  it.each(['', SILENT])('runs on for a host that saw the supervisor (%s), and is stopped', async (redirect) => {
    const lab = new ProcessLab();
    const next = new ProcessLab({ layout: lab.layout });
    const { task, pid } = await orphaned(lab, redirect, async (running) => {
      const ticks = () => Math.floor(Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0]) * 100);
      const begun = ticks();
      // Starts are counted in hundredths of a second.
      await until(() => ticks() > begun + 1);
      expect(await next.probe(running)).toEqual({ state: 'running' });
    });
    expect(await next.probe(task)).toEqual({ state: 'running' });
    await next.stop(stopping(old(task)), 'terminate');
    expect(await next.ended(stopping(task))).toEqual({ state: 'gone' });
    expect(isAlive(pid)).toBe(false);
  });

  it('runs on for a host that came later, and is stopped, since it prints to the output of the task', async () => {
    const lab = new ProcessLab();
    const { task, pid } = await orphaned(lab, '');
    const next = new ProcessLab({ layout: lab.layout });
    expect(await next.probe(task)).toEqual({ state: 'running' });
    await next.stop(stopping(old(task)), 'terminate');
    expect(await next.ended(stopping(task))).toEqual({ state: 'gone' });
    expect(isAlive(pid)).toBe(false);
  });

  it('runs on where nothing tells whose it is, is not signalled, and is gone once it is gone', async () => {
    const lab = new ProcessLab();
    const { task, pid } = await orphaned(lab, SILENT);
    const next = new ProcessLab({ layout: lab.layout });
    expect(await next.probe(task)).toEqual({ state: 'running' });
    for (const how of ['terminate', 'kill'] as const) await next.stop(stopping(old(task)), how);
    expect(await next.probe(stopping(task))).toEqual({ state: 'running' });
    expect(stateOf(pid)).toBe('S');
    process.kill(pid, 'SIGKILL');
    expect(await next.ended(task)).toEqual({ state: 'gone' });
  });

  it('is known by one of its session who is', async () => {
    const lab = new ProcessLab();
    const files = ['unmarked', 'marked'].map((name) => join(lab.layout.directory, name));
    const script = `env -i /bin/sh -c 'echo $$ >${files[0]}; exec sleep 600 ${SILENT}' & echo $$ >${files[1]}; exec sleep 601 ${SILENT}`;
    const task = await lab.visible(await lab.run(script));
    const [unmarked, marked] = [await until(() => numberIn(files[0]!)), await until(() => numberIn(files[1]!))];
    await until(() =>
      [unmarked, marked].every((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').startsWith('sleep')),
    );
    process.kill(task.details.pid!, 'SIGKILL');
    await until(() => !isAlive(task.details.pid!));
    const next = new ProcessLab({ layout: lab.layout });
    await next.stop(stopping(old(task)), 'terminate');
    expect(await next.ended(stopping(task))).toEqual({ state: 'gone' });
    expect([unmarked, marked].filter(isAlive)).toEqual([]);
  });
});

describe('a session of the number of a supervisor that is gone', () => {
  it('keeps the task alive while its leader is gone, and is a stranger while that lives', async () => {
    const lab = new ProcessLab();
    const files = ['leader', 'left'].map((name) => join(lab.layout.directory, name));
    const gate = join(lab.layout.directory, 'gate');
    const script = `sleep 600 & echo $! >${files[1]}; echo $$ >${files[0]}; until [ -e ${gate} ]; do sleep 0.02; done`;
    spawned('setsid', ['--fork', '/bin/sh', '-c', script]);
    const leader = await until(() => numberIn(files[0]!));
    const left = await until(() => numberIn(files[1]!));
    const task = lab.task({ pid: leader });
    writeFileSync(lab.layout.pidPath(task.taskId), `${leader}\n`);
    try {
      expect(await lab.probe(task)).toEqual({ state: 'gone' });
      expect(await lab.probe(stopping(task))).toEqual({ state: 'gone' });
      writeFileSync(gate, '');
      await until(() => !isAlive(leader));
      expect(await lab.probe(task)).toEqual({ state: 'running' });
      for (const how of ['terminate', 'kill'] as const) await lab.stop(stopping(old(task)), how);
      await until(() => stateOf(left) === 'S');
    } finally {
      process.kill(left, 'SIGKILL');
    }
    expect(await lab.ended(task)).toEqual({ state: 'gone' });
  });

  it('is never that of the first process, whatever a file says', async () => {
    const lab = new ProcessLab();
    for (const pid of [0, 1]) {
      const task = lab.task({ pid });
      writeFileSync(lab.layout.pidPath(task.taskId), `${pid}\n`);
      expect(await lab.probe(task)).toEqual({ state: 'gone' });
    }
  });
});
