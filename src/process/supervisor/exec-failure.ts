/*
 * Whether an exit code of 126 or 127 is that of the command, or says that the supervisor found no such program. The
 * supervisor cannot say: a shell whose `exec` fails ends with the same codes. So the program is looked for where the
 * supervisor did, and only what is not there, or cannot be executed, is called so; a command that ran and chose such a
 * code itself has its program still there.
 */
import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { show } from '../../task/show.js';
import type { ProcessDetails, TaskError } from '../../task/types.js';
import { systemCode } from '../../util/system-error.js';
import type { ProcessInput } from '../process-spec.js';

const NOT_EXECUTABLE = 126;
const NOT_FOUND = 127;

/** Where shells look when the environment has no PATH. */
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The PATH of a task that is launched with this. */
export function searchPathOf(input: ProcessInput | undefined): string {
  const { env = {}, inheritEnv } = input ?? {};
  const own = Object.hasOwn(env, 'PATH');
  return (own ? env.PATH : inheritEnv === false ? undefined : process.env.PATH) ?? DEFAULT_PATH;
}

/**
 * The error of a command vector whose program was not there or could not be executed; `undefined` for any other end.
 * `searchPath` is known of tasks that this host launched: of others, a program without a folder in its name is not
 * judged.
 */
export async function execFailure(
  { command, cwd }: ProcessDetails,
  code: number,
  searchPath: string | undefined,
): Promise<TaskError | undefined> {
  const program = typeof command === 'string' ? undefined : command[0];
  // One that begins like an option is run by `env`, which exits with these codes as well.
  if (!program || program.startsWith('-') || (code !== NOT_FOUND && code !== NOT_EXECUTABLE)) return undefined;
  const places = placesOf(program, cwd ?? '/', searchPath);
  if (places.length === 0) return undefined;
  const found = await Promise.all(places.map(findProgram));
  if (code === NOT_FOUND) {
    if (found.some((what) => what !== 'missing')) return undefined;
    const where = program.includes('/') ? '' : ' on the PATH';
    return { name: 'CommandNotFoundError', message: `there is no program ${show(program)}${where}` };
  }
  if (!found.includes('present') || found.includes('executable')) return undefined;
  return { name: 'CommandNotExecutableError', message: `${show(program)} is there, and cannot be executed` };
}

function placesOf(program: string, cwd: string, searchPath: string | undefined): readonly string[] {
  if (program.includes('/')) return [resolve(cwd, program)];
  return searchPath === undefined ? [] : searchPath.split(':').map((folder) => resolve(cwd, folder, program));
}

/** What cannot be looked at may be a program. */
async function findProgram(path: string): Promise<'missing' | 'present' | 'executable'> {
  try {
    if (!(await stat(path)).isFile()) return 'present';
    await access(path, constants.X_OK);
    return 'executable';
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return 'missing';
    return 'present';
  }
}
