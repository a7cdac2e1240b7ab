import { existsSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type Experiment, Lab, range } from './lab.js';
import { hasPassed, type RowResult, summary, table } from './report.js';

const experiment = (budget = 60_000): Experiment => ({
  row: 1,
  what: 'nothing',
  budgetMs: { quick: budget },
  run: async () => undefined,
});

describe('trials', () => {
  it('are counted, also side by side, with what they throw', async () => {
    const lab = new Lab(experiment(), 'quick', 1);
    const places = new Set<string>();
    await lab.trials(range(20), async (trial, item) => {
      places.add(trial.sandbox.path);
      await setImmediate();
      if (item === 7) throw new Error('on purpose');
      trial.check(item !== 9, 'nine');
      return item === 11 ? 10 : undefined;
    });
    expect(lab.trialCount).toBe(29);
    expect(lab.violationCount).toBe(2);
    expect(lab.messages.join()).toMatch(/trial 7: Error: on purpose.*trial 9: nine/s);
    expect(places.size).toBe(20);
    for (const place of places) expect(existsSync(place)).toBe(false);
  });

  it('have the same chances for the same seed', async () => {
    const drawn = async (seed: number) => {
      const lab = new Lab(experiment(), 'quick', seed);
      const numbers = new Map<number, number>();
      await lab.trials(range(5), async (trial) => void numbers.set(trial.index, trial.random.next()));
      return [...numbers].sort(([a], [b]) => a - b);
    };
    expect(await drawn(1)).toEqual(await drawn(1));
    expect(await drawn(1)).not.toEqual(await drawn(2));
  });

  it('are not begun once the time is up', async () => {
    const lab = new Lab(experiment(0), 'quick', 1);
    await setImmediate();
    await lab.trials(range(5), async () => undefined);
    expect(lab.trialCount).toBe(0);
  });

  it('and their later rounds, are not begun once the share of the whole lab is used up', async () => {
    const lab = new Lab(experiment(), 'quick', 1, 0);
    await setImmediate();
    expect([...lab.rounds(5)]).toEqual([0]);
    await lab.trials(range(5), async () => undefined);
    expect(lab.trialCount).toBe(0);
    expect([...new Lab(experiment(), 'quick', 1).rounds(3)]).toEqual([0, 1, 2]);
  });

  it('have their whole time after a rehearsal', async () => {
    const lab = new Lab(experiment(200), 'quick', 1);
    await lab.rehearse(async () => {
      while (!lab.timeIsUp) await setImmediate();
    });
    expect(lab.timeIsUp).toBe(false);
  });
});

describe('the report', () => {
  const row: RowResult = {
    row: 3,
    what: 'a loss',
    seed: 1,
    trials: 5,
    violations: 0,
    notes: ['a', 'b'],
    seconds: 1.25,
  };
  const skipped = { ...row, trials: 0, skipped: 'no strace' };

  it('passes a row with trials and without violations', () => {
    expect(hasPassed(row)).toBe(true);
    expect(hasPassed({ ...row, violations: 1 })).toBe(false);
    expect(hasPassed({ ...row, trials: 0 })).toBe(false);
    expect(hasPassed(skipped)).toBe(false);
  });

  it('counts on its last line, without what was skipped', () => {
    expect(summary([row, { ...row, violations: 2 }])).toBe('1 passed, 1 failed');
    expect(summary([row, skipped])).toBe('1 skipped\n1 passed, 0 failed');
    expect(table([row, skipped])).toMatch(
      /\| 3 +\| a loss +\| 5 +\| 0 +\| a; b .*\n\| 3 +\| a loss +\| skipped \| +\| no strace/,
    );
  });
});
