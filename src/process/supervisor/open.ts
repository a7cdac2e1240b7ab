import type { ProcessHost } from '../process-host.js';
import { AttachedSupervisor } from './attached.js';
import { PosixSupervisor } from './posix.js';
import type { Supervisor } from './supervisor.js';

/** The supervisor of a task on this system. */
export function openSupervisor(taskId: string, host: ProcessHost): Supervisor {
  return process.platform === 'win32' ? new AttachedSupervisor(taskId, host) : new PosixSupervisor(taskId, host);
}
