import type { TaskRecord } from './record.js';
import { isTerminalStatus } from './status.js';
import type { JsonValue } from './types.js';

/**
 * Systems whose running work ended with them: their supervisor was never ours. A kube-coder session may well be alive,
 * so it is none.
 */
const goneSystems = ['kimi', 'hermes-webui', 'claude-hooks'];

/**
 * Whether the task belongs to a host that is known to be gone, so that nothing can be known of it any more: `lost` when
 * it is opened, also where its kind is unknown. Judged by the record alone, so that it still holds after the record was
 * rewritten.
 */
export function isOrphanedLegacy(record: TaskRecord): boolean {
  return (
    record.owner === null &&
    !isTerminalStatus(record.status) &&
    goneSystems.some((system) => Object.hasOwn(record.metadata, system) && hasLastStatus(record.metadata[system]))
  );
}

function hasLastStatus(kept: JsonValue | undefined): boolean {
  return typeof kept === 'object' && kept !== null && typeof (kept as { status?: JsonValue }).status === 'string';
}
