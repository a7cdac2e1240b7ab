import { describe, expect, it } from 'vitest';
import { Random } from './random.js';

const draw = (random: Random, count: number) => Array.from({ length: count }, () => random.next());

describe('Random', () => {
  it('repeats itself for a seed, and only for that', () => {
    expect(draw(new Random(7), 50)).toEqual(draw(new Random(7), 50));
    expect(draw(new Random(7), 50)).not.toEqual(draw(new Random(8), 50));
  });

  it('gives a part numbers of its own, whatever was drawn before', () => {
    const [fresh, used] = [new Random(7), new Random(7)];
    draw(used, 10);
    expect(draw(used.fork('a'), 10)).toEqual(draw(fresh.fork('a'), 10));
    expect(draw(fresh.fork('a'), 10)).not.toEqual(draw(fresh.fork('b'), 10));
    expect(draw(fresh.fork(1), 10)).not.toEqual(draw(fresh.fork(11), 10));
  });

  it('stays within bounds and reaches both', () => {
    const random = new Random(1);
    const drawn = new Set(Array.from({ length: 500 }, () => random.int(-2, 2)));
    expect([...drawn].sort((a, b) => a - b)).toEqual([-2, -1, 0, 1, 2]);
    expect(draw(random, 1_000).every((value) => value >= 0 && value < 1)).toBe(true);
  });

  it('picks every element, and shuffles without losing one', () => {
    const random = new Random(3);
    const list = ['a', 'b', 'c', 'd'];
    expect(new Set(Array.from({ length: 200 }, () => random.pick(list)))).toEqual(new Set(list));
    expect(random.shuffle(list).sort()).toEqual(list);
    expect(() => random.pick([])).toThrow('expected something');
  });
});
