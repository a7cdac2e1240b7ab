/* What counts as the details of a process: our own records, and those of other systems. */
import { describe, expect, it } from 'vitest';
import { processDetails } from '../../src/task/process-details.js';
import { checkSchema } from '../../src/task/schema.js';

const ended = { command: ['npm', 'test'], cwd: '/repo', pid: 5151, exitCode: 0, signal: null };

describe('the details of a process', () => {
  it.each([
    ['as they are once it ended', ended],
    ['while it runs', { ...ended, exitCode: null }],
    ['with a command for the shell', { ...ended, command: 'npm test' }],
    ['of a legacy record', { command: 'npm test', cwd: null, pid: 0, exitCode: -1, signal: null }],
    ['with what a later version adds', { ...ended, rusage: { user: 1 } }],
  ])('%s fit', (_what, details) => {
    expect(checkSchema(processDetails, details)).toEqual({ ok: true, value: details });
  });

  it.each([
    ['no command', { ...ended, command: undefined }],
    ['a pid that is a text', { ...ended, pid: '5151' }],
    ['a number as signal', { ...ended, signal: 15 }],
    ['no folder at all', { ...ended, cwd: undefined }],
  ])('with %s do not', (_what, details) => {
    expect(checkSchema(processDetails, details)).toMatchObject({ ok: false });
  });
});
