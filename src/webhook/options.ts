import { z } from 'zod';
import { type AnyTask, type Awaitable, BackgroundTaskError } from '../index.js';
import { callable, came, millisecondsFrom, show, typeName, validate } from '../internal.js';
import { parseSecret } from './signature.js';

/** Where and how a webhook is sent. Either `url` or `resolveUrl`. */
export interface WebhookOptions {
  /** `http:` or `https:`. User and password in it are sent as Basic authorisation. */
  url?: string | URL | undefined;
  /** The URL for each task; nothing: this delivery is `skipped`. One that is no URL fails for good. */
  resolveUrl?: ((task: AnyTask) => Awaitable<string | URL | null | undefined>) | undefined;
  /**
   * Signs each message as Standard Webhooks 1.0 say: base64, with or without `whsec_`; at least 24 random bytes are advised. Or a function
   * of the task, since no record holds a secret; one that gives none fails for good. Absent: messages are not signed.
   */
  secret?: string | ((task: AnyTask) => Awaitable<string>) | undefined;
  /**
   * More headers, for the body that is about to be sent. `webhook-id`, `webhook-timestamp`, `webhook-signature` and those that HTTP itself
   * needs (`host`, `content-length`, `connection`, …) are left out: they are ours. Invalid ones fail for good.
   */
  headers?: ((task: AnyTask, body: string) => Awaitable<Readonly<Record<string, string | undefined>>>) | undefined;
  /**
   * `true`: any address may be reached. Default `false`: a name that resolves to any loopback, link-local, private, metadata, multicast or
   * reserved address is refused for good, as it is when the socket connects. Proxy settings are not followed.
   */
  allowPrivateNetworks?: boolean | undefined;
  /** From the connection to the answer, in milliseconds. Minimum 1, default 10,000. The hook's own `timeoutMs` (30,000) holds as well. */
  timeoutMs?: number | undefined;
  /** What to send instead of `{ type, timestamp, data: { task, output, outputTruncated, omitted? } }`: any JSON. */
  payload?: ((task: AnyTask) => unknown) | undefined;
}

/** Checked options. */
export interface WebhookSettings extends Pick<WebhookOptions, 'resolveUrl' | 'headers' | 'payload'> {
  readonly url: URL | undefined;
  readonly secret: Buffer | ((task: AnyTask) => Awaitable<string>) | undefined;
  readonly allowPrivateNetworks: boolean;
  readonly timeoutMs: number;
}

const schema = z.strictObject({
  url: z.unknown().optional(),
  resolveUrl: callable.optional(),
  secret: z.unknown().optional(),
  headers: callable.optional(),
  allowPrivateNetworks: z.boolean().default(false),
  timeoutMs: millisecondsFrom(1).default(10_000),
  payload: callable.optional(),
});

/** Throws `INVALID_OPTIONS`. Neither a URL nor a secret is ever shown. */
export function parseWebhookOptions(options: WebhookOptions): WebhookSettings {
  const { data, problem } = validate(schema, options === undefined ? {} : options, ['url', 'secret']);
  if (problem !== undefined) throw invalid(problem);
  const { url, secret, resolveUrl, headers, payload } = options ?? {};
  if ((url === undefined) === (resolveUrl === undefined))
    throw invalid(`expected url or resolveUrl, got ${url ? 'both' : 'neither'}`);
  const key = typeof secret === 'function' ? secret : parseSecret(secret);
  if (secret !== undefined && !key)
    throw invalid(
      `secret: expected base64, with or without "whsec_", or a function of the task, got ${secretName(secret)}`,
    );
  const target = url === undefined ? {} : parseUrl(url);
  if (target.problem) throw invalid(`url: ${target.problem}`);
  const { allowPrivateNetworks, timeoutMs } = data;
  return { url: target.url, secret: key, resolveUrl, headers, payload, allowPrivateNetworks, timeoutMs };
}

/** The URL, or what is wrong with it, without showing it: it may hold credentials. */
export function parseUrl(value: unknown): { readonly url?: URL; readonly problem?: string } {
  const expected = 'expected an absolute http: or https: URL';
  if (typeof value !== 'string' && !(value instanceof URL)) return { problem: `${expected}, got ${came(value)}` };
  if (!URL.canParse(String(value))) return { problem: `${expected}, got a string that is none` };
  const url = new URL(value);
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    return { problem: `${expected}, got ${show(url.protocol)}` };
  try {
    decodeURIComponent(url.username + url.password);
  } catch {
    return { problem: `${expected}, got one whose user or password is not percent-encoded` };
  }
  return { url };
}

function secretName(secret: unknown): string {
  return typeof secret === 'string' ? 'a string that is none' : typeName(secret);
}

function invalid(message: string): BackgroundTaskError {
  return new BackgroundTaskError('INVALID_OPTIONS', `webhookHook: ${message}`);
}
