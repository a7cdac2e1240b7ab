/* Webhooks through the whole manager: a real endpoint that counts, hosts that are killed, an endpoint that is down. */
import { Webhook } from 'standardwebhooks';
import { describe, expect, it } from 'vitest';
import { isTerminalStatus } from '../../src/index.js';
import { webhookHook } from '../../src/webhook/index.js';
import { type Host, startHost } from '../helpers/host.js';
import {
  type Endpoint,
  type Message,
  nothingPending,
  onDisk,
  seeded,
  startEndpoint,
  tally,
} from '../helpers/integration.js';
import { next, openManager, scratch } from '../helpers/manager.js';
import { until } from '../helpers/wait.js';

const secret = `whsec_${Buffer.alloc(24, 7).toString('base64')}`;
const fn = { kind: 'function', description: 'work', run: () => 'done' } as const;

describe('hosts killed with SIGKILL at random moments while 50 tasks settle', () => {
  const rounds = Number(process.env.HOLDFAST_WEBHOOK_KILLS ?? 12);
  const seed = Number(process.env.HOLDFAST_WEBHOOK_SEED ?? 4);
  /** So many hosts, one after the other, die in the same directory before the last one comes. */
  const KILLS_PER_DIRECTORY = 5;
  const TASKS = 50;

  const script = `
    const { webhookHook } = await import('holdfast/webhook');
    const { URL: url, ROUND: round, SECRET: secret } = process.env;
    const callback = { minDelayMs: 1, maxDelayMs: 20, maxAttempts: Infinity, deliver: webhookHook({ url, secret, allowPrivateNetworks: true }) };
    const manager = await BackgroundTaskManager.open({ directory, fsync: false, hooks: { callback } });
    say('open');
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    await Promise.all(Array.from({ length: ${TASKS} }, async (_, n) => {
      await pause(Math.random() * 100);
      const spec = n % 10 === 0
        ? { kind: 'process', command: 'exit 1' }
        : { kind: 'function', run: async () => { await pause(Math.random() * 100); return n; } };
      const { taskId } = await manager.registerTask({ ...spec, taskId: 'r' + round + '-t' + n, description: 'work' });
      say(taskId);
    }));
    await pause(60_000);`;

  it(
    'every delivery arrives at least once, after its outcome is on disk and never after its success is',
    async () => {
      const chance = seeded(seed);
      const violations: string[] = [];
      const figures = { killed: 0, tasks: 0, arrivedTwice: 0, arrivals: 0 };
      let directory = '';
      let arrived = new Map<string, number>();
      const endpoint = await startEndpoint(async ({ taskId, deliveryId }) => {
        const { status, hooks } = onDisk(directory, taskId);
        if (!isTerminalStatus(status)) violations.push(`${deliveryId} fired while ${status}`);
        if (hooks.callback?.state !== 'pending') violations.push(`${deliveryId} came when ${hooks.callback?.state}`);
        // Now and then it fails, and now and then it takes its time with an answer that somebody may not live to hear.
        if (chance() < 0.1) return 503;
        arrived.set(deliveryId, (arrived.get(deliveryId) ?? 0) + 1);
        if (chance() < 0.3) await new Promise((resolve) => setTimeout(resolve, chance() * 15));
        return 204;
      });
      for (let round = 0; round < rounds; ) {
        directory = await scratch();
        arrived = new Map();
        const registered = new Set<string>();
        const before = Math.min(rounds, round + KILLS_PER_DIRECTORY);
        for (; round < before; round++) {
          await killedHost(directory, endpoint, round, chance, registered);
          figures.killed++;
        }
        // The last reopen, by a host that lives.
        const manager = await openManager({ directory, hooks: { callback: callback(endpoint) } });
        await manager.waitForIdle();
        await nothingPending(manager);
        const tasks = manager.listTasks();
        for (const taskId of registered) expect(manager.getTask(taskId), `${taskId} was acknowledged`).toBeDefined();
        for (const { taskId, status } of tasks) {
          expect(isTerminalStatus(status)).toBe(true);
          expect(onDisk(directory, taskId).hooks.callback?.state, taskId).toBe('delivered');
          expect(arrived.get(`${taskId}:callback`) ?? 0, `arrivals of ${taskId}`).toBeGreaterThanOrEqual(1);
        }
        figures.tasks += tasks.length;
        for (const times of arrived.values()) {
          figures.arrivals += times;
          if (times > 1) figures.arrivedTwice++;
        }
        await manager.close();
      }
      expect(violations).toEqual([]);
      expect(figures.killed).toBe(rounds);
      // A success that is not on record yet keeps its place, and there are 8: no kill leaves more than that in doubt.
      expect(figures.arrivals - figures.tasks).toBeLessThanOrEqual(8 * rounds);
      const share = ((100 * figures.arrivedTwice) / figures.tasks).toFixed(2);
      process.stderr.write(
        `${figures.killed} kills (seed ${seed}): ${figures.tasks} deliveries, ${figures.arrivals} arrivals, ${figures.arrivedTwice} arrived more than once (${share} %)\n`,
      );
    },
    Math.max(120_000, rounds * 6_000),
  );

  function callback({ url }: Endpoint) {
    const deliver = webhookHook({ url, secret, allowPrivateNetworks: true });
    return { minDelayMs: 1, maxDelayMs: 20, maxAttempts: Infinity, deliver };
  }

  /** One in ten dies about when it opens the directory, the others when some of their tasks are registered and some have settled. */
  async function killedHost(
    directory: string,
    endpoint: Endpoint,
    round: number,
    chance: () => number,
    registered: Set<string>,
  ): Promise<void> {
    const host = startHost(script, directory, { URL: endpoint.url, ROUND: String(round), SECRET: secret });
    const dieAfter = chance() < 0.1 ? 0 : 1 + Math.floor(chance() * (TASKS + 1));
    for (let said = 0; said < dieAfter; said++) {
      const word = await host.next();
      if (word !== 'open') registered.add(word);
    }
    await new Promise((resolve) => setTimeout(resolve, chance() * (dieAfter === 0 ? 400 : 80)));
    host.child.kill('SIGKILL');
    // What it said last, it said before it died; unread, it would keep the host from being seen as ended.
    for (let word = await lastWord(host); word !== undefined; word = await lastWord(host)) {
      if (word !== 'open') registered.add(word);
    }
    expect(await host.ended, host.stderr()).toBe('SIGKILL');
    // What it had sent is dealt with before anybody else opens the directory.
    await endpoint.quiet();
  }

  function lastWord(host: Host): Promise<string | undefined> {
    return host.next().catch(() => undefined);
  }
});

describe('an endpoint that is down for good', () => {
  it('makes a dead letter, which is redelivered by hand once it is up', async () => {
    const directory = await scratch();
    // Nobody listens there; a port of our own could be somebody else's by the time it is asked again.
    let url = 'http://127.0.0.1:9/hook';
    const hooks = {
      callback: {
        minDelayMs: 1,
        maxDelayMs: 5,
        deliver: webhookHook({ resolveUrl: () => url, secret, allowPrivateNetworks: true }),
      },
    };
    let manager = await openManager({ directory, hooks });
    const retries: number[] = [];
    manager.on('hook:retrying', ({ attempt }) => void retries.push(attempt));
    const failed = next(manager, 'hook:failed', 't');
    await manager.registerTask({ ...fn, taskId: 't' });
    expect(await failed).toMatchObject({ hook: 'callback', attempt: 4, error: { code: 'ECONNREFUSED' } });
    expect(retries).toEqual([1, 2, 3]);
    const letter = {
      taskId: 't',
      hook: 'callback',
      deliveryId: 't:callback',
      state: 'failed',
      attempts: 4,
      lastError: { name: 'WebhookError', code: 'ECONNREFUSED', message: expect.stringContaining('127.0.0.1:9') },
    };
    expect(manager.listDeliveries({ state: 'failed', name: 'callback' })).toMatchObject([letter]);
    expect(await manager.pruneTasks()).toEqual([]);

    await manager.close();
    manager = await openManager({ directory, hooks });
    expect(manager.listDeliveries()).toMatchObject([letter]);

    const up = await startEndpoint(() => 200);
    url = up.url;
    const delivered = next(manager, 'hook:delivered', 't');
    expect(await manager.redeliver('t')).toMatchObject({ hooks: { callback: { state: 'pending', attempts: 0 } } });
    expect(await delivered).toMatchObject({ hook: 'callback', attempt: 1 });
    expect(up.received.map(({ deliveryId }) => deliveryId)).toEqual(['t:callback']);
    expect(onDisk(directory, 't').hooks.callback).toEqual({
      state: 'delivered',
      attempts: 1,
      deliveredAt: expect.any(Number),
    });
    expect(await manager.pruneTasks()).toEqual(['t']);
  });
});

describe('a webhook of the manager', () => {
  const verified = ({ headers, body }: Message) => new Webhook(secret).verify(body, headers as Record<string, string>);

  it('brings the task and the end of its output, signed, under the same id at every attempt', async () => {
    let calls = 0;
    const endpoint = await startEndpoint(() => (++calls < 3 ? 503 : 200));
    const deliver = webhookHook({ url: endpoint.url, secret, allowPrivateNetworks: true });
    const manager = await openManager({ hooks: { callback: { minDelayMs: 0, deliver } } });
    await manager.registerTask({
      kind: 'process',
      taskId: 'p',
      description: 'the work',
      command: 'echo the last word; exit 7',
      metadata: { session: 's1' },
    });
    await manager.waitForTask('p');
    await nothingPending(manager);
    expect(endpoint.received).toHaveLength(3);
    for (const message of endpoint.received) {
      expect(message.deliveryId).toBe('p:callback');
      expect(verified(message)).toMatchObject({
        type: 'task.failed',
        data: {
          task: { taskId: 'p', status: 'failed', details: { exitCode: 7 }, metadata: { session: 's1' } },
          output: 'the last word\n',
        },
      });
    }
    expect(manager.listDeliveries()).toMatchObject([{ state: 'delivered', attempts: 3 }]);
  });

  it('is given up at once where trying again is pointless, and skipped where there is nobody to tell', async () => {
    const endpoint = await startEndpoint(({ hook }) => (hook === 'moved' ? 301 : 404));
    const to = { url: endpoint.url, secret };
    const manager = await openManager({
      hooks: {
        gone: webhookHook({ ...to, allowPrivateNetworks: true }),
        moved: webhookHook({ ...to, allowPrivateNetworks: true }),
        private: webhookHook(to),
        nobody: webhookHook({ resolveUrl: () => undefined }),
      },
    });
    await manager.registerTask({ ...fn, taskId: 't' });
    await manager.waitForTask('t');
    await nothingPending(manager);
    expect(tally(manager)).toEqual({ failed: 3, skipped: 1 });
    const { hooks } = manager.getTask('t')!;
    expect(hooks).toMatchObject({
      gone: { state: 'failed', attempts: 1, lastError: { code: 'HTTP_404' } },
      moved: { state: 'failed', attempts: 1, lastError: { code: 'HTTP_301' } },
      private: { state: 'failed', attempts: 1, lastError: { name: 'PermanentDeliveryError' } },
      nobody: { state: 'skipped' },
    });
    expect(endpoint.received.map(({ hook }) => hook).sort()).toEqual(['gone', 'moved']);
  });

  it('leaves nothing secret on disk', async () => {
    const directory = await scratch();
    const endpoint = await startEndpoint(() => 500);
    const url = endpoint.url.replace('http://', 'http://user:pa55word@');
    const headers = () => ({ authorization: 'Bearer t0ken' });
    const deliver = webhookHook({ url, secret, headers, allowPrivateNetworks: true });
    const manager = await openManager({ directory, hooks: { callback: { minDelayMs: 0, maxAttempts: 2, deliver } } });
    await manager.registerTask({ ...fn, taskId: 't' });
    await until(() => manager.listDeliveries({ state: 'failed' }).length === 1);
    const text = JSON.stringify(onDisk(directory, 't'));
    for (const word of ['pa55word', 't0ken', secret, secret.slice(6)]) expect(text).not.toContain(word);
    expect(text).toContain('HTTP_500');
  });
});
