/* What the specs of in-process kinds have beside the common fields: a `run`, or work that is there already. */
import { z } from 'zod';
import { BackgroundTaskError } from '../../errors.js';
import { callable } from '../../task/fields.js';
import type { SpecReader } from '../../task/kind-runtime.js';
import { ExistingWork, type GivenWork, isSource, isThenable } from './existing-work.js';

const work = z.strictObject({
  done: z.custom<PromiseLike<unknown>>(isThenable, 'expected a promise'),
  output: z
    .custom<GivenWork['output']>(
      (value) => value === undefined || isSource(value) || (Array.isArray(value) && value.every(isSource)),
      'expected a stream or another async iterable of strings and Uint8Arrays, or an array of them',
    )
    .optional(),
  stop: z.custom<GivenWork['stop']>((value) => typeof value === 'function', 'expected a function').optional(),
});

export const inProcessFields = { run: callable.optional(), work: work.optional() };

/** The parsed fields, and those of the common ones that matter here. */
export interface InProcessFields {
  readonly run?: unknown;
  readonly work?: GivenWork | undefined;
  readonly whenFull?: string | undefined;
  readonly queueTimeoutMs?: number | undefined;
}

type Read = Omit<ReturnType<SpecReader['read']>, 'details'>;

/** Throws `INVALID_SPEC`. */
export function readInProcess(spec: InProcessFields): Read {
  const { run, work: given } = spec;
  if (!given) {
    if (!run) throw invalid('run: is missing; expected a function, or work beside no run');
    return { input: run };
  }
  if (run) throw invalid('work: expected either run or work, got both');
  // It runs already: a record that says `queued` would make that up.
  const idle = (['whenFull', 'queueTimeoutMs'] as const).find((name) =>
    name === 'whenFull' ? spec.whenFull === 'queue' : spec.queueTimeoutMs,
  );
  if (idle) throw invalid(`${idle}: would have no effect; expected no work beside it: what runs already is not queued`);
  return { input: new ExistingWork(given), whenFull: 'reject' };
}

function invalid(message: string): BackgroundTaskError {
  return new BackgroundTaskError('INVALID_SPEC', message);
}
