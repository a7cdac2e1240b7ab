import { shareProcessTable } from '../store/identity.js';
import type { OwnerIdentity, ProcessDetails, ProcessTask } from '../task/types.js';

/**
 * Where a task's supervisor lives: `here`, the process table decides; `perished`, the machine it ran on was restarted; `elsewhere`, in
 * another container or on another machine, where only its exit record can be seen.
 */
export type Whereabouts = 'here' | 'perished' | 'elsewhere';

/** The part of an identity that says which process table a pid belongs to. */
type Home = Pick<OwnerIdentity, 'hostname' | 'bootId' | 'pidNamespace'>;

/** Details that the public type does not show. An adoption puts a new owner on record, who may live elsewhere than the supervisor. */
interface WithHome extends ProcessDetails {
  readonly supervisorHome?: Home;
}

export function whereabouts(task: ProcessTask, self: OwnerIdentity): Whereabouts {
  const home = homeOf(task);
  // A record of another system: whatever ran it was no supervisor of ours.
  if (!home) return 'perished';
  if (shareProcessTable({ ...self, ...home }, self)) return 'here';
  return home.bootId !== self.bootId && home.hostname === self.hostname ? 'perished' : 'elsewhere';
}

/** What has to go on record so that the next owner still knows where the supervisor lives. */
export function homeOnRecord(task: ProcessTask): Partial<ProcessDetails> {
  const home = homeOf(task);
  if (!home) return {};
  const { hostname, bootId, pidNamespace } = home;
  const patch: Partial<WithHome> = { supervisorHome: { hostname, bootId, pidNamespace } };
  return patch;
}

function homeOf(task: ProcessTask): Home | null {
  return (task.details as WithHome).supervisorHome ?? task.owner;
}
