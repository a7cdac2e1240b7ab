/*
 * Who a process is, so that it can be told later whether it still lives: a pid alone is recycled, and means something
 * else in every container. On Linux everything comes from /proc. What stands here for macOS (sysctl, ps) and for other
 * systems was never run.
 */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import type { OwnerIdentity } from '../task/types.js';
import { systemCode } from '../util/system-error.js';

/** What the process table says of one process. */
export interface ProcessEntry {
  readonly pid: number;
  /** One letter; `Z` and `X` have ended and only wait to be collected. */
  readonly state: string;
  /**
   * Ticks since boot at its start; elsewhere than on Linux any text that a later process of this pid does not share.
   */
  readonly startTicks: string;
}

/** The identity of a new manager in this process. */
export function ownIdentity(): OwnerIdentity {
  const instanceId = randomUUID();
  const self = processEntry('self');
  return {
    instanceId,
    hostname: hostname(),
    bootId: bootId(),
    pidNamespace: pidNamespace(self, instanceId),
    pid: process.pid,
    startTicks: self?.startTicks ?? '',
  };
}

/**
 * Whether both see the same processes under the same pids: then the process table decides whether one of them lives.
 */
export function shareProcessTable(a: OwnerIdentity, b: OwnerIdentity): boolean {
  return a.bootId === b.bootId && a.pidNamespace === b.pidNamespace;
}

/**
 * Whether the process of an identity lives: the same pid with the same start, and no zombie. Stopped and suspended
 * processes live. Only for an identity that shares our process table.
 */
export function isProcessAlive(identity: Pick<OwnerIdentity, 'pid' | 'startTicks'>): boolean {
  const entry = processEntry(identity.pid);
  if (!entry) return isHidden(identity.pid);
  return entry.startTicks === identity.startTicks && entry.state !== 'Z' && entry.state !== 'X';
}

/** The process table's entry of `pid`; `undefined` where there is none. */
export function processEntry(pid: number | 'self'): ProcessEntry | undefined {
  return process.platform === 'linux' ? linuxEntry(pid) : portableEntry(pid === 'self' ? process.pid : pid);
}

export function isOwnerIdentity(value: unknown): value is OwnerIdentity {
  if (typeof value !== 'object' || value === null) return false;
  const { pid, ...rest } = value as Record<string, unknown>;
  const texts = ['instanceId', 'hostname', 'bootId', 'pidNamespace', 'startTicks'];
  return Number.isSafeInteger(pid) && (pid as number) > 0 && texts.every((key) => typeof rest[key] === 'string');
}

function linuxEntry(pid: number | 'self'): ProcessEntry | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ESRCH') return undefined;
    throw error;
  }
  // The second field is the command's name in parentheses, which may itself hold spaces and parentheses.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { pid: Number.parseInt(text, 10), state: fields[0] ?? '', startTicks: fields[19] ?? '' };
}

/** Where /proc hides other users' processes, a pid without an entry may still be taken: then we cannot call it dead. */
function isHidden(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) !== 'ESRCH';
  }
}

function bootId(): string {
  if (process.platform === 'linux') return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  if (process.platform === 'darwin') return command('sysctl', ['-n', 'kern.bootsessionuuid']);
  return 'unknown';
}

function pidNamespace(self: ProcessEntry | undefined, instanceId: string): string {
  if (process.platform !== 'linux') return 'none';
  const name = readlinkSync('/proc/self/ns/pid');
  // A /proc mounted for another namespace counts other pids than ours: neither may we be judged by it, nor judge
  // others.
  return self?.pid === process.pid ? name : `${name} without its own /proc, ${instanceId}`;
}

function portableEntry(pid: number): ProcessEntry | undefined {
  if (process.platform === 'win32') return isHidden(pid) ? { pid, state: 'R', startTicks: '' } : undefined;
  try {
    const [, state = '', start = ''] =
      /^(\S+)\s+(.*)$/.exec(command('ps', ['-o', 'stat=,lstart=', '-p', `${pid}`])) ?? [];
    return { pid, state: state.charAt(0), startTicks: start };
  } catch (error) {
    // ps ends with 1 where there is no such process.
    if ((error as { status?: unknown }).status === 1) return undefined;
    throw error;
  }
}

function command(file: string, args: readonly string[]): string {
  return execFileSync(file, args, { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } }).trim();
}
