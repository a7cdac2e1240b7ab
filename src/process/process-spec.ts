import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { BackgroundTaskError } from '../errors.js';
import { countOrInfinity, textWithoutNul } from '../task/fields.js';
import type { SpecReader } from '../task/kind-runtime.js';
import { validate } from '../task/problems.js';
import type { ProcessDetails } from '../task/types.js';

/** What a process is started with and no record holds. */
export interface ProcessInput {
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  readonly inheritEnv?: boolean | undefined;
}

const COMMAND =
  'expected a command without NUL bytes: a string that is not blank, or an array of strings that begins with a program';

const line = z.custom<string>(
  (value) => typeof value === 'string' && value.trim() !== '' && !value.includes('\0'),
  COMMAND,
);

const command = z.union([
  line,
  z
    .array(textWithoutNul)
    .min(1, COMMAND)
    .readonly()
    .refine((argv) => argv[0] !== '', COMMAND),
]);

const CWD = 'expected a path without a NUL byte, or a file: URL';

const cwd = z.union(
  [
    z.custom<string>((value) => typeof value === 'string' && value !== '' && !value.includes('\0'), CWD),
    z.instanceof(URL).refine((url) => url.protocol === 'file:', CWD),
  ],
  { error: CWD },
);

/** The names and values that an environment can hold. `process.env` is no plain object, hence the copy. */
const env = z.preprocess(
  (value) => (typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : value),
  z.record(
    z.string().regex(/^[^=\0]+$/, 'expected a variable name without "=" and NUL bytes'),
    textWithoutNul.optional(),
  ),
);

const fields = {
  command,
  cwd: cwd.optional(),
  env: env.optional(),
  inheritEnv: z.boolean().optional(),
  maxOutputBytes: countOrInfinity(1).optional(),
};

const recovered = z.strictObject({ env: fields.env });

type Fields = z.infer<z.ZodObject<typeof fields>>;

/** What the launch of a process needs and its record does not hold, for people; `undefined`: nothing. */
export function missingEnvironment({ envNames = [], inheritEnv }: ProcessDetails): string | undefined {
  if (envNames.length > 0) return `the values of its environment variables (${envNames.join(', ')})`;
  return inheritEnv === false ? 'the values of its environment (inheritEnv: false)' : undefined;
}

/** What `recoverProcess` answered, checked. Throws `INVALID_OPTIONS`. */
export function recoveredInput(answer: unknown, { inheritEnv }: ProcessDetails): ProcessInput {
  // The values may be secrets: only what is wrong with them is said.
  const { data, problem } = validate(recovered, answer, ['env']);
  if (problem !== undefined) throw new BackgroundTaskError('INVALID_OPTIONS', `recoverProcess: ${problem}`);
  return { env: data.env, inheritEnv };
}

/** How the spec of a process is read. A relative `cwd` is resolved against the host's, at registration. */
export const processSpecReader: SpecReader = {
  fields,
  read(spec: Fields) {
    const folder = spec.cwd instanceof URL ? fileURLToPath(spec.cwd) : spec.cwd;
    const input: ProcessInput = { env: spec.env, inheritEnv: spec.inheritEnv };
    const envNames = Object.keys(spec.env ?? {});
    return {
      details: {
        command: spec.command,
        cwd: resolve(folder ?? process.cwd()),
        pid: null,
        exitCode: null,
        signal: null,
        ...(envNames.length > 0 && { envNames }),
        ...(spec.inheritEnv === false && { inheritEnv: false }),
      },
      input,
      maxOutputBytes: spec.maxOutputBytes,
    };
  },
};
