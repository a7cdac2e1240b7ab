/* The one place that knows the two sorts of work apart: work in this process, and work that goes on without it. */
import { z } from 'zod';
import type { KindRuntime, SpecReader } from '../../task/kind-runtime.js';
import { ExistingWork } from './existing-work.js';
import { FunctionWork } from './function-work.js';
import { type InProcessFields, inProcessFields, readInProcess } from './in-process-spec.js';
import { KindWork } from './kind-work.js';
import type { Work, WorkHost } from './work.js';

export function makeWork(kind: KindRuntime, host: WorkHost): Work {
  const calls = kind.attach?.(host.taskId, host) ?? (kind.start && kind);
  return calls ? new KindWork(kind, calls, host) : new FunctionWork(kind, host);
}

const inProcess: SpecReader = {
  fields: { details: z.unknown().optional(), ...inProcessFields },
  read: (given: InProcessFields & { details?: unknown }) => ({ details: given.details, ...readInProcess(given) }),
};
const goesOn: SpecReader = {
  fields: { details: z.unknown().optional(), input: z.unknown().optional() },
  read: ({ details, input }) => ({ details, input }),
};

/** How a spec of this kind is read. */
export function specReaderOf(kind: KindRuntime): SpecReader {
  return kind.spec ?? (kind.start ? goesOn : inProcess);
}

/** Whether a launch needs something that a later owner must be given again: `start` was called with an input, and no record holds it. */
export function hasUnrecordedInput(kind: KindRuntime, input: unknown): boolean {
  return kind.start !== undefined && kind.missing === undefined && input !== undefined;
}

/** What a launch is given belongs to a task from now on. Gives it back by the function that it returns: the registration is refused. */
export function takeInput(input: unknown): () => void {
  return input instanceof ExistingWork ? input.take() : () => undefined;
}
