import { expect, it } from 'vitest';
import { Limiter } from '../../src/util/limiter.js';
import { deferred } from '../helpers/manager.js';

/** Jobs that end when told, and what has begun so far. */
function jobs(limiter: Limiter) {
  const begun: string[] = [];
  const ends = new Map<string, ReturnType<typeof deferred<string>>>();
  return {
    begun,
    run(name: string, lane?: 'new' | 'begun') {
      const end = deferred<string>();
      ends.set(name, end);
      return limiter.run(() => {
        begun.push(name);
        return end.promise;
      }, lane);
    },
    async end(name: string) {
      ends.get(name)!.resolve(name);
      await ends.get(name)!.promise;
      // The place is passed on once whoever awaits the job has heard of it.
      for (let turn = 0; turn < 10; turn++) await undefined;
    },
    fail: (name: string, error: Error) => ends.get(name)!.reject(error),
  };
}

it('runs so many at once, and the rest in the order of their calls', async () => {
  const { run, begun, end } = jobs(new Limiter(2));
  const all = ['a', 'b', 'c', 'd'].map((name) => run(name));
  expect(begun).toEqual(['a', 'b']);
  await end('b');
  expect(begun).toEqual(['a', 'b', 'c']);
  await end('c');
  await end('a');
  await end('d');
  expect(await Promise.all(all)).toEqual(['a', 'b', 'c', 'd']);
});

it('passes the place of a job that failed on, and its failure to its caller', async () => {
  const { run, begun, end, fail } = jobs(new Limiter(1));
  const failing = run('a');
  const next = run('b');
  fail('a', new Error('no'));
  await expect(failing).rejects.toThrow('no');
  await end('b');
  expect(await next).toBe('b');
  const last = run('c');
  expect(begun).toEqual(['a', 'b', 'c']);
  await end('c');
  await last;
});

it('lets the two lanes take turns, whichever is longer', async () => {
  const { run, begun, end } = jobs(new Limiter(1));
  const all = [run('first')];
  for (const name of ['n1', 'n2', 'n3']) all.push(run(name, 'new'));
  for (const name of ['b1', 'b2']) all.push(run(name));
  for (const name of ['first', 'b1', 'n1', 'b2', 'n2', 'n3']) {
    expect(begun.at(-1)).toBe(name);
    await end(name);
  }
  await Promise.all(all);
});
