import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Places } from '../../src/hooks/places.js';
import { settle } from '../helpers/outbox.js';

it('never gives more places than there are, the oldest first, nobody twice, nobody who stopped waiting', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 4 }),
      fc.array(fc.record({ since: fc.integer({ min: 0, max: 9 }), gone: fc.boolean() }), { maxLength: 40 }),
      async (size, asking) => {
        const places = new Places(size);
        const entered: number[] = [];
        const inside: (() => void)[] = [];
        const stop = asking.map(({ since }, n) =>
          places.ask(since, (leave) => {
            entered.push(n);
            inside.push(leave);
          }),
        );
        for (const [n, { gone }] of asking.entries()) if (gone) stop[n]!();
        await settle(1);
        expect(entered).toEqual([]);
        places.open();
        for (;;) {
          await settle(1);
          expect(inside.length).toBeLessThanOrEqual(size);
          const leave = inside.shift();
          if (!leave) break;
          leave();
          leave(); // twice frees one place
        }
        const expected = [...asking.entries()]
          .filter(([, { gone }]) => !gone)
          .sort(([n, a], [m, b]) => a.since - b.since || n - m);
        expect(entered).toEqual(expected.map(([n]) => n));
      },
    ),
  );
});

it('nobody enters after close', async () => {
  const places = new Places(1);
  let entered = 0;
  places.open();
  places.ask(1, () => entered++);
  places.close();
  places.ask(2, () => entered++)();
  places.open();
  await settle(1);
  expect(entered).toBe(0);
});
