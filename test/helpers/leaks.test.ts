import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, watch, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import lockfile from 'proper-lockfile';
import { afterAll, describe, expect, it } from 'vitest';
import { systemClock, type Timer } from '../../src/clock.js';
import { allowLeaks, withoutLeaks } from './leaks.js';
import { tempDirectory, until } from './wait.js';

/** Expects `work` to be caught leaking, then undoes it. */
async function caught(work: () => Promise<() => unknown>, message: RegExp): Promise<void> {
  let undo: (() => unknown) | undefined;
  const watched = withoutLeaks(async () => {
    undo = await work();
  }, 100);
  await expect(watched).rejects.toThrow(message);
  await undo?.();
}

describe('the leak detector', { concurrent: false }, () => {
  it('passes what was closed', async () => {
    const path = join(tempDirectory(), 'file');
    await withoutLeaks(async () => {
      const handle = await open(path, 'w');
      watch(path).close();
      systemClock.after(60_000, () => undefined).clear();
      const child = spawn('true', { stdio: 'pipe' });
      await once(child, 'exit');
      await handle.close();
    });
  });

  it('sees a timer that does not hold the process, and where it was made', () =>
    caught(async () => {
      const timer = systemClock.after(60_000, () => undefined);
      return () => timer.clear();
    }, /Timeout, created[\s\S]*src\/clock\.ts[\s\S]*leaks\.test\.ts/));

  it('sees a watcher that does not hold the process', () =>
    caught(async () => {
      const watcher = watch(tempDirectory(), { persistent: false });
      return () => watcher.close();
    }, /FSEVENTWRAP, created[\s\S]*leaks\.test\.ts/));

  it('sees a child that does not hold the process', () =>
    caught(async () => {
      const child: ChildProcess = spawn('sleep', ['60'], { stdio: 'ignore', detached: true });
      child.unref();
      return () => child.kill('SIGKILL');
    }, /PROCESSWRAP, created[\s\S]*leaks\.test\.ts/));

  it('sees a server and both ends of its connection', () =>
    caught(async () => {
      const path = join(tempDirectory(), 'socket');
      const accepted: Socket[] = [];
      const server: Server = createServer((socket) => accepted.push(socket));
      await once(server.listen(path), 'listening');
      const client = connect(path);
      await until(() => accepted.length > 0);
      return () => {
        server.close();
        for (const socket of [client, ...accepted]) socket.destroy();
      };
    }, /PIPESERVERWRAP[\s\S]*PIPEWRAP[\s\S]*PIPEWRAP/));

  it('sees an open file, by handle and by number', async () => {
    const path = join(tempDirectory(), 'file');
    writeFileSync(path, '');
    await caught(async () => {
      const handle: FileHandle = await open(path);
      return () => handle.close();
    }, /open file \d+, .*\/file, created[\s\S]*leaks\.test\.ts/);
    await caught(async () => {
      const fd = openSync(path, 'r');
      return () => closeSync(fd);
    }, /open file \d+, .*\/file, opened with a number/);
  });

  it('sees a lock by the timer that keeps it fresh', () =>
    caught(async () => lockfile.lock(tempDirectory()), /Timeout, created[\s\S]*proper-lockfile/));

  let kept: Timer | undefined;
  afterAll(() => kept?.clear());

  it('lets a test that says why end with something open', () => {
    allowLeaks('this is the test of it');
    kept = systemClock.after(60_000, () => undefined);
  });
});
