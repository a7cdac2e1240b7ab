import { shareProcessTable } from '../../store/identity.js';
import type { OwnerIdentity, ProcessDetails, ProcessTask } from '../../task/types.js';

/**
 * Where a task's supervisor lives: `here`, the process table decides; `perished`, the machine it ran on was restarted,
 * or its pid namespace is gone; `elsewhere`, in another container or on another machine, where only its exit record can
 * be seen.
 */
export type Whereabouts = 'here' | 'perished' | 'elsewhere';

/** The part of an identity that says which process table a pid belongs to. */
type Home = Pick<OwnerIdentity, 'hostname' | 'bootId' | 'pidNamespace'>;

/**
 * Details that the public type does not show. An adoption puts a new owner on record, which may live elsewhere than the
 * supervisor.
 */
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

/** The pid namespace, on this very kernel, in which the supervisor lives; `undefined`: it is on another one. */
export function namespaceHere(task: ProcessTask, self: OwnerIdentity): string | undefined {
  const home = homeOf(task);
  return home?.bootId === self.bootId ? home.pidNamespace : undefined;
}

/** Where the supervisor lives, for people. */
export function describeHome(task: ProcessTask, self: OwnerIdentity): string {
  const home = homeOf(task);
  if (!home) return 'nobody knows where';
  const kernel = home.bootId === self.bootId ? 'on this machine' : 'on another machine';
  return `${kernel}, in the pid namespace ${home.pidNamespace} of the host "${home.hostname}"`;
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
