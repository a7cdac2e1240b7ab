/* Work outside the host, kept in memory: what a kind with `start` and `probe` sees of it, and what a test says of it. */
import { copyFileSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { defineTaskKind, type JsonValue, type Probe } from '../../src/index.js';
import { scratch } from './manager.js';

export interface JobDetails {
  place: string;
  ref?: string | undefined;
}
export type JobProbe = Probe<JobDetails, JsonValue>;

/** One job. `probe` is what the next look is told; an `Error` is thrown instead. */
export interface Job {
  probe: JobProbe | Error;
  readonly attempts: number[];
  readonly stops: ('terminate' | 'kill')[];
  readonly inputs: JsonValue[];
  probes: number;
}

export class World {
  readonly jobs = new Map<string, Job>();
  /** What `start` was given, in order. */
  readonly launched: { taskId: string; attempt: number; input: unknown }[] = [];
  /** What a stop makes of a job. Default: gone at the first request. */
  onStop: (job: Job, how: 'terminate' | 'kill') => void = (job) => {
    job.probe = { state: 'gone' };
  };
  /** What `provideInput` of the kind does beside remembering the value. */
  onInput: (job: Job, value: JsonValue) => void | Promise<void> = (job) => {
    // An answer that comes after a stop does not bring the job back.
    if (!(job.probe instanceof Error) && job.probe.state === 'waiting') job.probe = { state: 'running' };
  };

  /** The job of this task; made by hand for one that this world never launched. */
  job(taskId: string): Job {
    let job = this.jobs.get(taskId);
    if (!job) {
      job = { probe: { state: 'running' }, attempts: [], stops: [], inputs: [], probes: 0 };
      this.jobs.set(taskId, job);
    }
    return job;
  }

  start(taskId: string, attempt: number, input: unknown): void {
    const job = this.job(taskId);
    job.attempts.push(attempt);
    job.probe = { state: 'running' };
    this.launched.push({ taskId, attempt, input });
  }

  /** Throws what the job says; a job that was never launched is gone. */
  probe(taskId: string): JobProbe {
    const job = this.jobs.get(taskId);
    if (!job) return { state: 'gone' };
    job.probes++;
    if (job.probe instanceof Error) throw job.probe;
    return job.probe;
  }

  /** A world of its own that goes on from here. */
  fork(): World {
    const fork = new World();
    for (const [taskId, job] of this.jobs) {
      fork.jobs.set(taskId, { ...job, attempts: [...job.attempts], stops: [...job.stops], inputs: [...job.inputs] });
    }
    fork.onStop = this.onStop;
    fork.onInput = this.onInput;
    return fork;
  }
}

const definition = (world: World) => ({
  name: 'job' as const,
  details: z.object({ place: z.string(), ref: z.string().optional() }),
  start: ({ taskId, attempt }: { taskId: string; attempt: number }, input: { token: string } | undefined) => {
    world.start(taskId, attempt, input);
    return { ref: `${taskId}/${attempt}` };
  },
  probe: ({ taskId }: { taskId: string }) => world.probe(taskId),
  stop: ({ taskId }: { taskId: string }, how: 'terminate' | 'kill') => {
    const job = world.job(taskId);
    job.stops.push(how);
    world.onStop(job, how);
  },
  provideInput: async ({ taskId }: { taskId: string }, value: JsonValue) => {
    const job = world.job(taskId);
    job.inputs.push(value);
    await world.onInput(job, value);
  },
});

/** A kind whose work is in `world`. */
export function jobKind(world: World) {
  return defineTaskKind(definition(world));
}

/** The same, with a `recover`. */
export function recoveringJobKind(
  world: World,
  recover: (task: { taskId: string; attempt: number }) => { input: { token: string } | undefined } | undefined,
) {
  return defineTaskKind({ ...definition(world), recover });
}

/**
 * The folder as a host killed at this moment leaves it, for another host to open: copied in one go, while no other JavaScript runs, and
 * without the claim of the owner that is in fact still alive. In-process work of the dead host is gone; what `World.fork` gives lives on.
 */
export async function afterKill(directory: string): Promise<string> {
  const copy = await scratch();
  copyNow(directory, copy);
  return copy;
}

/** The part of `afterKill` that happens in one go. What a write under way removes meanwhile is left out, as a kill would leave it out. */
export function copyNow(from: string, to: string): void {
  mkdirSync(to, { recursive: true, mode: 0o700 });
  for (const { name } of there(() => readdirSync(from, { withFileTypes: true })) ?? []) {
    if (name === '.owner') continue;
    const [source, target] = [join(from, name), join(to, name)];
    if (there(() => statSync(source))?.isDirectory()) copyNow(source, target);
    else there(() => copyFileSync(source, target));
  }
}

function there<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** The record as it is on disk at this moment. */
export function onDisk(directory: string, taskId: string): any {
  return JSON.parse(readFileSync(join(directory, `${taskId}.json`), 'utf8'));
}
