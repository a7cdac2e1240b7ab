/*
 * What the parts beside the core (src/webhook, …) use of it that is not public. Parts import the core through src/index.ts, and this file
 * only. It is no entry of the package: hosts cannot import it, and it may change in any release. A name belongs here when a part would
 * otherwise hold a second copy of a rule that must stay the same everywhere: how options are refused and in which words, what counts as
 * JSON, which clock runs, and the symbol by which the outbox knows a skipped delivery.
 */
export { systemClock } from './clock.js';
export { SKIPPED } from './hooks/skipped.js';
export { callable, millisecondsFrom } from './task/fields.js';
export { cutText, jsonBytes, NotJsonError, toJson } from './task/json.js';
export { validate } from './task/problems.js';
export { came, show, typeName } from './task/show.js';
