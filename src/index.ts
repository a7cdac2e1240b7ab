export type { BackgroundTaskErrorCode } from './errors.js';
export { BackgroundTaskError, PermanentDeliveryError } from './errors.js';
