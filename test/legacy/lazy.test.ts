// Hosts that never meet a record of another system do not pay for its schemas.
import { expect, it, vi } from 'vitest';
import { fixturesOf, shippedRecords } from '../helpers/legacy.js';

const built = vi.hoisted(() => ({ objects: 0 }));

vi.mock('zod', async (original) => {
  const real = await original<typeof import('zod')>();
  const object: typeof real.z.object = (...given) => {
    built.objects++;
    return real.z.object(...given);
  };
  return { ...real, z: { ...real.z, object } };
});

it('builds the schema of another system for its first record, and never again', async () => {
  await import('../../src/task/record.js');
  const before = built.objects;
  const { createParser } = await import('../../src/legacy/parser.js');
  const parse = createParser([]);
  for (const [, text] of shippedRecords(1)) parse(JSON.parse(text));
  expect(built.objects).toBe(before);

  const [foreign] = fixturesOf('kimi-current');
  parse(structuredClone(foreign?.value));
  const after = built.objects;
  expect(after).toBeGreaterThan(before);
  parse(structuredClone(foreign?.value));
  expect(built.objects).toBe(after);
});
