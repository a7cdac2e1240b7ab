import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { parseSecret, signatureHeaders } from '../../src/webhook/signature.js';

// The webhooks' own tests verify with the library that signs: this is the same by Node's own functions.
it('is HMAC-SHA256 over id, seconds and body', () => {
  const bytes = fc.uint8Array({ minLength: 1, maxLength: 100 });
  fc.assert(
    fc.property(bytes, fc.string({ unit: 'binary' }), fc.nat(), fc.uuid(), (given, text, now, id) => {
      const key = Buffer.from(given);
      const body = JSON.stringify(text);
      const seconds = String(Math.floor(now / 1000));
      const signature = createHmac('sha256', key).update(`${id}.${seconds}.${body}`).digest('base64');
      expect(signatureHeaders(id, now, body, key)).toEqual({
        'webhook-id': id,
        'webhook-timestamp': seconds,
        'webhook-signature': `v1,${signature}`,
      });
    }),
    { numRuns: 300 },
  );
});

it.each(['whsec_AAECAw==', 'AAECAw==', 'whsec_AAECAw', 'AAECAw'])('takes the secret %s for the same key', (secret) => {
  const key = parseSecret(secret);
  expect(key).toEqual(Buffer.from([0, 1, 2, 3]));
  expect(signatureHeaders('id', 0, '{}', key)).toEqual(signatureHeaders('id', 0, '{}', Buffer.from([0, 1, 2, 3])));
});
