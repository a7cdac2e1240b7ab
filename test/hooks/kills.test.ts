// The host is killed at random moments while tasks settle and a real endpoint counts. HOLDFAST_KILLS sets how often; seeded by the round.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { webhookHook } from '../../src/webhook/index.js';
import { openManager, scratch } from '../helpers/manager.js';
import { receiver } from '../helpers/receiver.js';
import { until } from '../helpers/wait.js';

const kills = Number(process.env.HOLDFAST_KILLS ?? 8);
const LONGEST_LIFE_MS = 400;
const script = fileURLToPath(new URL('./host.ts', import.meta.url));

it(`${kills} kills: every delivery arrives, and none after its success was recorded`, {
  timeout: 60_000 + kills * 10_000,
}, async () => {
  const directory = await scratch();
  /** Which hosts sent each. They say so themselves: what a host sent may be read after its death. */
  const arrivals = new Map<string, number[]>();
  const recordedBy = new Map<string, number>();
  const registered = new Set<string>();
  let host = 0;
  const { url } = await receiver((response, { headers, path }) => {
    const id = String(headers['webhook-id']);
    arrivals.set(id, [...(arrivals.get(id) ?? []), Number(path.split('?')[1])]);
    response.writeHead(204).end();
  });

  for (; host < kills; host++) {
    const child = spawn(process.execPath, ['--import', 'tsx', script, directory, `${url}?${host}`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    const ended = once(child, 'close');
    let isCounted = false;
    for await (const line of createInterface({ input: child.stdout })) {
      const [what, id = ''] = line.split(' ');
      if (what === 'registered') {
        registered.add(id);
        // Counted from its first task, however slow the machine is. A wild multiplier, so that the moments are spread and the same in every run.
        if (!isCounted) setTimeout(() => child.kill('SIGKILL'), (host * 2_654_435_761) % LONGEST_LIFE_MS);
        isCounted = true;
      } else if (what === 'open') continue;
      else if (!recordedBy.has(id)) recordedBy.set(id, host);
    }
    await ended;
    expect(child.signalCode).toBe('SIGKILL');
  }

  const last = webhookHook({ url: `${url}?${kills}`, allowPrivateNetworks: true });
  const manager = await openManager({ directory, hooks: { hook: last } });
  await until(() => manager.listDeliveries({ state: 'pending' }).length === 0);
  const deliveries = manager.listDeliveries();
  expect(deliveries.filter(({ state }) => state !== 'delivered')).toEqual([]);
  const ids = deliveries.map(({ deliveryId }) => deliveryId);
  expect([...registered].filter((taskId) => !ids.includes(`${taskId}:hook`))).toEqual([]);
  expect(ids.filter((id) => !arrivals.has(id))).toEqual([]);
  const late = [...recordedBy].filter(([id, by]) => arrivals.get(id)!.some((at) => at > by));
  expect(late).toEqual([]);
  const twiceInOneHost = [...arrivals].filter(([, hosts]) => new Set(hosts).size < hosts.length);
  expect(twiceInOneHost).toEqual([]);
  const twice = [...arrivals.values()].filter((hosts) => hosts.length > 1).length;
  process.stderr.write(
    `${ids.length} deliveries over ${kills} kills; ${twice} arrived twice (${((100 * twice) / ids.length).toFixed(2)} %)\n`,
  );
  expect(ids.length).toBeGreaterThan(0);
});
