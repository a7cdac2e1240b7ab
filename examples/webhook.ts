/*
 * A completion that must arrive: the endpoint fails twice, the host is restarted in between, and the message still comes, signed, with the
 * same id each time. Exits with 0 only if all of it is as it should be.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BackgroundTaskManager } from 'holdfast';
import { webhookHook } from 'holdfast/webhook';
import { Webhook } from 'standardwebhooks';

const secret = `whsec_${randomBytes(32).toString('base64')}`;

interface Message {
  readonly type: string;
  readonly timestamp: string;
  readonly data: { readonly task: { readonly taskId: string; readonly status: string }; readonly output: string };
}

/** The receiver: verifies every message, refuses the first two, and does its work once for each id. */
function createReceiver() {
  const verifier = new Webhook(secret);
  const attempts: string[] = [];
  const done = new Map<string, Message>();
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    const message = verifier.verify(body, request.headers as Record<string, string>) as Message;
    const id = String(request.headers['webhook-id']);
    attempts.push(id);
    const accepted = attempts.length > 2;
    console.log(`  [receiver] ${id} ${message.type}: ${accepted ? 'taken' : 'refused'}`);
    // How a receiver deduplicates: by the id, which is the same for every attempt.
    if (accepted && !done.has(id)) done.set(id, message);
    response.writeHead(accepted ? 204 : 503).end();
  });
  return { server, attempts, done };
}

function open(directory: string, url: string): Promise<BackgroundTaskManager> {
  const deliver = webhookHook({ url, secret, allowPrivateNetworks: true }); // the receiver is on this machine
  return BackgroundTaskManager.open({ directory, hooks: { callback: { deliver, minDelayMs: 200, maxDelayMs: 500 } } });
}

/** Resolves with the attempt at which this happened. */
function heard(manager: BackgroundTaskManager, event: 'hook:retrying' | 'hook:delivered'): Promise<number> {
  return new Promise((resolve) => manager.once(event, ({ attempt }) => resolve(attempt)));
}

async function main(directory: string): Promise<void> {
  const { server, attempts, done } = createReceiver();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/completions`;
  try {
    const first = await open(directory, url);
    const refused = heard(first, 'hook:retrying');
    const { taskId } = await first.registerTask({
      kind: 'process',
      description: 'Say hello',
      command: 'echo hello from the task',
    });
    assert.equal(await refused, 1);
    await first.close();

    const second = await open(directory, url);
    assert.equal(await heard(second, 'hook:delivered'), 3);
    const [delivery] = second.listDeliveries();
    const task = second.getTask(taskId);
    await second.close();

    assert.equal(task?.status, 'completed');
    assert.equal(delivery?.state, 'delivered');
    assert.equal(delivery?.attempts, 3);
    assert.deepEqual(attempts, Array(3).fill(`${taskId}:callback`));
    assert.equal(done.size, 1);
    const message = done.get(`${taskId}:callback`);
    assert.equal(message?.type, 'task.completed');
    assert.equal(message?.timestamp, new Date(task?.endedAt ?? 0).toISOString());
    assert.equal(message?.data.task.taskId, taskId);
    assert.equal(message?.data.output, 'hello from the task\n');
    console.log('Refused twice, restarted once, delivered once.');
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

const directory = await mkdtemp(join(tmpdir(), 'holdfast-webhook-'));
try {
  await main(directory);
} finally {
  await rm(directory, { recursive: true, force: true });
}
