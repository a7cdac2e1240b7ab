/* What tests of the whole manager share: seeded chance, records as they are on disk, and a real endpoint for webhooks. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { BackgroundTaskManager } from '../../src/index.js';
import type { Awaitable, HookState, OwedDelivery, TaskStatus } from '../../src/task/types.js';
import { until } from './wait.js';

/** Numbers from 0 up to 1, the same ones for the same seed. */
export function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A record as a reader of the file sees it. */
export interface StoredRecord {
  readonly taskId: string;
  readonly status: TaskStatus;
  readonly hooks: Readonly<Record<string, OwedDelivery>>;
  readonly [field: string]: unknown;
}

/** What is on disk at this moment. Throws where the record is not there or not whole. */
export function onDisk(directory: string, taskId: string): StoredRecord {
  return JSON.parse(readFileSync(join(directory, `${taskId}.json`), 'utf8'));
}

/** A record of our own, as an earlier host may have left it. */
export function leftRecord(taskId: string, fields: object = {}): StoredRecord {
  const at = 1_790_000_000_000;
  return {
    schemaVersion: 1,
    taskId,
    kind: 'function',
    description: `the task ${taskId}`,
    status: 'completed',
    detached: true,
    createdAt: at,
    startedAt: at,
    endedAt: at + 5,
    attempt: 1,
    owner: null,
    details: {},
    metadata: {},
    hooks: {},
    ...fields,
  } as StoredRecord;
}

export async function leave(directory: string, record: StoredRecord): Promise<void> {
  await writeFile(join(directory, `${record.taskId}.json`), JSON.stringify(record));
}

/** Resolves once no delivery is owed any more to a hook that is called. */
export async function nothingPending(manager: BackgroundTaskManager<any>, timeoutMs = 30_000): Promise<void> {
  const pending = () => manager.listDeliveries({ state: 'pending' });
  await until(() => pending().length === 0, { timeoutMs, message: () => `${pending().length} deliveries` });
}

/** How many deliveries there are in each state: to one hook, or to all. */
export function tally(manager: BackgroundTaskManager<any>, name?: string): Partial<Record<HookState, number>> {
  const counts: Partial<Record<HookState, number>> = {};
  for (const { state } of manager.listDeliveries({ name })) counts[state] = (counts[state] ?? 0) + 1;
  return counts;
}

/** A message that an endpoint received. */
export interface Message {
  readonly deliveryId: string;
  readonly taskId: string;
  readonly hook: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface Endpoint {
  readonly url: string;
  readonly port: number;
  readonly received: readonly Message[];
  /** Resolves once everything that was sent has been dealt with. */
  quiet(): Promise<void>;
  close(): Promise<void>;
}

/** A real HTTP server. `answer` gives the status for each message that arrived whole. Closed after the test. */
export async function startEndpoint(answer: (message: Message) => Awaitable<number>, port = 0): Promise<Endpoint> {
  const received: Message[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('error', () => undefined); // a client that was killed half-way
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', async () => {
      const deliveryId = String(request.headers['webhook-id']);
      const [taskId = '', hook = ''] = deliveryId.split(':');
      const message = {
        deliveryId,
        taskId,
        hook,
        headers: request.headers,
        body: Buffer.concat(chunks).toString(),
      };
      received.push(message);
      response.writeHead(await answer(message)).end();
    });
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const connections = () =>
    new Promise<number>((resolve, reject) => server.getConnections((error, n) => (error ? reject(error) : resolve(n))));
  const close = async () => {
    if (!server.listening) return;
    const closed = once(server, 'close');
    server.close();
    server.closeAllConnections();
    await closed;
  };
  onTestFinished(close);
  const { port: bound } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${bound}/hook`,
    port: bound,
    received,
    quiet: async () => void (await until(async () => (await connections()) === 0, { message: 'open connections' })),
    close,
  };
}
