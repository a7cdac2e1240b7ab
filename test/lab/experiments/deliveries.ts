/* Row 14: hosts that deliver are killed again and again; a real HTTP endpoint counts what arrives. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { checkFiles, filesOf } from '../aftermath.js';
import { type Json, readAcknowledged, readDisk } from '../checker.js';
import { Host } from '../host.js';
import { killSometime } from '../killer.js';
import { type Experiment, range, type Trial } from '../lab.js';
import type { Random } from '../random.js';

const KILLS = 6;
const TASKS = 60;

export const deliveries: Experiment = {
  row: 14,
  what: 'hooks under SIGKILL: a delivery that never came, came before its outcome, or after its success was on record',
  async run(lab) {
    const twice = { delivered: 0, again: 0 };
    await lab.trials(range(lab.size({ quick: 6, full: 60 })), (trial) => deliverUnderKills(trial, twice));
    const share = twice.delivered === 0 ? 0 : (100 * twice.again) / twice.delivered;
    lab.note(
      `${share.toFixed(1)} % of ${twice.delivered} webhooks came twice, ${(twice.again / (lab.trialCount || 1)).toFixed(1)} a kill`,
    );
  },
};

async function deliverUnderKills(trial: Trial, twice: { delivered: number; again: number }): Promise<number> {
  await using endpoint = await Endpoint.listen(trial);
  let kills = 0;
  for (const generation of trial.lab.rounds(KILLS)) {
    await using host = deliverer(trial, endpoint, `g${generation}`, TASKS);
    await host.next();
    await killSometime(trial, host, 100_000);
    kills++;
    checkFiles(trial, `after kill ${generation}`);
  }
  {
    await using last = deliverer(trial, endpoint, 'last', 5);
    while (!(await last.next()).done);
  }
  checkFiles(trial, 'at the end');
  const { records } = readDisk(trial.directory);
  for (const [taskId, record] of records) trial.violations(taskId, undelivered(record, endpoint.arrived));
  const local = readAcknowledged(filesOf(trial).acknowledged).filter(({ event }) => event === 'hook:delivered').length;
  trial.check(local > 0, 'nothing was delivered');
  for (const arrivals of endpoint.arrived.values()) {
    twice.delivered++;
    if (arrivals > 1) twice.again++;
  }
  return kills;
}

function deliverer(trial: Trial, { url }: Endpoint, prefix: string, count: number): Host {
  const failures = range(97).map(() => trial.random.chance(0.3));
  return new Host({
    sandbox: trial.sandbox,
    script: 'deliverer.mjs',
    plan: { ...filesOf(trial), url, prefix, failures, count },
  });
}

function undelivered(record: Json, arrived: ReadonlyMap<string, number>): string[] {
  const states = Object.entries<Json>(record.hooks).map(([hook, { state }]) => `${hook} ${state}`);
  const problems = states.filter((state) => !state.endsWith(' delivered'));
  if (states.length !== 2) problems.push(`it owes ${states.length} deliveries`);
  if (!arrived.has(`${record.taskId}:web`)) problems.push('its webhook never arrived');
  return problems;
}

/** Refuses a third, and looks at the disk each time. */
class Endpoint implements AsyncDisposable {
  /** How often each delivery arrived and was taken. */
  readonly arrived = new Map<string, number>();
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async listen(trial: Trial): Promise<Endpoint> {
    const random: Random = trial.random.fork('endpoint');
    const server = createServer((request, response) => {
      const deliveryId = String(request.headers['webhook-id']);
      trial.violations(deliveryId, tooEarlyOrLate(trial.directory, deliveryId));
      const refused = random.chance(0.3);
      if (!refused) endpoint.arrived.set(deliveryId, (endpoint.arrived.get(deliveryId) ?? 0) + 1);
      request.resume().on('end', () => response.writeHead(refused ? 503 : 204).end());
    });
    const endpoint = new Endpoint(server);
    await once(server.listen(0, '127.0.0.1'), 'listening');
    return endpoint;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function tooEarlyOrLate(directory: string, deliveryId: string): string[] {
  const [taskId, hook] = deliveryId.split(':') as [string, string];
  const record: Json = JSON.parse(readFileSync(join(directory, `${taskId}.json`), 'utf8'));
  if (record.endedAt === null) return ['came before its outcome was on disk'];
  return record.hooks[hook].state === 'delivered' ? ['came again after its success was on disk'] : [];
}
