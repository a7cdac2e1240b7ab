// A real HTTP server on 127.0.0.1 that keeps what it receives.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';
import { PermanentDeliveryError } from '../../src/errors.js';
import type { Delivery, Hook } from '../../src/hooks/types.js';
import type { TaskRecord } from '../../src/task/record.js';
import { taskRecord } from './outbox.js';

export interface Received {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
  /** The name that a TLS client asked for; `false`: none. Absent without TLS. */
  readonly servername?: string | false;
}

export interface Receiver {
  readonly port: number;
  /** `http://127.0.0.1:<port>/hook`. */
  readonly url: string;
  readonly received: Received[];
  /** Connections that were made. */
  readonly connections: () => number;
}

type Reply = (response: ServerResponse, received: Received) => void;

/** Starts one that answers as `reply` does; it is gone after the test, with its connections. */
export async function receiver(
  reply: Reply = (response) => response.writeHead(204).end(),
  tls?: { key: string; cert: string },
): Promise<Receiver> {
  const received: Received[] = [];
  let connections = 0;
  const listener: RequestListener = async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    const { servername } = request.socket as { servername?: string | false };
    const sni = servername === undefined ? {} : { servername };
    const one = { method: request.method!, path: request.url!, headers: request.headers, body, ...sni };
    received.push(one);
    reply(response, one);
  };
  const server = tls ? createTlsServer(tls, listener) : createServer(listener);
  server.on('connection', () => connections++);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  });
  const { port } = server.address() as AddressInfo;
  return { port, url: `http${tls ? 's' : ''}://127.0.0.1:${port}/hook`, received, connections: () => connections };
}

/** What a hook came to: what it resolved with, or what it threw. */
export type Outcome =
  | { ok: true; value: unknown }
  | { ok: false; permanent: boolean; error: Error & Record<string, any> };

/** Calls a hook once, as the outbox would. */
export async function deliver(
  hook: Hook<any>,
  { task = taskRecord(), output = '', ...more }: Partial<Delivery> & { task?: TaskRecord; output?: string } = {},
): Promise<Outcome> {
  const size = Buffer.byteLength(output);
  const delivery: Delivery = {
    deliveryId: `${task.taskId}:hook`,
    attempt: 1,
    signal: new AbortController().signal,
    readOutput: async (options) => {
      const tail = Buffer.from(output).subarray(-((options as { tailBytes?: number }).tailBytes ?? size));
      return {
        text: tail.toString(),
        offset: size - tail.length,
        nextOffset: size,
        size,
        truncated: tail.length < size,
        path: '/output.log',
      };
    },
    ...more,
  };
  try {
    return { ok: true, value: await hook(task as never, delivery) };
  } catch (error) {
    return { ok: false, permanent: error instanceof PermanentDeliveryError, error: error as Error };
  }
}
