// What it costs to wait: a queue that is long must not be walked for each task that joins it.
import { expect, it } from 'vitest';
import { Lifetime } from '../../src/lifecycle/lifetime.js';
import type { News } from '../../src/lifecycle/news.js';
import { Queue, type Queued } from '../../src/lifecycle/queue.js';
import { Slots } from '../../src/lifecycle/slots.js';

/** Slots that count how often one was asked for. */
class CountingSlots extends Slots {
  asked = 0;
  override tryTake(group: string | undefined, limit?: number) {
    this.asked++;
    return super.tryTake(group, limit);
  }
}

function setUp(limit: () => number) {
  const slots = new CountingSlots(limit, () => 1);
  const lifetime = new Lifetime((error) => {
    throw error;
  });
  const queue = new Queue(slots, lifetime, {} as News);
  queue.open();
  const begun: string[] = [];
  const wait = (taskId: string, seq: number, needsSlot = true) => {
    const begin = async () => {
      begun.push(taskId);
      return 'over' as const;
    };
    const task: Queued = { taskId, begin };
    queue.fill(queue.enter(undefined, seq, needsSlot), task, undefined);
  };
  return { slots, queue, begun, wait };
}

it('asks for no slot for those that wait while all are taken', () => {
  const { slots, queue, wait } = setUp(() => 1);
  slots.take(undefined);
  for (let n = 0; n < 1_000; n++) wait(`t${n}`, n);
  queue.drain();
  expect(slots.asked).toBe(0);
});

it('gives what is free to the oldest, and asks no further', () => {
  let limit = 0;
  const { slots, queue, begun, wait } = setUp(() => limit);
  for (let n = 0; n < 1_000; n++) wait(`t${n}`, n);
  limit = 3;
  queue.drain();
  expect(begun).toEqual(['t0', 't1', 't2']);
  expect(slots.asked).toBe(3);
});

it('lets one that needs no slot begin, however many wait before it', () => {
  const { slots, begun, wait } = setUp(() => 1);
  slots.take(undefined);
  wait('waits', 0);
  wait('needs none', 1, false);
  expect(begun).toEqual(['needs none']);
});
