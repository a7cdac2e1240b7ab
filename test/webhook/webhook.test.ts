import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { Webhook } from 'standardwebhooks';
import { describe, expect, it, onTestFinished } from 'vitest';
import { SKIPPED } from '../../src/hooks/skipped.js';
import type { Resolver } from '../../src/webhook/connect.js';
import { createWebhook, parseRetryAfter } from '../../src/webhook/hook.js';
import { type WebhookOptions, webhookHook } from '../../src/webhook/index.js';
import { parseWebhookOptions } from '../../src/webhook/options.js';
import { FakeClock } from '../helpers/clock.js';
import { deferred } from '../helpers/manager.js';
import { openOutbox, taskRecord } from '../helpers/outbox.js';
import { deliver, receiver } from '../helpers/receiver.js';
import { tempDirectory, until } from '../helpers/wait.js';

const secret = Buffer.from('a secret of thirty-two bytes, ok').toString('base64');
const local = { allowPrivateNetworks: true };

/** A resolver that gives these addresses, one list for each call, the last one for ever. */
function resolving(...answers: string[][]): Resolver & { asked: string[] } {
  const asked: string[] = [];
  const resolver: Resolver = (hostname, _options, callback) => {
    const answer = answers[Math.min(asked.push(hostname), answers.length) - 1]!;
    const addresses = answer.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
    process.nextTick(callback, null, addresses);
  };
  return Object.assign(resolver, { asked });
}

const withResolver = (options: WebhookOptions, resolver: Resolver) =>
  createWebhook(parseWebhookOptions(options), { resolver });

describe('options', () => {
  it.each([
    [{}, 'neither'],
    [{ url: 'http://a', resolveUrl: () => 'http://b' }, 'both'],
    [{ url: 'not a url' }, 'url'],
    [{ url: '/relative' }, 'url'],
    [{ url: 'ftp://a/b' }, '"ftp:"'],
    [{ url: 'file:///etc/passwd' }, '"file:"'],
    [{ url: 5 }, '5'],
    [{ url: null }, 'null'],
    [{ url: 'http://%zz:x@a' }, 'percent-encoded'],
    [{ url: 'http://a', secret: '' }, 'secret'],
    [{ url: 'http://a', secret: 'not base64!' }, 'secret'],
    [{ url: 'http://a', secret: 'whsec_' }, 'secret'],
    [{ url: 'http://a', secret: 5 }, 'secret'],
    [{ url: 'http://a', timeoutMs: 0 }, 'timeoutMs'],
    [{ url: 'http://a', timeoutMs: Number.POSITIVE_INFINITY }, 'timeoutMs'],
    [{ url: 'http://a', headers: {} }, 'headers'],
    [{ url: 'http://a', payload: 'x' }, 'payload'],
    [{ url: 'http://a', allowPrivateNetworks: 'yes' }, 'allowPrivateNetworks'],
    [{ url: 'http://a', retries: 3 }, 'retries'],
    [null, 'expected options such as { url }, got null'],
  ])('%j is refused', (options, why) => {
    expect(() => webhookHook(options as never)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTIONS', message: expect.stringContaining(why) }),
    );
  });

  it('what is refused is not shown where it may be a secret', () => {
    for (const options of [
      { url: 'ftp://user:hunter2@a' },
      { url: 'hunter2' },
      { url: 'http://a', secret: 'hunter2!' },
    ]) {
      const error = (() => {
        try {
          webhookHook(options);
        } catch (thrown) {
          return thrown;
        }
      })();
      expect(inspect(error)).toContain('INVALID_OPTIONS');
      expect(inspect(error)).not.toContain('hunter2');
    }
  });
});

describe('what is sent', () => {
  it.each([secret, `whsec_${secret}`])(
    'is a signed POST that the reference implementation verifies (%s)',
    async (given) => {
      const { url, received } = await receiver();
      const task = taskRecord({ status: 'failed', endedAt: 1_790_000_123_456 });
      expect(await deliver(webhookHook({ url, secret: given, ...local }), { task, output: 'the end\n' })).toEqual({
        ok: true,
        value: undefined,
      });
      expect(received).toHaveLength(1);
      const { method, path, headers, body } = received[0]!;
      expect({ method, path }).toEqual({ method: 'POST', path: '/hook' });
      expect(headers).toMatchObject({
        'webhook-id': `${task.taskId}:hook`,
        'content-type': 'application/json',
        'user-agent': 'holdfast',
        connection: 'close',
      });
      const verified = new Webhook(secret).verify(body, headers as Record<string, string>);
      expect(verified).toEqual({
        type: 'task.failed',
        timestamp: new Date(1_790_000_123_456).toISOString(),
        data: { task: JSON.parse(JSON.stringify(task)), output: 'the end\n', outputTruncated: false },
      });
      expect(Math.abs(Number(headers['webhook-timestamp']) * 1000 - Date.now())).toBeLessThan(60_000);
      const other = new Webhook(Buffer.from('another secret').toString('base64'));
      expect(() => other.verify(body, headers as Record<string, string>)).toThrow();
    },
  );

  it('a secret may depend on the task; without any nothing is signed; one that is missing sends nothing', async () => {
    const { url, received } = await receiver();
    const asked: string[] = [];
    const task = taskRecord();
    const bySecret = webhookHook({
      url,
      ...local,
      secret: async ({ taskId }) => {
        asked.push(taskId);
        return secret;
      },
    });
    await deliver(bySecret, { task });
    expect(asked).toEqual([task.taskId]);
    new Webhook(secret).verify(received[0]!.body, received[0]!.headers as Record<string, string>);
    await deliver(webhookHook({ url, ...local }));
    expect(received[1]!.headers).not.toHaveProperty('webhook-signature');
    expect(received[1]!.headers).toHaveProperty('webhook-timestamp');
    for (const none of [undefined, '', 'not base64!']) {
      expect(await deliver(webhookHook({ url, ...local, secret: () => none as string }))).toMatchObject({
        ok: false,
        permanent: true,
      });
    }
    expect(received).toHaveLength(2);
  });

  it('takes headers for the body, but none that are ours', async () => {
    const { url, received, port } = await receiver();
    const headers = (task: { taskId: string }, body: string) => ({
      'X-Length': String(body.length),
      'X-Task': task.taskId,
      'Content-Type': 'application/cloudevents+json',
      'Webhook-Id': 'forged',
      'WEBHOOK-SIGNATURE': 'v1,forged',
      'webhook-timestamp': '1',
      Host: 'forged.example',
      'Content-Length': '1',
      'Transfer-Encoding': 'chunked',
      Absent: undefined,
    });
    const task = taskRecord();
    expect(await deliver(webhookHook({ url, secret, headers, ...local }), { task })).toMatchObject({ ok: true });
    const got = received[0]!;
    expect(got.headers).toMatchObject({
      'x-length': String(got.body.length),
      'x-task': task.taskId,
      'content-type': 'application/cloudevents+json',
      'webhook-id': `${task.taskId}:hook`,
      host: `127.0.0.1:${port}`,
      'content-length': String(Buffer.byteLength(got.body)),
    });
    expect(got.headers).not.toHaveProperty('transfer-encoding');
    new Webhook(secret).verify(got.body, got.headers as Record<string, string>);
  });

  it.each([[{ 'bad name': 'hunter2' }], [{ 'X-Split': 'a\r\nhunter2: b' }], [{ 'X-Number': 5 }], [5], ['hunter2']])(
    'refuses the headers %j for good, without showing them',
    async (headers) => {
      const { url, received } = await receiver();
      const outcome = await deliver(webhookHook({ url, ...local, headers: () => headers as never }));
      expect(outcome).toMatchObject({ ok: false, permanent: true });
      expect(inspect(outcome)).not.toContain('hunter2');
      expect(received).toEqual([]);
    },
  );

  it('a payload of the host’s own; one that is no JSON fails for good', async () => {
    const { url, received } = await receiver();
    const payload = async (task: { taskId: string }) => ({ text: `done: ${task.taskId} — ✓`, missing: undefined });
    const task = taskRecord();
    await deliver(webhookHook({ url, secret, payload, ...local }), { task });
    const body = new Webhook(secret).verify(received[0]!.body, received[0]!.headers as Record<string, string>);
    expect(body).toEqual({ text: `done: ${task.taskId} — ✓` });
    for (const bad of [undefined, () => 1, { a: 1n }, { a: Number.NaN }]) {
      expect(await deliver(webhookHook({ url, payload: () => bad, ...local }))).toMatchObject({
        ok: false,
        permanent: true,
      });
    }
    expect(received).toHaveLength(1);
  });

  it('to a URL for each task, or to nobody', async () => {
    const { url, received } = await receiver();
    const targets: unknown[] = [url, new URL(`${url}?x=1#fragment`), undefined, null, 'nonsense', 'ftp://a', 5];
    const hook = webhookHook({ resolveUrl: async () => targets.shift() as string, ...local });
    expect(await deliver(hook)).toMatchObject({ ok: true, value: undefined });
    expect(await deliver(hook)).toMatchObject({ ok: true, value: undefined });
    expect(await deliver(hook)).toEqual({ ok: true, value: SKIPPED });
    expect(await deliver(hook)).toEqual({ ok: true, value: SKIPPED });
    for (let n = 0; n < 3; n++) expect(await deliver(hook)).toMatchObject({ ok: false, permanent: true });
    expect(received.map(({ path }) => path)).toEqual(['/hook', '/hook?x=1']);
  });

  it('credentials of the URL go into a header and nowhere else', async () => {
    const { port, received } = await receiver((response) => response.writeHead(500).end());
    const url = `http://us%20er:hunter2@127.0.0.1:${port}/`;
    const outcome = await deliver(webhookHook({ url, ...local }));
    expect(received[0]!.headers.authorization).toBe(`Basic ${Buffer.from('us er:hunter2').toString('base64')}`);
    expect(outcome).toMatchObject({ ok: false, permanent: false });
    expect(inspect(outcome)).not.toContain('hunter2');
  });

  it('what the host’s own functions throw counts like any failure', async () => {
    const fail = () => {
      throw new RangeError('the vault is sealed');
    };
    for (const options of [{ secret: fail }, { payload: fail }, { headers: fail }]) {
      expect(await deliver(webhookHook({ url: 'http://127.0.0.1:9', ...options, ...local }))).toMatchObject({
        ok: false,
        permanent: false,
        error: { name: 'RangeError' },
      });
    }
    expect(await deliver(webhookHook({ resolveUrl: fail }))).toMatchObject({ ok: false, permanent: false });
  });
});

describe('what the answer means', () => {
  it.each([200, 201, 202, 204, 299])('%i is success', async (status) => {
    const { url } = await receiver((response) => response.writeHead(status).end());
    expect(await deliver(webhookHook({ url, ...local }))).toMatchObject({ ok: true });
  });

  it.each([408, 425, 429, 500, 501, 502, 503, 504, 599])('%i is tried again', async (status) => {
    const { url } = await receiver((response) => response.writeHead(status).end());
    expect(await deliver(webhookHook({ url, ...local }))).toMatchObject({
      ok: false,
      permanent: false,
      error: { code: `HTTP_${status}` },
    });
  });

  it.each([300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 409, 410, 422])(
    '%i fails for good',
    async (status) => {
      const elsewhere = await receiver();
      const { url } = await receiver((response) => response.writeHead(status, { location: elsewhere.url }).end());
      expect(await deliver(webhookHook({ url, ...local }))).toMatchObject({
        ok: false,
        permanent: true,
        error: { code: `HTTP_${status}` },
      });
      expect(elsewhere.received).toEqual([]);
    },
  );

  it('Retry-After is seconds or a date', () => {
    const now = Date.parse('2026-01-01T00:00:00Z');
    expect(parseRetryAfter('120', now)).toBe(120_000);
    expect(parseRetryAfter(' 0 ', now)).toBe(0);
    expect(parseRetryAfter('Thu, 01 Jan 2026 00:01:00 GMT', now)).toBe(60_000);
    expect(parseRetryAfter('Wed, 31 Dec 2025 00:00:00 GMT', now)).toBe(0);
    for (const nonsense of [undefined, '', '-5', '1.5', 'soon', '1e3', '0x10'])
      expect(parseRetryAfter(nonsense, now)).toBeUndefined();
  });

  it('an outbox honours Retry-After', async () => {
    const statuses = [503, 200];
    const { url, received } = await receiver((response) =>
      response.writeHead(statuses.shift()!, { 'retry-after': '300' }).end(),
    );
    const clock = new FakeClock();
    const { outbox, port } = openOutbox({ hook: webhookHook({ url, ...local }) }, { clock });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await until(() => port.owed('a')?.attempts === 1);
    expect(port.owed('a')).toMatchObject({
      nextAttemptAt: clock.now() + 300_000,
      lastError: { name: 'WebhookError', code: 'HTTP_503' },
    });
    await clock.advance(299_999);
    expect(received).toHaveLength(1);
    await clock.advance(1);
    await until(() => port.owed('a')?.state === 'delivered');
    expect(received.map(({ headers }) => headers['webhook-id'])).toEqual(['a:hook', 'a:hook']);
  });

  it('an outbox takes "nobody" for skipped', async () => {
    const { outbox, port } = openOutbox({ hook: webhookHook({ resolveUrl: () => undefined }) });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await until(() => port.owed('a')?.state === 'skipped');
    expect(port.events).toEqual([]);
  });

  it('of an endless answer no more than 64 KiB is read, and its status counts', async () => {
    const gone = deferred();
    let sent = 0;
    const { url } = await receiver((response) => {
      response.writeHead(200);
      response.on('close', gone.resolve);
      const pump = () => {
        do sent += 16 * 1024;
        while (response.write(Buffer.alloc(16 * 1024)) && !response.destroyed);
        if (!response.destroyed) response.once('drain', pump);
      };
      pump();
    });
    expect(await deliver(webhookHook({ url, ...local }))).toMatchObject({ ok: true });
    await gone.promise;
    expect(sent).toBeGreaterThan(64 * 1024);
  });

  it('the status also counts when the rest is cut off, or never comes', async () => {
    const cut = await receiver((response) => {
      response.writeHead(200, { 'content-length': '100' }).write('x', () => response.destroy());
    });
    expect(await deliver(webhookHook({ url: cut.url, ...local }))).toMatchObject({ ok: true });
    const stalled = await receiver((response) => void response.writeHead(410, { 'content-length': '100' }).write('x'));
    expect(await deliver(webhookHook({ url: stalled.url, timeoutMs: 2_000, ...local }))).toMatchObject({
      ok: false,
      permanent: true,
    });
  });
});

describe('a network that fails', () => {
  it('nobody listens: tried again', async () => {
    const outcome = await deliver(webhookHook({ url: 'http://127.0.0.1:9/', ...local }));
    expect(outcome).toMatchObject({
      ok: false,
      permanent: false,
      error: { code: 'ECONNREFUSED', message: expect.stringContaining('127.0.0.1:9') },
    });
  });

  it('a name that does not resolve: tried again', async () => {
    const resolver: Resolver = (_hostname, _options, callback) =>
      process.nextTick(callback, Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' }), []);
    expect(await deliver(withResolver({ url: 'http://hook.test/' }, resolver))).toMatchObject({
      ok: false,
      permanent: false,
      error: { code: 'ENOTFOUND' },
    });
    expect(await deliver(withResolver({ url: 'http://hook.test/' }, resolving([])))).toMatchObject({
      ok: false,
      permanent: false,
    });
  });

  it('no answer in time: aborted, and tried again', async () => {
    const { url } = await receiver(() => undefined);
    expect(await deliver(webhookHook({ url, timeoutMs: 200, ...local }))).toMatchObject({
      ok: false,
      permanent: false,
      error: { code: 'TIMEOUT' },
    });
  });

  it('the connection is cut, or is no HTTP: tried again', async () => {
    const behaviours: ((socket: Socket) => void)[] = [
      (socket) => socket.destroy(),
      (socket) => socket.end(),
      (socket) => socket.end('gibberish\r\n\r\n'),
    ];
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined).once('data', () => behaviours.shift()!(socket));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    const { port } = server.address() as { port: number };
    for (let n = 0; n < 3; n++) {
      expect(await deliver(webhookHook({ url: `http://127.0.0.1:${port}/`, ...local }))).toMatchObject({
        ok: false,
        permanent: false,
        error: { name: 'WebhookError' },
      });
    }
  });

  it('stops at once when the delivery is aborted, with its reason', async () => {
    const begun = deferred();
    const closed = deferred();
    const { url } = await receiver((response) => {
      response.on('close', closed.resolve);
      begun.resolve();
    });
    const controller = new AbortController();
    const outcome = deliver(webhookHook({ url, ...local }), { signal: controller.signal });
    await begun.promise;
    const reason = new Error('withdrawn');
    controller.abort(reason);
    expect(await outcome).toEqual({ ok: false, permanent: false, error: reason });
    await closed.promise;
    const late = await receiver();
    expect(
      await deliver(webhookHook({ url: late.url, ...local }), { signal: AbortSignal.abort(reason) }),
    ).toMatchObject({ error: reason });
    expect(late.received).toEqual([]);
  });
});

describe('addresses', () => {
  const spellings = (port: number) => [
    `http://127.0.0.1:${port}/`,
    `http://127.1:${port}/`,
    `http://2130706433:${port}/`,
    `http://0x7f000001:${port}/`,
    `http://0177.0.0.1:${port}/`,
    `http://017700000001:${port}/`,
    `http://127.0.0.1.:${port}/`,
    `http://①②⑦.0.0.1:${port}/`,
    `http://[::ffff:127.0.0.1]:${port}/`,
    `http://[::ffff:7f00:1]:${port}/`,
    `http://[::1]:${port}/`,
    `http://0.0.0.0:${port}/`,
    `http://[::]:${port}/`,
    `http://localhost:${port}/`,
  ];

  it('a private one is refused for good however it is spelt, without a connection', async () => {
    const { port, connections } = await receiver();
    for (const url of spellings(port)) {
      expect([url, await deliver(webhookHook({ url }))]).toMatchObject([
        url,
        { ok: false, permanent: true, error: { message: expect.stringContaining('public') } },
      ]);
    }
    expect(connections()).toBe(0);
    expect(await deliver(webhookHook({ url: spellings(port)[1]!, ...local }))).toMatchObject({ ok: true });
  });

  it.each([
    ['one private address', ['10.0.0.1']],
    ['metadata', ['169.254.169.254']],
    ['a mapped address', ['::ffff:127.0.0.1']],
    ['a public address and a private one', ['93.184.215.14', '127.0.0.1']],
    ['a private address behind a public one in the other family', ['2606:2800:21f:cb07::1', '10.1.2.3']],
    ['something that is no address', ['localhost']],
  ])('a name that resolves to %s is refused for good', async (_, answer) => {
    const { port, connections } = await receiver();
    const resolver = resolving(answer);
    expect(await deliver(withResolver({ url: `http://hook.test:${port}/` }, resolver))).toMatchObject({
      ok: false,
      permanent: true,
    });
    expect(connections()).toBe(0);
    expect(resolver.asked).toEqual(['hook.test']);
  });

  it('a name is resolved once for each attempt: what was checked is what is connected to', async () => {
    const { port, received } = await receiver();
    const resolver = resolving(['127.0.0.1'], ['192.0.2.1']);
    expect(await deliver(withResolver({ url: `http://hook.test:${port}/`, ...local }, resolver))).toMatchObject({
      ok: true,
    });
    expect(resolver.asked).toEqual(['hook.test']);
    expect(received[0]!.headers.host).toBe(`hook.test:${port}`);
  });

  it('one that changes between check and use is found at the socket, before a byte is sent', async () => {
    let data = '';
    const seen = deferred();
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (chunk) => (data += chunk));
      socket.on('close', () => seen.resolve());
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const { port } = server.address() as { port: number };
    // Public whenever it is looked at for the first time, and loopback from then on.
    const resolver: Resolver = (_hostname, _options, callback) => {
      let looks = 0;
      const twoFaced = {
        family: 4,
        get address() {
          return looks++ === 0 ? '93.184.215.14' : '127.0.0.1';
        },
      };
      process.nextTick(callback, null, [twoFaced]);
    };
    expect(await deliver(withResolver({ url: `http://hook.test:${port}/` }, resolver))).toMatchObject({
      ok: false,
      permanent: true,
    });
    await seen.promise;
    expect(data).toBe('');
  });

  it('a dead letter says which address it was', async () => {
    const { outbox, port } = openOutbox({
      hook: withResolver({ url: 'http://hook.test/secret-path' }, resolving(['10.0.0.1'])),
    });
    outbox.start();
    outbox.offer(port.add({ taskId: 'a' }));
    await until(() => port.owed('a')?.state === 'failed');
    const { lastError, attempts } = port.owed('a')!;
    expect(attempts).toBe(1);
    expect(lastError).toMatchObject({ name: 'PermanentDeliveryError', message: expect.stringContaining('10.0.0.1') });
    expect(lastError!.message).not.toContain('secret-path');
  });
});

describe('https', () => {
  const openssl = (() => {
    try {
      return execFileSync('openssl', ['version']).toString();
    } catch {
      return undefined;
    }
  })();

  function certificate(names: string): { key: string; cert: string } {
    const folder = tempDirectory();
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
    execFileSync(
      'openssl',
      [...args, '-keyout', key, '-out', cert, '-subj', '/CN=test', '-addext', `subjectAltName=${names}`],
      { stdio: 'ignore' },
    );
    return { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
  }

  it.skipIf(!openssl)('is verified against the name in the URL', async () => {
    const tls = certificate('DNS:hook.test,IP:127.0.0.1');
    const { port, received } = await receiver(undefined, tls);
    const system = { resolver: resolving(['127.0.0.1']), ca: tls.cert };
    const hook = (url: string, trusted = true) =>
      createWebhook(parseWebhookOptions({ url, secret, ...local }), trusted ? system : { resolver: system.resolver });
    expect(await deliver(hook(`https://hook.test:${port}/a`))).toMatchObject({ ok: true });
    expect(await deliver(hook(`https://127.0.0.1:${port}/b`))).toMatchObject({ ok: true });
    expect(await deliver(hook(`https://other.test:${port}/c`))).toMatchObject({
      ok: false,
      permanent: false,
      error: { code: 'ERR_TLS_CERT_ALTNAME_INVALID' },
    });
    expect(await deliver(hook(`https://hook.test:${port}/d`, false))).toMatchObject({
      ok: false,
      error: { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' },
    });
    expect(received.map(({ path, headers, servername }) => [path, headers.host, servername])).toEqual([
      ['/a', `hook.test:${port}`, 'hook.test'],
      ['/b', `127.0.0.1:${port}`, false],
    ]);
  });

  it('a server that never finishes the handshake: no answer in time', async () => {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => void sockets.add(socket.on('error', () => undefined)));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    const { port } = server.address() as { port: number };
    expect(await deliver(webhookHook({ url: `https://127.0.0.1:${port}/`, timeoutMs: 200, ...local }))).toMatchObject({
      ok: false,
      error: { code: 'TIMEOUT' },
    });
  });
});
