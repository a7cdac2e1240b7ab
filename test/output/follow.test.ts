import { appendFileSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { followFile } from '../../src/output/follow.js';
import { FakeClock } from '../helpers/clock.js';
import { tempDirectory, until } from '../helpers/wait.js';

/**
 * A follower, and the hands that move its world. The clock stands still: only the system's hints wake it, unless a test
 * moves it.
 */
function follow(options: { path?: string; offset?: number; signal?: AbortSignal } = {}) {
  const path = options.path ?? join(tempDirectory(), 'output.log');
  const clock = new FakeClock();
  let end!: () => void;
  let close!: (reason: unknown) => void;
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const closed = new Promise<never>((_, reject) => {
    close = reject;
  });
  const chunks = followFile({ ...options, path, clock, ended, closed });
  return { path, clock, end, close, chunks };
}

async function collect(chunks: AsyncIterable<string>): Promise<string> {
  let text = '';
  for await (const chunk of chunks) text += chunk;
  return text;
}

/** Resolves with the next chunk once the follower has read all there is and waits. */
async function untilWaiting(clock: FakeClock): Promise<void> {
  await until(() => clock.pendingTimers > 0, { message: 'the follower to wait' });
}

describe('followFile', () => {
  it('gives what is there, in chunks of at most 64 KiB, then ends with the task', async () => {
    const { path, chunks, end } = follow();
    writeFileSync(path, `${'a'.repeat(65_535)}€${'b'.repeat(70_000)}`);
    end();
    const sizes: number[] = [];
    for await (const chunk of chunks) sizes.push(Buffer.byteLength(chunk));
    expect(sizes).toEqual([65_535, 65_536, 4_467]);
  });

  it('starts at an offset, also at one that the file has not reached', async () => {
    const { path, clock, chunks, end } = follow({ offset: 4 });
    writeFileSync(path, 'ab');
    const all = collect(chunks);
    await untilWaiting(clock);
    appendFileSync(path, 'cdef');
    end();
    expect(await all).toBe('ef');
  });

  it('is woken by the file, without a timer', async () => {
    const { path, clock, chunks, end } = follow();
    writeFileSync(path, 'one ');
    expect(await chunks.next()).toEqual({ done: false, value: 'one ' });
    const next = chunks.next();
    await untilWaiting(clock);
    appendFileSync(path, 'two ');
    expect(await next).toEqual({ done: false, value: 'two ' });
    const last = chunks.next();
    await untilWaiting(clock);
    end();
    expect(await last).toEqual({ done: true, value: undefined });
    expect(clock.pendingTimers).toBe(0);
  });

  it('waits for a file, and for a folder, that does not exist yet', async () => {
    const path = join(tempDirectory(), 'function-1', 'output.log');
    const { clock, chunks, end } = follow({ path });
    const next = chunks.next();
    await untilWaiting(clock);
    mkdirSync(dirname(path));
    // The follower comes closer in its own time; whenever it looks, nothing is missed.
    await until(() => clock.pendingTimers > 0);
    writeFileSync(path, 'first');
    expect(await next).toEqual({ done: false, value: 'first' });
    const second = chunks.next();
    await untilWaiting(clock);
    appendFileSync(path, 'second');
    expect(await second).toEqual({ done: false, value: 'second' });
    end();
    expect(await collect(chunks)).toBe('');
  });

  it('looks again in time where the system gives no hint', async () => {
    const folder = tempDirectory();
    // Nothing of this exists, so that there is nothing to watch.
    const path = join(folder, 'a', 'b', 'c', 'output.log');
    const { clock, chunks, end } = follow({ path });
    const next = chunks.next();
    await untilWaiting(clock);
    mkdirSync(join(folder, 'prepared', 'c'), { recursive: true });
    writeFileSync(join(folder, 'prepared', 'c', 'output.log'), 'found');
    mkdirSync(join(folder, 'a'));
    renameSync(join(folder, 'prepared'), join(folder, 'a', 'b'));
    await clock.advance(1_000);
    expect(await next).toEqual({ done: false, value: 'found' });
    end();
    expect(await collect(chunks)).toBe('');
  });

  it('keeps an incomplete character until it is complete, or the task has ended', async () => {
    const { path, clock, chunks, end } = follow();
    writeFileSync(path, Buffer.from('61e282', 'hex'));
    expect((await chunks.next()).value).toBe('a');
    const next = chunks.next();
    await untilWaiting(clock);
    appendFileSync(path, Buffer.from('ace282', 'hex'));
    expect((await next).value).toBe('€');
    end();
    expect(await collect(chunks)).toBe('\ufffd');
  });

  it('gives the text of the whole file however the bytes come', async () => {
    const folder = tempDirectory();
    let run = 0;
    const part = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 4 }).map((text) => Buffer.from(text)),
      fc.uint8Array({ maxLength: 3 }).map((bytes) => Buffer.from(bytes)),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(part, fc.nat({ max: 3 })), { maxLength: 12 }), async (parts) => {
        const { path, chunks, end } = follow({ path: join(folder, `${run++}.log`) });
        const all = collect(chunks);
        const bytes = Buffer.concat(parts.map(([part]) => part));
        for (const [part, pause] of parts) {
          // In halves, so that characters are cut.
          appendFileSync(path, part.subarray(0, part.length / 2));
          for (let turn = 0; turn < pause; turn++) await setImmediate();
          appendFileSync(path, part.subarray(part.length / 2));
        }
        end();
        expect(await all).toBe(new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes));
      }),
      { numRuns: 50 },
    );
  });

  it('reads all that was written before the end', async () => {
    const { path, clock, chunks, end } = follow();
    writeFileSync(path, '');
    const all = collect(chunks);
    await untilWaiting(clock);
    appendFileSync(path, 'x'.repeat(200_000));
    end();
    expect(await all).toHaveLength(200_000);
  });

  it('ends where the file was removed', async () => {
    const { path, clock, chunks, end } = follow();
    writeFileSync(path, 'text');
    expect((await chunks.next()).value).toBe('text');
    const next = chunks.next();
    await untilWaiting(clock);
    rmSync(path);
    end();
    expect(await next).toEqual({ done: true, value: undefined });
  });

  it('rejects with the reason of its signal, before and during a wait', async () => {
    const reason = new Error('enough');
    await expect(follow({ signal: AbortSignal.abort(reason) }).chunks.next()).rejects.toBe(reason);
    const controller = new AbortController();
    const removed = vi.spyOn(controller.signal, 'removeEventListener');
    const { clock, chunks } = follow({ signal: controller.signal });
    const next = chunks.next();
    await untilWaiting(clock);
    controller.abort(reason);
    await expect(next).rejects.toBe(reason);
    expect(await chunks.next()).toEqual({ done: true, value: undefined });
    expect(removed).toHaveBeenCalledTimes(1);
    expect(clock.pendingTimers).toBe(0);
  });

  it('rejects when the manager closes', async () => {
    const reason = new Error('closed');
    const { clock, chunks, close } = follow();
    const next = chunks.next();
    await untilWaiting(clock);
    close(reason);
    await expect(next).rejects.toBe(reason);
    expect(clock.pendingTimers).toBe(0);
  });

  it('rejects when nobody can tell it of the end any more', async () => {
    const reason = new Error('no end');
    const never = new Promise<never>(() => undefined);
    const path = join(tempDirectory(), 'output.log');
    const chunks = followFile({ path, clock: new FakeClock(), ended: Promise.reject(reason), closed: never });
    await expect(chunks.next()).rejects.toBe(reason);
  });

  it('closes its watcher when the reader leaves early', async () => {
    const { path, clock, chunks } = follow();
    writeFileSync(path, 'one');
    for await (const chunk of chunks) {
      expect(chunk).toBe('one');
      break;
    }
    expect(await chunks.next()).toEqual({ done: true, value: undefined });
    const second = follow({ path });
    await second.chunks.next();
    const waiting = second.chunks.next();
    await untilWaiting(second.clock);
    const left = second.chunks.return();
    appendFileSync(path, ' more');
    expect((await waiting).value).toBe(' more');
    expect(await left).toEqual({ done: true, value: undefined });
    expect(clock.pendingTimers).toBe(0);
    // That no watcher is left is checked after every test.
  });

  it('opens nothing when nobody reads', async () => {
    const { path } = follow();
    await setImmediate();
    expect(readdirSync(dirname(path))).toEqual([]);
  });

  it('passes on that the output cannot be read', async () => {
    const { path, chunks } = follow();
    mkdirSync(path);
    await expect(chunks.next()).rejects.toMatchObject({ code: 'STORAGE_FAILED' });
  });
});
