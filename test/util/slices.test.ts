import fc from 'fast-check';
import { expect, it } from 'vitest';
import { systemClock } from '../../src/clock.js';
import { Slices, sortInSlices } from '../../src/util/slices.js';

it('sorts as a stable sort does, whatever the length', async () => {
  const item = fc.record({ key: fc.nat(20), id: fc.nat() });
  await fc.assert(
    fc.asyncProperty(fc.array(item, { maxLength: 2_000, size: 'max' }), async (items) => {
      const compare = (a: { key: number }, b: { key: number }) => a.key - b.key;
      expect(await sortInSlices(items, compare, new Slices(systemClock))).toEqual([...items].sort(compare));
    }),
    { numRuns: 50 },
  );
});

it('lets the event loop turn meanwhile', async () => {
  let turns = 0;
  const interval = setInterval(() => turns++, 1);
  const items = Array.from({ length: 200_000 }, (_, n) => (n * 7919) % 200_000);
  const sorted = await sortInSlices(items, (a, b) => a - b, new Slices(systemClock));
  clearInterval(interval);
  expect(sorted[100_000]).toBe(100_000);
  expect(turns).toBeGreaterThan(3);
});
