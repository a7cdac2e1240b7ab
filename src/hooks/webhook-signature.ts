import { createHmac } from 'node:crypto';

const PREFIX = 'whsec_';

/** The key that a secret stands for: base64, with or without `whsec_`. `undefined` for anything else; callers must not show it. */
export function parseSecret(secret: unknown): Buffer | undefined {
  if (typeof secret !== 'string') return undefined;
  const text = secret.startsWith(PREFIX) ? secret.slice(PREFIX.length) : secret;
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text) || text.replace(/=+$/, '').length % 4 === 1) return undefined;
  return Buffer.from(text, 'base64');
}

/** The headers of Standard Webhooks 1.0: id, time of the attempt in seconds, and, with a key, HMAC-SHA256 over both and the body. */
export function signatureHeaders(
  id: string,
  now: number,
  body: string,
  key: Buffer | undefined,
): Record<string, string> {
  const timestamp = String(Math.floor(now / 1000));
  const headers = { 'webhook-id': id, 'webhook-timestamp': timestamp };
  if (!key) return headers;
  const signature = createHmac('sha256', key).update(`${id}.${timestamp}.${body}`).digest('base64');
  return { ...headers, 'webhook-signature': `v1,${signature}` };
}
