/*
 * What a host is told to do: a list of steps, made from a seed here and carried out by hosts/player.mjs. Steps of one lane follow each
 * other, lanes run side by side.
 */
import type { Random } from './random.js';

/** Longer than anybody waits: ends by a stop only. */
const ENDLESS_MS = 600_000;

export type Step = { readonly lane?: number } & (
  | {
      readonly do: 'process';
      readonly id: string;
      /** What it does, or its exit code and how long it takes. */
      readonly command?: string | readonly string[];
      readonly exit?: number;
      readonly ms?: number;
      readonly timeoutMs?: number;
      readonly hooks?: readonly string[];
    }
  | {
      readonly do: 'function';
      readonly id: string;
      readonly ms: number;
      readonly fails?: boolean;
      /** Bytes of its result. */
      readonly bytes?: number;
      readonly asks?: boolean;
      readonly hooks?: readonly string[];
    }
  | { readonly do: 'update'; readonly id: string; readonly key: string; readonly value: number }
  | { readonly do: 'stop'; readonly id: string }
  | { readonly do: 'wait'; readonly id: string }
  | { readonly do: 'answer'; readonly id: string; readonly value: string }
  | { readonly do: 'prune'; readonly keep: number }
  | { readonly do: 'reconcile' }
  | { readonly do: 'idle' }
  | { readonly do: 'pause'; readonly ms: number }
);

/** What hosts/player.mjs is given. */
export interface Play {
  readonly directory: string;
  /** One line for everything the host was told to be durable. */
  readonly acknowledged: string;
  /** One line from each piece of work, as it begins. */
  readonly launched: string;
  readonly steps: readonly Step[];
  /** More of the manager's options, as far as JSON can say them. */
  readonly options?: object;
  /** What happens after the last step. */
  readonly afterwards: 'close' | 'stay' | 'die';
}

/** Every call that writes, once; the same calls in the same order each time. */
export function script(): Step[] {
  return [
    { do: 'process', id: 'first', exit: 3, ms: 0, hooks: ['note'] },
    { do: 'function', id: 'returns', ms: 0, bytes: 100, hooks: ['note'] },
    { do: 'wait', id: 'returns' },
    { do: 'update', id: 'returns', key: 'after', value: 1 },
    { do: 'wait', id: 'first' },
    { do: 'function', id: 'large', ms: 0, bytes: 300_000, hooks: [] },
    { do: 'wait', id: 'large' },
    { do: 'function', id: 'asks', ms: 0, asks: true, hooks: ['inbox'] },
    { do: 'answer', id: 'asks', value: 'yes' },
    { do: 'wait', id: 'asks' },
    { do: 'process', id: 'sleeps', exit: 0, ms: ENDLESS_MS, hooks: [] },
    { do: 'update', id: 'sleeps', key: 'running', value: 2 },
    { do: 'stop', id: 'sleeps' },
    { do: 'prune', keep: 2 },
    { do: 'process', id: 'stays', exit: 7, ms: 30, hooks: ['note'] },
  ];
}

/** A random mixture over several lanes. `prefix` keeps the ids of one run from those of another. */
export function mixture(random: Random, prefix: string, length: number, lanes = 4): Step[] {
  const steps: Step[] = [];
  const made: string[][] = Array.from({ length: lanes }, () => []);
  for (let n = 0; n < length; n++) {
    const lane = random.int(0, lanes - 1);
    const id = `${prefix}-${n}`;
    const step =
      random.chance(0.5) || made[lane]!.length === 0
        ? beginning(random, id)
        : following(random, random.pick(made[lane]!), n);
    if (step.do === 'process' || step.do === 'function') made[lane]!.push(id);
    steps.push({ ...step, lane });
  }
  return steps;
}

function beginning(random: Random, id: string): Step {
  const hooks = random.pick([[], ['note'], ['note', 'inbox']]);
  const ms = random.pick([0, 0, 5, 20, 100]);
  if (random.chance(0.4)) {
    return {
      do: 'process',
      id,
      exit: random.pick([0, 0, 1, 3, 127]),
      ms,
      hooks,
      ...(random.chance(0.2) && { timeoutMs: 50 }),
    };
  }
  return { do: 'function', id, ms, fails: random.chance(0.2), bytes: random.int(0, 2_000), hooks };
}

function following(random: Random, id: string, n: number): Step {
  return random.pick<Step>([
    { do: 'update', id, key: `k${n}`, value: n },
    { do: 'update', id, key: `k${n}`, value: n },
    { do: 'wait', id },
    { do: 'stop', id },
    { do: 'pause', ms: random.int(0, 10) },
    { do: 'reconcile' },
  ]);
}
