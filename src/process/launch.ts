import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { constants, readFileSync } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import { asError } from '../errors.js';
import { openToAppend } from '../util/bounded-file.js';
import { systemCode, unlessCode } from '../util/system-error.js';
import { setMarks } from './marks.js';
import type { ProcessInput } from './process-spec.js';
import { attached, SHELL, supervisorArguments, taskMark } from './shim.js';
import { spawnTurn } from './spawn-turn.js';
import type { SeenEnd } from './work.js';

export interface LaunchRequest {
  readonly runDir: string;
  readonly taskId: string;
  readonly command: string | readonly string[];
  readonly cwd: string | null;
  readonly outputPath: string;
  readonly input: ProcessInput | undefined;
  /** Called before the launch when it is no longer wanted. Throws. */
  readonly checkWanted: () => void;
  /** Called in the turn in which it began, with its pid. */
  readonly onBegin: (pid: number) => void;
  /** Called in the turn in which the system told us. */
  readonly onEnd: (end: SeenEnd) => void;
}

/** Starts the supervisor, or throws saying in plain words why it could not. Its handle does not hold the process. Answers its pid. */
export async function launch(request: LaunchRequest): Promise<number> {
  const output = await openToAppend(request.outputPath);
  try {
    await spawnTurn();
    request.checkWanted();
    return await begun(spawnWithOutput(request, output.fd), request);
  } catch (error) {
    throw await explained(error, request);
  } finally {
    await output.close();
  }
}

function spawnWithOutput(request: LaunchRequest, fd: number): ChildProcess {
  const { command, cwd } = request;
  const options: SpawnOptions = {
    ...(cwd !== null && { cwd }),
    env: environment(request),
    stdio: ['ignore', fd, fd],
    detached: !attached,
    windowsHide: true,
  };
  if (!attached) return spawn(SHELL, supervisorArguments({ ...request, umask: currentUmask() }), options);
  if (typeof command === 'string') return spawn(command, { ...options, shell: true });
  return spawn(command[0]!, command.slice(1), options);
}

/** Most refusals come as an event, some are thrown by `spawn` itself. */
function begun(child: ChildProcess, { onBegin, onEnd }: LaunchRequest): Promise<number> {
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

/** The host's environment and the task's own variables; `undefined` removes one. The marks are set whatever these say. */
function environment({ runDir, taskId, input }: LaunchRequest): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = Object.assign(Object.create(null), input?.inheritEnv === false ? {} : process.env);
  for (const [name, value] of Object.entries(input?.env ?? {})) {
    if (value === undefined) delete env[name];
    else env[name] = value;
  }
  setMarks(env, taskMark(runDir, taskId));
  return env;
}

/**
 * The host's umask, for the command's files. `process.umask()` sets it to 0 for a moment, in which any thread of the host could create a
 * file that everybody may write: so it is only asked where the system does not tell otherwise.
 */
function currentUmask(): string {
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

async function explained(error: unknown, { cwd }: LaunchRequest): Promise<Error> {
  const code = systemCode(error);
  const reason = code === undefined ? undefined : (explanations[code] ?? (await explainPath(code, cwd)));
  return reason === undefined ? asError(error) : Object.assign(new Error(reason, { cause: error }), { code });
}

const explanations: Readonly<Record<string, string>> = {
  E2BIG: 'the command, with its environment, is longer than the system allows',
  EAGAIN: 'the system allows no further process now',
  EMFILE: 'this process has too many files open',
  ENFILE: 'the system has too many files open',
  ENOMEM: 'the system has no memory left for a further process',
};

/** The system says only that some path was wrong: the working directory's, or the shell's. */
async function explainPath(code: string, cwd: string | null): Promise<string | undefined> {
  if (!['ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP', 'ENAMETOOLONG', 'EPERM'].includes(code)) return undefined;
  return (await explainFolder(cwd)) ?? (await explainShell());
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

async function explainShell(): Promise<string | undefined> {
  if (attached) return undefined;
  const executable = await unlessCode(
    ['ENOENT', 'EACCES', 'ENOTDIR'],
    access(SHELL, constants.X_OK).then(() => true),
  );
  return executable ? undefined : `there is no ${SHELL} that can be run: without it nothing can outlive this host`;
}
