import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { tempDirectory } from '../helpers/wait.js';
import { type Call, Disk } from './replay.js';

const text = (words: string) => Buffer.from(words).toString('base64');

/** Calls as the shim would record them, each ended before the next begins. */
class Recorder {
  readonly disk = new Disk('/d');
  #id = 0;

  call(call: string, paths: string[], more: Partial<Call> = {}): void {
    const id = ++this.#id;
    this.disk.feed({ id, call, paths, ...more, phase: 'begin' });
    this.disk.feed({ id, call, paths, ...more, phase: 'end' });
  }

  write(path: string, file: number, words: string): void {
    this.call('open', [path], { file, flags: 'w' });
    this.call('write', [path], { file, data: text(words), position: 0 });
  }

  syncFolder(path: string, file: number): void {
    this.call('open', [path], { file, flags: 'r' });
    this.call('fsync', [path], { file });
  }

  /** What is left of `name` after the power was lost. */
  left(name: string, fate: 'as synced' | 'as written' = 'as synced'): string | undefined {
    const target = join(tempDirectory(), 'left');
    this.disk.restore(target, () => fate);
    return existsSync(join(target, name)) ? readFileSync(join(target, name), 'utf8') : undefined;
  }
}

describe('a disk that loses its power', () => {
  it('forgets a name until its folder was synced', () => {
    const recorder = new Recorder();
    recorder.write('/d/a', 1, 'words');
    recorder.call('fsync', ['/d/a'], { file: 1 });
    expect(recorder.left('a')).toBeUndefined();
    expect(recorder.left('a', 'as written')).toBe('words');
    recorder.syncFolder('/d', 2);
    expect(recorder.left('a')).toBe('words');
  });

  it('keeps the name and forgets the data where only the folder was synced', () => {
    const recorder = new Recorder();
    recorder.write('/d/a', 1, 'words');
    recorder.syncFolder('/d', 2);
    expect(recorder.left('a')).toBe('');
  });

  it('keeps the old file under a name until the rename is synced', () => {
    const recorder = new Recorder();
    for (const [file, words] of [
      [1, 'old'],
      [3, 'new'],
    ] as const) {
      recorder.write('/d/a.next', file, words);
      recorder.call('fsync', ['/d/a.next'], { file });
      recorder.call('rename', ['/d/a.next', '/d/a']);
      if (file === 1) recorder.syncFolder('/d', 2);
    }
    expect(recorder.left('a')).toBe('old');
    recorder.syncFolder('/d', 4);
    expect(recorder.left('a')).toBe('new');
    expect(recorder.left('a.next')).toBeUndefined();
  });

  it('is made sure by an fsync only of what was there when it began', () => {
    const recorder = new Recorder();
    recorder.write('/d/a', 1, 'early');
    recorder.syncFolder('/d', 2);
    const sync = { id: 100, call: 'fsync', paths: ['/d/a'], file: 1 } as const;
    recorder.disk.feed({ ...sync, phase: 'begin' });
    recorder.call('write', ['/d/a'], { file: 1, data: text(' and late') });
    recorder.disk.feed({ ...sync, phase: 'end' });
    expect(recorder.left('a')).toBe('early');
    expect(recorder.left('a', 'as written')).toBe('early and late');
  });

  it('does not count a call that never ended', () => {
    const recorder = new Recorder();
    recorder.disk.feed({ id: 1, call: 'mkdir', paths: ['/d/folder'], phase: 'begin' });
    recorder.syncFolder('/d', 2);
    expect(recorder.left('folder', 'as written')).toBeUndefined();
  });
});
