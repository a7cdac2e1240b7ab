/* The webhook as a hook: what is sent where, and what the answer means. */
import { validateHeaderName, validateHeaderValue } from 'node:http';
import { type AnyTask, type Delivery, type Hook, PermanentDeliveryError } from '../index.js';
import { NotJsonError, SKIPPED, systemClock, toJson } from '../internal.js';
import { openConnection, type Resolver } from './connect.js';
import { parseUrl, type WebhookSettings } from './options.js';
import { defaultPayload } from './payload.js';
import { type Answer, post } from './post.js';
import { parseSecret, signatureHeaders } from './signature.js';

/** What tests replace. */
export interface WebhookSystem {
  readonly resolver?: Resolver;
  readonly ca?: string;
}

/** There was no answer, or one that says "later". */
class WebhookError extends Error {
  override readonly name = 'WebhookError';
  readonly code: string;
  /** How long the receiver wants to be left alone; the outbox waits at least as long. */
  readonly retryAfterMs: number | undefined;

  constructor(code: string, message: string, extra: { cause?: unknown; retryAfterMs?: number | undefined } = {}) {
    super(message, extra.cause === undefined ? undefined : { cause: extra.cause });
    this.code = code;
    this.retryAfterMs = extra.retryAfterMs;
  }
}

/** Our own: a host's headers never replace them. */
const reserved = new Set([
  ...['webhook-id', 'webhook-timestamp', 'webhook-signature'],
  ...['host', 'content-length', 'transfer-encoding', 'connection', 'upgrade', 'expect', 'trailer'],
]);

const retriedStatuses = new Set([408, 425, 429]);

export function createWebhook(settings: WebhookSettings, system: WebhookSystem = {}): Hook<any> {
  return async (given, delivery) => {
    const task = given as AnyTask;
    const url = await targetOf(settings, task);
    if (!url) return SKIPPED;
    const body = await bodyOf(settings, task, delivery);
    const headers = {
      'content-type': 'application/json',
      'user-agent': 'holdfast',
      ...credentialsOf(url),
      ...checkHeaders((await settings.headers?.(task, body)) ?? {}),
      ...signatureHeaders(delivery.deliveryId, Date.now(), body, await keyOf(settings, task)),
    };
    const answer = await send(settings, system, url, headers, Buffer.from(body), delivery.signal);
    judge(answer, url);
    return undefined;
  };
}

async function targetOf(settings: WebhookSettings, task: AnyTask): Promise<URL | undefined> {
  if (settings.url) return settings.url;
  const resolved = await settings.resolveUrl?.(task);
  if (resolved === undefined || resolved === null) return undefined;
  const { url, problem } = parseUrl(resolved);
  if (!url) throw new PermanentDeliveryError(`resolveUrl: ${problem}`);
  return url;
}

async function bodyOf({ payload }: WebhookSettings, task: AnyTask, delivery: Delivery): Promise<string> {
  if (!payload) return JSON.stringify(await defaultPayload(task, delivery.readOutput));
  const value = await payload(task);
  try {
    return JSON.stringify(toJson(value, 'payload'));
  } catch (error) {
    if (!(error instanceof NotJsonError)) throw error;
    throw new PermanentDeliveryError(error.message, { cause: error });
  }
}

/** Nothing is sent unsigned because a secret could not be found. */
async function keyOf({ secret }: WebhookSettings, task: AnyTask): Promise<Buffer | undefined> {
  if (typeof secret !== 'function') return secret;
  const key = parseSecret(await secret(task));
  if (!key) throw new PermanentDeliveryError('secret: expected a function that gives base64, with or without "whsec_"');
  return key;
}

/** User and password in a URL are Basic authorisation. */
function credentialsOf({ username, password }: URL): Record<string, string> {
  if (username === '' && password === '') return {};
  const pair = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return { authorization: `Basic ${Buffer.from(pair).toString('base64')}` };
}

/** Lower-cased, without those that are ours. Values may be secrets and are never shown. */
function checkHeaders(headers: unknown): Record<string, string> {
  if (typeof headers !== 'object' || headers === null) {
    throw new PermanentDeliveryError(`headers: expected an object of strings, got ${typeof headers}`);
  }
  const given = Object.entries(headers).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given.map(checkHeader).filter(([name]) => !reserved.has(name)));
}

function checkHeader([name, value]: [string, unknown]): [string, string] {
  try {
    validateHeaderName(name);
    if (typeof value !== 'string') throw new TypeError('not a string');
    validateHeaderValue(name, value);
  } catch {
    // What it says is said again here without the value.
    throw new PermanentDeliveryError(
      `headers: expected valid names and strings as values, ${JSON.stringify(name.slice(0, 80))} is not`,
    );
  }
  return [name.toLowerCase(), value];
}

async function send(
  { allowPrivateNetworks, timeoutMs }: WebhookSettings,
  { resolver, ca }: WebhookSystem,
  url: URL,
  headers: Record<string, string>,
  body: Buffer,
  cancelled: AbortSignal,
): Promise<Answer> {
  const controller = new AbortController();
  const cancel = () => controller.abort(cancelled.reason);
  if (cancelled.aborted) cancel();
  cancelled.addEventListener('abort', cancel, { once: true });
  const timer = systemClock.after(timeoutMs, () => {
    controller.abort(new WebhookError('TIMEOUT', `no answer from ${url.host} within ${timeoutMs} ms`));
  });
  const { signal } = controller;
  try {
    const socket = await openConnection(url, { allowPrivateNetworks, signal, resolver, ca });
    return await post(socket, url, headers, body, signal);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (error instanceof PermanentDeliveryError) throw error;
    const { code = 'NETWORK', message } = error as NodeJS.ErrnoException;
    throw new WebhookError(code, `could not reach ${url.host}: ${message || code}`, { cause: error });
  } finally {
    timer.clear();
    cancelled.removeEventListener('abort', cancel);
  }
}

/** 2xx arrived; 408, 425, 429 and 5xx may arrive later; anything else, redirects included, never will. */
function judge({ status, retryAfter }: Answer, url: URL): void {
  if (status >= 200 && status < 300) return;
  const code = `HTTP_${status}`;
  const message = `${url.host} answered with status ${status}`;
  if (!retriedStatuses.has(status) && status < 500) throw Object.assign(new PermanentDeliveryError(message), { code });
  throw new WebhookError(code, message, { retryAfterMs: parseRetryAfter(retryAfter, Date.now()) });
}

/** `Retry-After`: seconds, or an HTTP date. `undefined` for anything else. */
export function parseRetryAfter(value: string | undefined, now: number): number | undefined {
  const text = value?.trim() ?? '';
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const date = /^[A-Za-z]/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
