import type { OwnerIdentity } from '../task/types.js';
import { askBeacon } from './beacon.js';
import { isProcessAlive, shareProcessTable } from './identity.js';

/** What can be said of a recorded owner. Only `dead` lets another manager take its place. */
export type Verdict = 'alive' | 'dead' | 'unknown';

/**
 * Judges the recorded owner of a directory, from the surest evidence there is:
 *
 * - we see its process: the process table decides, so a stopped owner is never robbed and a killed one is replaced at
 *   once;
 * - it runs on this boot of this machine, in another pid namespace: its socket decides;
 * - this machine, known by its name, was restarted since: dead;
 * - anything else: unknown.
 */
export async function judgeOwner(recorded: OwnerIdentity, self: OwnerIdentity, ownerDir: string): Promise<Verdict> {
  if (shareProcessTable(recorded, self)) return judgeByProcess(recorded, self, ownerDir);
  if (recorded.bootId === self.bootId) return judgeByBeacon(recorded, ownerDir);
  return recorded.hostname === self.hostname ? 'dead' : 'unknown';
}

async function judgeByProcess(recorded: OwnerIdentity, self: OwnerIdentity, ownerDir: string): Promise<Verdict> {
  if (!isProcessAlive(recorded)) return 'dead';
  // An owner in this very process may have been a worker thread that was terminated: its socket went with it.
  const isOurProcess = recorded.pid === self.pid && recorded.startTicks === self.startTicks;
  if (isOurProcess && (await askBeacon(ownerDir, recorded.instanceId)) === 'refused') return 'dead';
  return 'alive';
}

async function judgeByBeacon(recorded: OwnerIdentity, ownerDir: string): Promise<Verdict> {
  const answer = await askBeacon(ownerDir, recorded.instanceId);
  if (answer === 'unknown') return 'unknown';
  return answer === 'answers' ? 'alive' : 'dead';
}
