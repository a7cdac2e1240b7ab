import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { ReadOutputOptions } from '../../src/output/types.js';
import { defaultPayload, MAX_PAYLOAD_BYTES } from '../../src/webhook/payload.js';
import { taskRecord } from '../helpers/outbox.js';

/** The end of an output, as the log gives it: cut at characters. */
const output = (text: string) => async (options: ReadOutputOptions) => {
  const bytes = Buffer.from(text);
  let from = Math.max(0, bytes.length - (options as { tailBytes: number }).tailBytes);
  while (from < bytes.length && (bytes[from]! & 0xc0) === 0x80) from++;
  const size = bytes.length;
  return {
    text: bytes.subarray(from).toString(),
    offset: from,
    nextOffset: size,
    size,
    truncated: from > 0,
    path: '/output.log',
  };
};

const sizeOf = (value: unknown) => Buffer.byteLength(JSON.stringify(value));

it.each(['completed', 'failed', 'timed_out', 'killed', 'lost'] as const)('says task.%s', async (status) => {
  const { type, timestamp } = await defaultPayload(taskRecord({ status, endedAt: 1_790_000_000_001 }), output(''));
  expect(type).toBe(`task.${status}`);
  expect(Date.parse(timestamp)).toBe(1_790_000_000_001);
});

it('holds the whole task where it is small, and the end of the output', async () => {
  const task = { ...taskRecord(), result: { answer: 42 }, metadata: { sessionId: 's1' } };
  const payload = await defaultPayload(task, output(`${'x'.repeat(100_000)}the end`));
  expect(payload.data.task).toEqual(task);
  expect(payload.data.output).toMatch(/^x{5000,}the end$/);
  expect(payload.data.outputTruncated).toBe(true);
  expect(payload.data).not.toHaveProperty('omitted');
  expect(sizeOf(payload)).toBeLessThanOrEqual(MAX_PAYLOAD_BYTES);
  expect(sizeOf(payload)).toBeGreaterThan(MAX_PAYLOAD_BYTES - 100);
});

it('leaves the largest fields out, and says which; long texts are cut', async () => {
  const task = {
    ...taskRecord({ status: 'failed' }),
    description: 'd'.repeat(300_000),
    error: { name: 'Error', message: 'e'.repeat(8000), code: 'E' },
    result: 'r'.repeat(200_000),
    metadata: { large: 'm'.repeat(12_000) },
    details: { small: 'd'.repeat(3_000) },
  };
  const { data } = await defaultPayload(task, output('tail'));
  expect(data.omitted).toEqual(['result', 'metadata']);
  expect(data.task).not.toHaveProperty('result');
  expect(data.task.details).toEqual(task.details);
  expect(data.task.description).toMatch(/^d{1000,}…$/);
  expect(data.task.error).toMatchObject({ name: 'Error', code: 'E', message: expect.stringMatching(/^e{1000,}…$/) });
  expect(data.output).toBe('tail');
});

it('a time that is no date does not keep it from being sent', async () => {
  const { timestamp } = await defaultPayload({ ...taskRecord(), endedAt: 1e300 }, output(''));
  expect(timestamp).toBe('+275760-09-13T00:00:00.000Z');
});

it('is never too large, whatever the task and its output hold, and its tail is a tail', async () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 3_000, size: 'max' }),
    fc.constantFrom('\u001b[31m', '"', '\\', 'é', '😀', '\0').map((one) => one.repeat(9_000)),
  );
  const fields = fc.dictionary(fc.string({ minLength: 1, maxLength: 2_000, size: 'max' }), text, {
    maxKeys: 40,
    size: 'max',
  });
  await fc.assert(
    fc.asyncProperty(fields, fields, text, text, async (unknown, metadata, description, log) => {
      const task = { ...unknown, ...taskRecord(), metadata, description };
      const payload = await defaultPayload(task, output(log));
      expect(sizeOf(payload)).toBeLessThanOrEqual(MAX_PAYLOAD_BYTES);
      expect(log.endsWith(payload.data.output)).toBe(true);
      expect(payload.data.outputTruncated).toBe(payload.data.output.length < log.length);
      expect(payload.data.task.taskId).toBe(task.taskId);
    }),
    { numRuns: 100 },
  );
});
