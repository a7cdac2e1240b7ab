/* Hosts in processes of their own, to be killed: they import the built package, as a host would. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

const repository = fileURLToPath(new URL('../..', import.meta.url));

/** A host that runs a script, and what it said. */
export interface Host {
  readonly child: ChildProcess;
  /** Resolves with the next line it says through `say`. Rejects when it exits before. */
  next(): Promise<any>;
  /** Resolves once it has ended, with its exit code or signal. */
  readonly ended: Promise<number | string>;
  kill(): Promise<void>;
  readonly stderr: () => string;
}

/**
 * Runs `script` (an ES module; `holdfast`, `directory` and `say(value)` are there) in a new process. `wrapper` is a command that runs the rest
 * of its arguments.
 */
export function startHost(
  script: string,
  directory: string,
  env: NodeJS.ProcessEnv = {},
  wrapper: readonly string[] = [],
): Host {
  const prelude = `
    import * as holdfast from 'holdfast';
    const { BackgroundTaskManager } = holdfast;
    const directory = process.env.HOST_DIRECTORY;
    const say = (value) => process.stdout.write(JSON.stringify(value ?? null) + '\\n');
  `;
  const [file = '', ...args] = [...wrapper, process.execPath, '--input-type=module', '-e', prelude + script];
  const child = spawn(file, args, {
    cwd: repository,
    env: { ...process.env, NODE_OPTIONS: '', HOST_DIRECTORY: directory, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let errors = '';
  child.stderr!.on('data', (chunk) => {
    errors += chunk;
  });
  const ended = once(child, 'close').then(([code, signal]) => signal ?? code);
  const lines = linesOf(child);
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  return {
    child,
    ended,
    stderr: () => errors,
    async next() {
      const { value, done } = await lines.next();
      if (done) throw new Error(`the host ended (${await ended}) without a word: ${errors}`);
      return JSON.parse(value);
    },
    async kill() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

async function* linesOf(child: ChildProcess): AsyncGenerator<string, void, undefined> {
  let rest = '';
  for await (const chunk of child.stdout!) {
    const parts = (rest + chunk).split('\n');
    rest = parts.pop()!;
    yield* parts;
  }
}

/**
 * The ids of tasks below `directory` whose supervisor is alive, by the process table's own account. Each once: a subshell that has not
 * come to its command yet has the supervisor's command line.
 */
export function supervisors(directory: string): string[] {
  const found = new Set<string>();
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const argv = argvOf(pid);
    const at = argv.indexOf('holdfast');
    if (at > 0 && argv[at + 1] === `${directory}/.run` && argv[at - 2] === '-c') found.add(argv[at + 2]!);
  }
  return [...found];
}

function argvOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return []; // it ended meanwhile
  }
}
