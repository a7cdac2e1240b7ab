/* Creating the child process of a task, and what is said where the system refuses. */
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { constants, readFileSync } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { asError } from '../../errors.js';
import type { OutputFile } from '../../output/output-file.js';
import { systemCode, unlessCode } from '../../util/system-error.js';
import type { ProcessInput } from '../process-spec.js';
import { setMarks } from '../table/marks.js';
import type { SeenEnd } from './outcome.js';
import { SHELL } from './shim.js';
import { spawnTurn } from './spawn-turn.js';

/** How a child is created whose output goes to the file of a task. */
export interface SpawnRequest {
  readonly output: OutputFile;
  readonly cwd: string | null;
  /** Creates it. Most refusals come as its `error` event, some are thrown here. */
  create(stdio: SpawnOptions): ChildProcess;
  /** Says what else may be wrong with a path, where `cwd` is not the reason. */
  explain?(): Promise<string | undefined>;
  /** Called right before it is created. Throws when it is no longer wanted. */
  checkWanted(): void;
  /** Called in the turn in which it was created. */
  onBegin(pid: number): void;
  /** Called in the turn in which the system reported its end. */
  onEnd(end: SeenEnd): void;
}

/**
 * Creates the child. Its handle does not hold this process. Answers its pid, or throws an error whose message says why
 * there is none.
 */
export async function spawnWithOutput(request: SpawnRequest): Promise<number> {
  const file = await request.output.openToAppend();
  try {
    await spawnTurn();
    request.checkWanted();
    return await begun(request.create({ stdio: ['ignore', file.fd, file.fd] }), request);
  } catch (error) {
    throw await explained(error, request);
  } finally {
    await file.close();
  }
}

function begun(child: ChildProcess, { onBegin, onEnd }: SpawnRequest): Promise<number> {
  child.unref();
  const { pid } = child;
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    if (pid === undefined) return;
    onBegin(pid);
    child.once('exit', (code, signal) => onEnd({ code, signal }));
    resolve(pid);
  });
}

/**
 * The host's environment and the task's own variables; `undefined` removes one. The marks are set whatever these say.
 */
export function environment(input: ProcessInput | undefined, mark: string): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = Object.assign(Object.create(null), input?.inheritEnv === false ? {} : process.env);
  for (const [name, value] of Object.entries(input?.env ?? {})) {
    if (value === undefined) delete env[name];
    else env[name] = value;
  }
  setMarks(env, mark);
  return env;
}

/**
 * The host's umask, for the command's files. `process.umask()` sets it to 0 for a moment, in which any thread of the
 * host could create a file with write permission for all users: so it is only called where the system does not tell
 * otherwise.
 */
export function currentUmask(): string {
  const told = process.platform === 'linux' ? /^Umask:\s*([0-7]+)$/m.exec(ownStatus())?.[1] : undefined;
  return told ?? process.umask().toString(8).padStart(4, '0');
}

function ownStatus(): string {
  try {
    return readFileSync('/proc/self/status', 'latin1');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return '';
    throw error;
  }
}

async function explained(error: unknown, request: SpawnRequest): Promise<Error> {
  const code = systemCode(error);
  const reason = code === undefined ? undefined : (explanations[code] ?? (await explainPath(code, request)));
  return reason === undefined ? asError(error) : Object.assign(new Error(reason, { cause: error }), { code });
}

const explanations: Readonly<Record<string, string>> = {
  E2BIG: 'the command, with its environment, is longer than the system allows',
  EAGAIN: 'the system allows no further process now',
  EMFILE: 'this process has too many files open',
  ENFILE: 'the system has too many files open',
  ENOMEM: 'the system has no memory left for a further process',
};

/** The system says only that some path was wrong: the working directory's, or the program's. */
async function explainPath(code: string, { cwd, explain }: SpawnRequest): Promise<string | undefined> {
  if (!['ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP', 'ENAMETOOLONG', 'EPERM'].includes(code)) return undefined;
  return (await explainFolder(cwd)) ?? (await explain?.());
}

async function explainFolder(cwd: string | null): Promise<string | undefined> {
  if (cwd === null) return undefined;
  try {
    if (!(await stat(cwd)).isDirectory()) return `cwd is not a folder: ${cwd}`;
    await access(cwd, constants.X_OK);
    return undefined;
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT') return `cwd does not exist: ${cwd}`;
    if (code === 'EACCES') return `cwd cannot be entered, permission denied: ${cwd}`;
    return `cwd cannot be used: ${asError(error).message}`;
  }
}

/** Why the shell cannot be run, if that is the reason. */
export async function explainShell(): Promise<string | undefined> {
  const executable = await unlessCode(
    ['ENOENT', 'EACCES', 'ENOTDIR'],
    access(SHELL, constants.X_OK).then(() => true),
  );
  return executable ? undefined : `there is no ${SHELL} that can be run: without it nothing can outlive this host`;
}
