import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { shareRuns } from '../../src/util/share-runs.js';

describe('shareRuns', () => {
  it('serves calls during a run by one more run, whatever becomes of the first', async () => {
    const runs: { resolve: () => void; reject: (error: Error) => void }[] = [];
    const call = shareRuns(() => new Promise<void>((resolve, reject) => runs.push({ resolve, reject })));
    const first = call();
    const second = call();
    const third = call();
    expect(runs).toHaveLength(1);
    expect(third).toBe(second);
    runs[0]!.reject(new Error('first'));
    await expect(first).rejects.toThrow('first');
    await Promise.resolve();
    expect(runs).toHaveLength(2);
    runs[1]!.resolve();
    await Promise.all([second, third]);
  });

  it('always serves a call by a run that began after it', async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), fc.integer({ min: 1, max: 12 }), async (scheduler, calls) => {
        let begun = 0;
        const call = shareRuns(async () => {
          begun++;
          await scheduler.schedule(Promise.resolve());
        });
        const made = Array.from({ length: calls }, async () => {
          await scheduler.schedule(Promise.resolve());
          const before = begun;
          await call();
          expect(begun).toBeGreaterThan(before);
        });
        await scheduler.waitFor(Promise.all(made));
        expect(begun).toBeLessThanOrEqual(calls);
      }),
    );
  });
});
