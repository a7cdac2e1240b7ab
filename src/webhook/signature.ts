import { Webhook } from 'standardwebhooks';

const PREFIX = 'whsec_';

/** The key that a secret stands for: base64, with or without `whsec_`. `undefined` for anything else; callers must not show it. */
export function parseSecret(secret: unknown): Buffer | undefined {
  if (typeof secret !== 'string') return undefined;
  const text = secret.startsWith(PREFIX) ? secret.slice(PREFIX.length) : secret;
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text) || text.replace(/=+$/, '').length % 4 === 1) return undefined;
  return Buffer.from(text, 'base64');
}

/** The headers of Standard Webhooks 1.0: id, time of the attempt in seconds, and, with a key, the signature over both and the body. */
export function signatureHeaders(
  id: string,
  now: number,
  body: string,
  key: Buffer | undefined,
): Record<string, string> {
  const headers = { 'webhook-id': id, 'webhook-timestamp': String(Math.floor(now / 1000)) };
  if (!key) return headers;
  // The raw key: the library reads base64 only where it is padded, and secrets are often given without padding.
  return { ...headers, 'webhook-signature': new Webhook(key, { format: 'raw' }).sign(id, new Date(now), body) };
}
