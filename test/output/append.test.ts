import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import fsPromises, { type FileHandle, open } from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import { dirname, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { BackgroundTaskError } from '../../src/errors.js';
import { OutputLog } from '../../src/output/append.js';
import { tempDirectory, until } from '../helpers/wait.js';

afterEach(() => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
});

/** In a folder that does not exist yet, as that of a task that has said nothing. */
function outputPath(): string {
  return join(tempDirectory(), 'function-1', 'output.log');
}

function isOpen(path: string): boolean {
  return readdirSync('/proc/self/fd').some((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false; // the one that listed the folder
    }
  });
}

/** The prototype of all file handles, for making writes short or fail. */
async function fileHandles(): Promise<FileHandle> {
  const handle = await open('/dev/null');
  await handle.close();
  return Object.getPrototypeOf(handle) as FileHandle;
}

describe('OutputLog', () => {
  it('makes folder and file when there is something to write, for the owner alone', async () => {
    const path = outputPath();
    const log = new OutputLog(path);
    await setImmediate();
    expect(existsSync(dirname(path))).toBe(false);
    await log.append('now');
    expect(readFileSync(path, 'utf8')).toBe('now');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(dirname(path)).mode & 0o777).toBe(0o700);
    await log.close();
  });

  it('adds to what is there', async () => {
    const path = join(tempDirectory(), 'output.log');
    writeFileSync(path, 'old ');
    const log = new OutputLog(path);
    await log.append(new TextEncoder().encode('é'));
    await log.append('');
    await log.append(' 😀');
    expect(readFileSync(path, 'utf8')).toBe('old é 😀');
    await log.close();
  });

  it('resolves once the bytes are in the file, in the order of the calls, whoever calls and awaits', async () => {
    const path = outputPath();
    const chunk = fc.oneof(fc.string({ unit: 'grapheme', maxLength: 5 }), fc.uint8Array({ maxLength: 5 }));
    const caller = fc.array(fc.record({ chunk, awaited: fc.boolean() }), { maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), fc.array(caller, { minLength: 1, maxLength: 5 }), async (scheduler, callers) => {
        mkdirSync(dirname(path), { recursive: true });
        writeFileSync(path, '');
        const log = new OutputLog(path);
        const called: Buffer[] = [];
        const runs = callers.map(async (appends) => {
          for (const { chunk, awaited } of appends) {
            await scheduler.schedule(Promise.resolve());
            called.push(Buffer.from(chunk as string));
            const expected = Buffer.concat(called);
            const appended = log.append(chunk).then(() => {
              expect(readFileSync(path).subarray(0, expected.length)).toEqual(expected);
            });
            if (awaited) await appended;
          }
        });
        await scheduler.waitFor(Promise.all(runs));
        await log.flush();
        expect(readFileSync(path)).toEqual(Buffer.concat(called));
        await log.close();
      }),
      { numRuns: 60 },
    );
  });

  it('writes all that waits at once', async () => {
    const writev = vi.spyOn(await fileHandles(), 'writev');
    const path = outputPath();
    const log = new OutputLog(path);
    const lines = Array.from({ length: 2_000 }, (_, index) => `${index}\n`);
    for (const line of lines) void log.append(line);
    await log.flush();
    expect(readFileSync(path, 'utf8')).toBe(lines.join(''));
    expect(writev.mock.calls.length).toBeLessThanOrEqual(2);
    await log.close();
  });

  it('goes on where a write was cut short', async () => {
    const prototype = await fileHandles();
    vi.spyOn(prototype, 'writev').mockImplementation(async function (this: FileHandle, buffers) {
      const [first] = buffers as Buffer[];
      const { bytesWritten } = await this.write(first!.subarray(0, 3));
      return { bytesWritten, buffers };
    });
    const path = outputPath();
    const log = new OutputLog(path);
    await Promise.all([log.append('abcdefgh'), log.append(''), log.append('ij'), log.append('klmn')]);
    expect(readFileSync(path, 'utf8')).toBe('abcdefghijklmn');
    await log.close();
  });

  it('tells those whose bytes did not get through when a write fails in the middle, and nobody else', async () => {
    const prototype = await fileHandles();
    let room = 5;
    vi.spyOn(prototype, 'writev').mockImplementation(async function (this: FileHandle, buffers) {
      if (room === 0) throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
      const { bytesWritten } = await this.write(Buffer.concat(buffers as Buffer[]).subarray(0, room));
      room -= bytesWritten;
      return { bytesWritten, buffers };
    });
    const path = outputPath();
    const log = new OutputLog(path);
    const outcomes = await Promise.allSettled([log.append('abc'), log.append('def'), log.append('ghi')]);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected']);
    room = 10;
    await log.append('jkl');
    expect(readFileSync(path, 'utf8')).toBe('abcdejkl');
    await log.close();
  });

  it('gives up on a write that writes nothing', async () => {
    vi.spyOn(await fileHandles(), 'writev').mockResolvedValue({ bytesWritten: 0, buffers: [] });
    const log = new OutputLog(outputPath());
    await expect(log.append('x')).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
    await log.close();
  });

  it('copies the bytes, which the caller may use again', async () => {
    const path = outputPath();
    const log = new OutputLog(path);
    const reused = Buffer.from('before');
    const appended = log.append(reused);
    reused.fill('!');
    await appended;
    expect(readFileSync(path, 'utf8')).toBe('before');
    await log.close();
  });

  it('refuses more than may wait, says so once, and goes on when there is room', async () => {
    const told: BackgroundTaskError[] = [];
    const path = outputPath();
    const log = new OutputLog(path, { maxPendingBytes: 2_000, onError: (error) => told.push(error) });
    // One that is larger than all that may wait is no pile.
    const large = log.append('a'.repeat(5_000));
    const refused = [log.append('b'), log.append('c')];
    for (const promise of refused) await expect(promise).rejects.toThrow(/more than 2000 bytes .* await each append/);
    await large;
    const many = await Promise.allSettled(Array.from({ length: 20 }, () => log.append('')));
    expect(many.filter(({ status }) => status === 'fulfilled')).toHaveLength(7);
    await log.append('d');
    expect(readFileSync(path, 'utf8')).toBe(`${'a'.repeat(5_000)}d`);
    expect(told.map(({ code }) => code)).toEqual(['STORAGE_FAILED']);
    await log.close();
  });

  it('bounds by default what callers who never await can pile up', async () => {
    const log = new OutputLog(outputPath());
    const chunk = Buffer.alloc(1024 * 1024);
    const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => log.append(chunk)));
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(15);
    await log.close();
  });

  it('a failure nobody awaits is no unhandled rejection, and is told once for each reason', async () => {
    const unhandled = vi.fn();
    process.on('unhandledRejection', unhandled);
    const told: BackgroundTaskError[] = [];
    const path = outputPath();
    const log = new OutputLog(path, { onError: (error) => told.push(error) });
    // Not /dev/full: the log makes its file private.
    vi.spyOn(await fileHandles(), 'writev').mockRejectedValue(Object.assign(new Error('full'), { code: 'ENOSPC' }));
    try {
      for (let round = 0; round < 3; round++) {
        void log.append('lost');
        await expect(log.flush()).rejects.toMatchObject({ code: 'STORAGE_FAILED', cause: { code: 'ENOSPC' } });
        await setImmediate();
      }
      await setImmediate();
      expect(unhandled).not.toHaveBeenCalled();
      expect(told).toHaveLength(1);
      expect(told[0]!.message).toContain(`cannot write to ${path}`);
    } finally {
      process.off('unhandledRejection', unhandled);
    }
    await log.close();
  });

  it('tries anew after a failure', async () => {
    const told: BackgroundTaskError[] = [];
    const path = outputPath();
    mkdirSync(path, { recursive: true });
    const log = new OutputLog(path, { onError: (error) => told.push(error) });
    await expect(log.append('lost')).rejects.toMatchObject({ cause: { code: 'EISDIR' } });
    rmdirSync(path);
    await log.append('kept');
    expect(readFileSync(path, 'utf8')).toBe('kept');
    expect(told).toHaveLength(1);
    await log.close();
  });

  it('does not bring back a directory that is gone, and follows no link', async () => {
    const folder = tempDirectory();
    const gone = new OutputLog(join(folder, 'gone', 'function-1', 'output.log'));
    await expect(gone.append('x')).rejects.toMatchObject({ code: 'STORAGE_FAILED', cause: { code: 'ENOENT' } });
    symlinkSync('elsewhere', join(folder, 'link'));
    const linked = new OutputLog(join(folder, 'link'));
    await expect(linked.append('x')).rejects.toMatchObject({ cause: { code: 'ELOOP' } });
    expect(readdirSync(folder)).toEqual(['link']);
    await Promise.all([gone.close(), linked.close()]);
  });

  it('holds the file open only while there is something to write', async () => {
    const path = outputPath();
    const log = new OutputLog(path);
    await log.append('a');
    expect(isOpen(path)).toBe(true);
    await until(() => !isOpen(path), { message: 'the file to be closed' });
    await log.append('b');
    expect(readFileSync(path, 'utf8')).toBe('ab');
    await until(() => !isOpen(path), { message: 'the file to be closed again' });
    await log.close();
  });

  it('says when the system refuses at the close of the file', async () => {
    const told: BackgroundTaskError[] = [];
    const realOpen = fsPromises.open;
    vi.spyOn(fsPromises, 'open').mockImplementation(async (...args) => {
      const handle = await realOpen(...args);
      const { close } = handle;
      handle.close = async () => {
        await close();
        throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });
      };
      return handle;
    });
    syncBuiltinESMExports();
    const log = new OutputLog(outputPath(), { onError: (error) => told.push(error) });
    await log.append('x');
    await log.close();
    expect(told).toMatchObject([{ code: 'STORAGE_FAILED', cause: { code: 'EIO' } }]);
  });

  it('close writes what waits, refuses what comes later, and may be called again', async () => {
    const path = outputPath();
    const log = new OutputLog(path);
    void log.append('last ');
    void log.append('words');
    const closed = log.close();
    await expect(log.append('late')).rejects.toThrow('the task has ended');
    await Promise.all([closed, log.close()]);
    expect(readFileSync(path, 'utf8')).toBe('last words');
    expect(isOpen(path)).toBe(false);
  });

  it.each([[7], [null], [{ length: 3 }], [new Uint16Array(2)]])('refuses %s', async (chunk) => {
    const log = new OutputLog('/nowhere');
    await expect(log.append(chunk as never)).rejects.toMatchObject({ code: 'INVALID_SPEC' });
    await log.close();
  });
});
