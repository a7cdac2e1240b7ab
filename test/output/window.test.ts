import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BackgroundTaskError } from '../../src/errors.js';
import type { OutputWindow, ReadOutputOptions } from '../../src/output/types.js';
import { readWindow } from '../../src/output/window.js';
import { tempDirectory } from '../helpers/wait.js';

function fileOf(content: string | Uint8Array): string {
  const path = join(tempDirectory(), 'output.log');
  writeFileSync(path, content);
  return path;
}

/** What a decoder of the whole makes of it; a byte order mark is output like any other. */
function decoded(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
}

/** Bytes that are mostly characters of all lengths and newlines, cut and broken here and there. */
const outputBytes = fc
  .array(
    fc.oneof(
      {
        weight: 4,
        arbitrary: fc
          .constantFrom('a', '\n', 'é', '€', '\ud7ff', '\ue000', '😀', '\u{10ffff}', '\ufeff', '\0')
          .map((text) => Buffer.from(text)),
      },
      { weight: 1, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 4 }).map((bytes) => Buffer.from(bytes)) },
      {
        weight: 1,
        arbitrary: fc
          .constantFrom('c3', 'e2', 'e282', 'f09f', 'f09f98', 'eda0', 'f490', 'c080', 'e080', 'f080')
          .map((hex) => Buffer.from(hex, 'hex')),
      },
    ),
    { maxLength: 40 },
  )
  .map((parts) => Buffer.concat(parts));

const empty: OutputWindow = { text: '', offset: 0, nextOffset: 0, size: 0, truncated: false, path: '' };

describe('readWindow', () => {
  it('gives the start of the file by default, at most 64 KiB of it', async () => {
    const path = fileOf(`${'x'.repeat(65_536)}rest`);
    const window = await readWindow(path);
    expect(window).toEqual({
      text: 'x'.repeat(65_536),
      offset: 0,
      nextOffset: 65_536,
      size: 65_540,
      truncated: true,
      path,
    });
    expect(await readWindow(path, { offset: window.nextOffset })).toMatchObject({
      text: 'rest',
      nextOffset: 65_540,
      truncated: true,
    });
    expect(await readWindow(path, { maxBytes: 65_540 })).toMatchObject({ nextOffset: 65_540, truncated: false });
  });

  it('is empty where there is no file, and where the offset is at or beyond the end', async () => {
    const nowhere = join(tempDirectory(), 'no', 'output.log');
    expect(await readWindow(nowhere, { offset: 7 })).toEqual({ ...empty, path: nowhere });
    const path = fileOf('abc');
    const atEnd = { ...empty, offset: 3, nextOffset: 3, size: 3, truncated: true, path };
    expect(await readWindow(path, { offset: 3 })).toEqual(atEnd);
    expect(await readWindow(path, { offset: 2 ** 40 })).toEqual(atEnd);
    expect(await readWindow(path, { tailBytes: 0 })).toEqual(atEnd);
    expect(await readWindow(path, { tailLines: 0 })).toEqual(atEnd);
    expect(await readWindow(`${path}/below`)).toEqual({ ...empty, path: `${path}/below` });
  });

  it('moves an offset within a character on, and an end within one back', async () => {
    const path = fileOf('a€b😀');
    expect(await readWindow(path, { offset: 2 })).toMatchObject({ text: 'b😀', offset: 4, nextOffset: 9 });
    expect(await readWindow(path, { offset: 1, maxBytes: 6 })).toMatchObject({ text: '€b', offset: 1, nextOffset: 5 });
    expect(await readWindow(path, { tailBytes: 3 })).toMatchObject({ text: '', offset: 9, nextOffset: 9 });
    expect(await readWindow(path, { tailBytes: 7 })).toMatchObject({ text: 'b😀', offset: 4 });
  });

  it('leaves an incomplete last character for later only where more may come', async () => {
    const path = fileOf(Buffer.from('61e282', 'hex'));
    expect(await readWindow(path, {}, { grows: true })).toMatchObject({
      text: 'a',
      nextOffset: 1,
      size: 3,
      truncated: true,
    });
    expect(await readWindow(path, { offset: 1 }, { grows: true })).toMatchObject({
      text: '',
      offset: 1,
      nextOffset: 1,
    });
    expect(await readWindow(path, { tailBytes: 1 }, { grows: true })).toMatchObject({
      text: '',
      offset: 1,
      nextOffset: 1,
    });
    expect(await readWindow(path, { tailLines: 1 }, { grows: true })).toMatchObject({
      text: 'a',
      offset: 0,
      nextOffset: 1,
    });
    expect(await readWindow(path)).toMatchObject({ text: 'a\ufffd', nextOffset: 3, truncated: false });
    appendFileSync(path, Buffer.from('ac', 'hex'));
    expect(await readWindow(path, { offset: 1 }, { grows: true })).toMatchObject({ text: '€', nextOffset: 4 });
    // What can never become a character waits for nothing.
    appendFileSync(path, Buffer.from('ff', 'hex'));
    expect(await readWindow(path, { offset: 4 }, { grows: true })).toMatchObject({ text: '\ufffd', nextOffset: 5 });
  });

  it('put together, windows are the text of the whole file, and none splits a character', async () => {
    const path = fileOf('');
    await fc.assert(
      fc.asyncProperty(
        outputBytes,
        fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 5 }),
        async (bytes, sizes) => {
          writeFileSync(path, bytes);
          let text = '';
          let offset = 0;
          for (let round = 0; offset < bytes.length; round++) {
            const maxBytes = sizes[round % sizes.length]!;
            const window = await readWindow(path, { offset, maxBytes });
            expect(window.offset).toBe(offset);
            expect(window.nextOffset).toBeGreaterThan(offset);
            expect(window.nextOffset - offset).toBeLessThanOrEqual(Math.max(maxBytes, 4));
            expect(window.text).toBe(decoded(bytes.subarray(offset, window.nextOffset)));
            text += window.text;
            offset = window.nextOffset;
          }
          expect(text).toBe(decoded(bytes));
        },
      ),
      { numRuns: 150 },
    );
  });

  it('from anywhere, gives a part of the text of the whole file', async () => {
    const path = fileOf('');
    await fc.assert(
      fc.asyncProperty(outputBytes, fc.nat({ max: 60 }), fc.boolean(), async (bytes, position, fromEnd) => {
        writeFileSync(path, bytes);
        const window = await readWindow(path, fromEnd ? { tailBytes: position } : { offset: position });
        const asked = fromEnd ? Math.max(0, bytes.length - position) : Math.min(position, bytes.length);
        expect(window.offset).toBeGreaterThanOrEqual(asked);
        expect(window.offset - asked).toBeLessThanOrEqual(3);
        expect(window).toMatchObject({ nextOffset: bytes.length, size: bytes.length, truncated: window.offset > 0 });
        expect(decoded(bytes.subarray(0, window.offset)) + window.text).toBe(decoded(bytes));
      }),
      { numRuns: 150 },
    );
  });

  it('gives the last lines as somebody who reads the whole file would', async () => {
    const path = fileOf('');
    await fc.assert(
      fc.asyncProperty(
        outputBytes,
        fc.nat({ max: 8 }),
        fc.option(fc.integer({ min: 4, max: 30 }), { nil: undefined }),
        async (bytes, tailLines, maxBytes) => {
          writeFileSync(path, bytes);
          const window = await readWindow(path, { tailLines, maxBytes });
          expect(window.nextOffset).toBe(bytes.length);
          const text = lastLines(decoded(bytes), tailLines);
          expect(text.endsWith(window.text)).toBe(true);
          if (maxBytes === undefined || Buffer.byteLength(text) <= maxBytes) expect(window.text).toBe(text);
          else expect(bytes.length - window.offset).toBeLessThanOrEqual(maxBytes);
        },
      ),
      { numRuns: 200 },
    );
  });

  it('finds lines behind many blocks of the file, and stops at maxBytes', async () => {
    const lines = Array.from({ length: 40_000 }, (_, index) => `line ${index}\n`);
    const path = fileOf(lines.join(''));
    const wanted = lines.slice(-20_000).join('');
    expect((await readWindow(path, { tailLines: 20_000, maxBytes: 1_000_000 })).text).toBe(wanted);
    expect((await readWindow(path, { tailLines: 20_000 })).text).toBe(wanted.slice(-65_536));
    expect(await readWindow(path, { tailLines: 1e9, maxBytes: 1e12 })).toMatchObject({
      text: lines.join(''),
      truncated: false,
    });
  });

  it('gives what was asked for beyond 64 KiB, decoded in slices, and never more than 64 MiB', async () => {
    const text = 'a€'.repeat(500_000);
    const path = fileOf(text);
    expect((await readWindow(path, { tailBytes: 2_000_000 })).text).toBe(text);
    truncateSync(path, 80 * 1024 * 1024);
    const tail = await readWindow(path, { tailBytes: 2 ** 40 });
    expect([tail.nextOffset - tail.offset, tail.nextOffset]).toEqual([64 * 1024 * 1024, 80 * 1024 * 1024]);
  });

  const wrong: [unknown, RegExp][] = [
    [{ offset: -1 }, /offset: expected a whole number of at least 0, got -1/],
    [{ offset: 1.5 }, /offset: .*got 1\.5/],
    [{ offset: Number.NaN }, /offset: .*got NaN/],
    [{ offset: '3' }, /offset: .*got a string \("3"\)/],
    [{ offset: null }, /offset: .*got null/],
    [{ maxBytes: 0 }, /maxBytes: expected a whole number of at least 1, or Infinity, got 0/],
    [{ maxBytes: Number.NaN }, /maxBytes: .*got NaN/],
    [{ tailBytes: -1 }, /tailBytes: .*got -1/],
    [{ tailLines: 0.1 }, /tailLines: .*got 0\.1/],
    [{ offset: 0, tailBytes: 1 }, /expected one of offset, tailBytes and tailLines, got offset and tailBytes/],
    [{ tailBytes: 1, tailLines: 1 }, /got tailBytes and tailLines/],
    [{ tailBytes: 9, maxBytes: 9 }, /without maxBytes/],
    [{ maxbytes: 9 }, /maxbytes: is unknown; did you mean maxBytes\?/],
    [null, /expected options such as \{ offset \}, got null/],
    [7, /expected options such as \{ offset \}, got a number \(7\)/],
    [[], /expected options such as \{ offset \}, got an array of 0/],
  ];
  it.each(wrong)('refuses %j', async (options, message) => {
    const refused = readWindow('/nowhere', options as ReadOutputOptions);
    await expect(refused).rejects.toThrow(message);
    await expect(refused).rejects.toMatchObject({ code: 'INVALID_SPEC' });
  });

  it('takes undefined for every option', async () => {
    const path = fileOf('abc');
    const options = {
      offset: undefined,
      maxBytes: undefined,
      tailBytes: undefined,
      tailLines: undefined,
    } as unknown as ReadOutputOptions;
    expect((await readWindow(path, options)).text).toBe('abc');
  });

  it('follows a link to a file, and neither waits for nor opens anything else', async () => {
    const folder = tempDirectory();
    writeFileSync(join(folder, 'real'), 'text');
    symlinkSync('real', join(folder, 'link'));
    expect((await readWindow(join(folder, 'link'))).text).toBe('text');
    execFileSync('mkfifo', [join(folder, 'fifo')]);
    mkdirSync(join(folder, 'folder'));
    symlinkSync('loop', join(folder, 'loop'));
    for (const name of ['fifo', 'folder', 'loop']) {
      const error = await readWindow(join(folder, name)).catch((thrown: unknown) => thrown);
      expect(error, name).toBeInstanceOf(BackgroundTaskError);
      expect(error).toMatchObject({ code: 'STORAGE_FAILED', cause: expect.any(Error) });
    }
  });
});

/** As it is said: the last n of the lines, where a newline at the very end begins none. */
function lastLines(text: string, count: number): string {
  const lines = text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
  return count === 0 ? '' : lines.slice(-count).join('');
}
