/*
 * Any order of successes, failures, hangs, refused writes, withdrawals, redeliveries, closings and kills. The hook is the environment: the
 * script decides when and how each call of it ends.
 */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { PermanentDeliveryError } from '../../src/errors.js';
import { Outbox } from '../../src/hooks/outbox.js';
import type { Delivery } from '../../src/hooks/types.js';
import { FakeClock } from '../helpers/clock.js';
import { type Disk, diskError, MemoryPort, settle } from '../helpers/outbox.js';

const MAX_ATTEMPTS = 3;
const TIMEOUT_MS = 5_000;

type Step =
  | { do: 'settle task' | 'refuse writes' | 'accept writes' | 'kill' }
  | { do: 'succeed' | 'fail' | 'fail for good' | 'skip' | 'redeliver' | 'offer again'; which: number }
  | { do: 'wait' | 'close'; ms: number };

const which = fc.nat({ max: 30 });
const simple = (...names: ('settle task' | 'refuse writes' | 'accept writes' | 'kill')[]) =>
  fc.constantFrom(...names).map((name): Step => ({ do: name }));
const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: simple('settle task') },
    { weight: 2, arbitrary: simple('refuse writes', 'accept writes', 'accept writes', 'kill') },
    {
      weight: 12,
      arbitrary: fc.record({
        do: fc.constantFrom('succeed', 'fail', 'fail', 'fail for good', 'skip', 'redeliver', 'offer again'),
        which,
      }) as fc.Arbitrary<Step>,
    },
    { weight: 6, arbitrary: fc.nat({ max: 8_000 }).map((ms): Step => ({ do: 'wait', ms })) },
    { weight: 1, arbitrary: fc.nat({ max: 4_000 }).map((ms): Step => ({ do: 'close', ms })) },
  ),
  { maxLength: 80, size: 'max' },
);

interface Call {
  readonly id: string;
  /** Aborted: it was abandoned, and how it ends must change nothing. */
  readonly signal: AbortSignal;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** One host: a clock, a port and an outbox over the disk that all hosts share. */
class World {
  readonly disk: Disk = new Map();
  /** Deliveries whose set of attempts saw a success in this host: calling again would be a broken promise. */
  readonly succeededHere = new Set<string>();
  readonly everSucceeded = new Set<string>();
  readonly failedForGood = new Set<string>();
  readonly violations: string[] = [];
  calls: Call[] = [];
  tasks = 0;
  helpful = false;
  clock = new FakeClock();
  port!: MemoryPort;
  outbox!: Outbox;

  constructor() {
    this.open();
  }

  open(): void {
    this.clock = new FakeClock(this.clock.now());
    this.calls = [];
    this.succeededHere.clear();
    const port = new MemoryPort(this.clock, this.disk);
    this.port = port;
    this.outbox = new Outbox(port, {
      hook: {
        deliver: (task, delivery) => this.called(port, task.taskId, delivery),
        maxAttempts: MAX_ATTEMPTS,
        timeoutMs: TIMEOUT_MS,
      },
    });
    for (const record of this.disk.values()) this.outbox.offer(record);
    this.outbox.start();
  }

  called(port: MemoryPort, id: string, { attempt, signal }: Delivery): Promise<void> | void {
    if (port.dead) return new Promise(() => undefined); // a dead host calls nobody
    // What is thrown here would only be a failed attempt.
    const owed = this.port.owed(id)!;
    if (owed.state !== 'pending') this.violations.push(`${id} called though it is ${owed.state}`);
    if (attempt !== owed.attempts + 1) this.violations.push(`${id} called as ${attempt} after ${owed.attempts}`);
    if (attempt > MAX_ATTEMPTS) this.violations.push(`${id} called for the ${attempt}th time`);
    if (this.succeededHere.has(id)) this.violations.push(`${id} called again after its success`);
    const underWay = this.calls.filter((call) => !call.signal.aborted);
    if (underWay.some((call) => call.id === id)) this.violations.push(`${id} called twice at once`);
    if (underWay.length >= 8) this.violations.push('more than 8 at once');
    if (this.helpful) return this.succeeded(id);
    return new Promise((resolve, reject) => {
      this.calls.push({ id, signal, resolve, reject });
    });
  }

  succeeded(id: string): void {
    this.succeededHere.add(id);
    this.everSucceeded.add(id);
  }

  end(index: number, how: 'succeed' | 'fail' | 'fail for good'): void {
    const call = this.calls[index % this.calls.length];
    if (!call) return;
    this.calls.splice(this.calls.indexOf(call), 1);
    const abandoned = call.signal.aborted;
    if (how === 'succeed') {
      if (!abandoned) this.succeeded(call.id);
      call.resolve();
    } else if (how === 'fail') call.reject(new TypeError('not now'));
    else {
      if (!abandoned) this.failedForGood.add(call.id);
      call.reject(new PermanentDeliveryError('never'));
    }
  }

  taskId(index: number): string | undefined {
    return this.tasks === 0 ? undefined : `t-${index % this.tasks}`;
  }

  async step(step: Step): Promise<void> {
    switch (step.do) {
      case 'settle task':
        this.outbox.offer(this.port.add({ taskId: `t-${this.tasks++}`, endedAt: this.clock.now() }));
        break;
      case 'refuse writes':
        this.port.refuse = () => diskError();
        break;
      case 'accept writes':
        this.port.refuse = () => undefined;
        break;
      case 'kill':
        this.port.dead = true;
        this.open();
        break;
      case 'close': {
        const closing = this.outbox.close(step.ms);
        await this.clock.advance(step.ms);
        await closing;
        expect(this.clock.pendingTimers).toBe(0);
        this.port.dead = true;
        this.open();
        break;
      }
      case 'wait':
        await this.clock.advance(step.ms);
        break;
      case 'skip':
      case 'redeliver':
      case 'offer again':
        await this.request(step.do, this.taskId(step.which));
        break;
      default:
        this.end(step.which, step.do);
    }
    await settle();
    this.check();
  }

  async request(what: 'skip' | 'redeliver' | 'offer again', id: string | undefined): Promise<void> {
    if (id === undefined) return;
    if (what === 'offer again') return this.outbox.offer(this.port.get(id)!);
    const failed = this.port.owed(id)?.state === 'failed';
    try {
      await (what === 'skip' ? this.outbox.skip(id, 'hook') : this.outbox.redeliver(id));
    } catch (error) {
      expect(error).toMatchObject({ code: 'STORAGE_FAILED' });
      return;
    }
    if (what === 'redeliver' && failed) this.failedForGood.delete(id);
  }

  check(): void {
    expect(this.violations).toEqual([]);
    for (const [id, { hooks }] of this.disk) {
      const { state, attempts } = hooks.hook!;
      expect(attempts).toBeLessThanOrEqual(MAX_ATTEMPTS);
      if (state === 'delivered') expect(this.everSucceeded.has(id)).toBe(true);
      if (state === 'failed') expect(attempts === MAX_ATTEMPTS || this.failedForGood.has(id)).toBe(true);
    }
    for (const { event, task, hook } of this.port.events) {
      if (event !== 'hook:delivered') continue;
      expect(this.disk.get(task.taskId)?.hooks[hook]?.state).toBe('delivered');
    }
    const delivered = this.port.events.filter(({ event }) => event === 'hook:delivered').map(({ task }) => task.taskId);
    expect(new Set(delivered).size).toBe(delivered.length);
  }
}

it('nothing is forgotten, nothing is called again after its success was recorded, no set has more attempts than allowed', async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (script) => {
      const world = new World();
      for (const step of script) await world.step(step);
      // The weather clears: everything that is still owed arrives, in this host or, after a kill, in the next.
      world.helpful = true;
      world.port.refuse = () => undefined;
      for (const call of [...world.calls]) world.end(world.calls.indexOf(call), 'succeed');
      await world.clock.advance(120_000);
      world.check();
      for (const [id, { hooks }] of world.disk) expect(`${id} ${hooks.hook!.state}`).not.toContain('pending');
      expect(world.clock.pendingTimers).toBe(0);
      await world.outbox.close(0);
    }),
    { numRuns: 300 },
  );
});
