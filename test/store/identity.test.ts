import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  isOwnerIdentity,
  isProcessAlive,
  ownIdentity,
  processEntry,
  shareProcessTable,
} from '../../src/store/identity.js';
import { defer, eventually, identity } from '../helpers/store.js';

const onLinux = describe.skipIf(process.platform !== 'linux');

onLinux('the identity of this process', () => {
  it('is what the system says', () => {
    const own = ownIdentity();
    expect(own.bootId).toBe(readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim());
    expect(own.pidNamespace).toMatch(/^pid:\[\d+\]$/);
    expect(own.startTicks).toMatch(/^\d+$/);
    expect(isOwnerIdentity(own)).toBe(true);
    expect(isProcessAlive(own)).toBe(true);
    expect(shareProcessTable(own, ownIdentity())).toBe(true);
  });

  it('is another one after a restart, in a container, or on another boot', () => {
    const own = ownIdentity();
    expect(isProcessAlive({ ...own, startTicks: '0' })).toBe(false);
    expect(shareProcessTable(own, identity({ pidNamespace: 'pid:[1]' }))).toBe(false);
    expect(shareProcessTable(own, identity({ bootId: 'former' }))).toBe(false);
  });
});

onLinux('whether a process lives', () => {
  async function start(file: string, ...args: string[]) {
    const child = spawn(file, args, { stdio: 'ignore' });
    defer(() => child.kill('SIGKILL'));
    const { startTicks } = processEntry(child.pid!)!;
    return { child, recorded: { pid: child.pid!, startTicks } };
  }

  it('a stopped one does', async () => {
    const { child, recorded } = await start('sleep', '60');
    child.kill('SIGSTOP');
    await eventually('the stop', () => processEntry(recorded.pid)?.state === 'T');
    expect(isProcessAlive(recorded)).toBe(true);
    child.kill('SIGCONT');
  });

  it('a zombie does not', async () => {
    // The shell becomes a program that never collects its child.
    const { child } = await start('sh', '-c', 'sleep 0.01 & exec sleep 60');
    const zombie = () => childrenOf(child.pid!).find((pid) => processEntry(pid)?.state === 'Z');
    await eventually('a zombie', () => zombie() !== undefined);
    const entry = processEntry(zombie()!)!;
    expect(isProcessAlive({ pid: entry.pid, startTicks: entry.startTicks })).toBe(false);
  });

  it('is found whatever the command is called', async () => {
    const { child, recorded } = await start('bash', '-c', 'printf ") Z 1 (" > /proc/self/comm; sleep 60; :');
    await eventually('the name', () => readFileSync(`/proc/${child.pid}/comm`, 'utf8') === ') Z 1 (\n');
    expect(processEntry(child.pid!)).toMatchObject({ pid: child.pid, startTicks: recorded.startTicks });
    expect(isProcessAlive(recorded)).toBe(true);
  });

  function childrenOf(pid: number): number[] {
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return text.trim().split(' ').filter(Boolean).map(Number);
  }
});

describe('what is no identity', () => {
  it.each([null, 'x', {}, { ...identity(), pid: 0 }, { ...identity(), pid: '1' }, { ...identity(), bootId: 1 }])(
    '%j',
    (value) => {
      expect(isOwnerIdentity(value)).toBe(false);
    },
  );
});
