/**
 * What a hook of ours resolves with when there is nobody to deliver to: the delivery is `skipped`. A registered symbol, so that the webhook
 * of the CommonJS copy works in a manager of the ESM one.
 */
export const SKIPPED: unique symbol = Symbol.for('holdfast.skipped') as never;
