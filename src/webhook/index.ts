/* The entry `holdfast/webhook`. */
import type { Hook } from '../index.js';
import { createWebhook } from './hook.js';
import { parseWebhookOptions, type WebhookOptions } from './options.js';

export type { WebhookOptions } from './options.js';
export type { WebhookPayload } from './payload.js';

/**
 * A hook that posts each completion to a URL, signed as Standard Webhooks 1.0 say: `webhook-id` is the delivery id, the same for every
 * attempt. A 2xx answer is success; 408, 425, 429, 5xx and network errors are tried again (not before `Retry-After`, which counts up to 15
 * minutes); anything else, redirects included, fails for good. At most 64 KiB of an answer is read.
 *
 * A request under way does not hold the process; closing the manager waits for it.
 *
 * Throws `INVALID_OPTIONS`.
 *
 * @example
 * hooks: { callback: webhookHook({ url: 'https://example.com/hook', secret: process.env.WEBHOOK_SECRET }) }
 */
export function webhookHook(options: WebhookOptions): Hook<any> {
  return createWebhook(parseWebhookOptions(options));
}
