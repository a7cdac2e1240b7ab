import { request } from 'node:http';
import type { Socket } from 'node:net';

/** No more of an answer is read. */
const MAX_ANSWER_BYTES = 64 * 1024;

/** What counts of an answer. */
export interface Answer {
  readonly status: number;
  readonly retryAfter: string | undefined;
}

/**
 * Posts `body` over a connection of its own and reads the answer. Its status counts whatever becomes of its body: too long, cut off, or
 * still on its way when `signal` aborts. Redirects are answers like any other. Rejects when there is no answer. Destroys the socket.
 */
export async function post(
  socket: Socket,
  url: URL,
  headers: Readonly<Record<string, string>>,
  body: Buffer,
  signal: AbortSignal,
): Promise<Answer> {
  const abort = () => socket.destroy(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    if (signal.aborted) throw signal.reason;
    return await exchange(socket, url, headers, body);
  } finally {
    signal.removeEventListener('abort', abort);
    socket.destroy();
  }
}

function exchange(socket: Socket, url: URL, headers: Readonly<Record<string, string>>, body: Buffer): Promise<Answer> {
  return new Promise((resolve, reject) => {
    let answer: Answer | undefined;
    const outgoing = request({
      // Given as it is, without an agent: no pool could hand out a connection whose address was not checked.
      createConnection: () => socket,
      method: 'POST',
      path: url.pathname + url.search,
      headers: { ...headers, host: url.host, 'content-length': String(body.length) },
    });
    outgoing.on('response', (incoming) => {
      answer = { status: incoming.statusCode ?? 0, retryAfter: incoming.headers['retry-after'] };
      let bytes = 0;
      incoming.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_ANSWER_BYTES) socket.destroy();
      });
      incoming.on('error', () => undefined); // the status is known, and "close" follows
      incoming.on('close', () => resolve(answer as Answer));
    });
    outgoing.on('error', (error) => {
      if (!answer) reject(error);
    });
    outgoing.on('close', () => {
      if (!answer) reject(new Error('the connection was closed without an answer'));
    });
    outgoing.end(body);
  });
}
