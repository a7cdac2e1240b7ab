/**
 * What a hook of this package resolves with when there is no receiver: the delivery is `skipped`. A registered symbol,
 * so that the webhook of the CommonJS copy works in a manager of the ESM one.
 */
export const SKIPPED: unique symbol = Symbol.for('holdfast.skipped') as never;
