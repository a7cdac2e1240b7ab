/* The supervisor's script itself, in every shell that is installed here. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { SHIM, supervisorArguments, TRIES_WITHOUT_FOLDER } from '../../../src/process/supervisor/shim.js';
import { isAlive, ProcessLab, spawned } from '../../helpers/process.js';
import { tempDirectory, until } from '../../helpers/wait.js';

const installed = (name: string): string[] => {
  const found = spawnSync('sh', ['-c', `command -v ${name}`])
    .stdout.toString()
    .trim();
  return found === '' ? [] : [found];
};
const shells = ['dash', 'bash', 'busybox'].flatMap(installed);

/** What ends a process by default, but for its own faults and the real-time signals. */
const catchable = [
  ...(['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGPIPE', 'SIGABRT'] as const),
  ...(['SIGPROF', 'SIGVTALRM', 'SIGXCPU', 'SIGXFSZ'] as const),
  ...(process.platform === 'linux' ? (['SIGIO', 'SIGPWR', 'SIGSTKFLT'] as const) : []),
];

it('is tried in at least one shell', () => {
  expect(shells.length).toBeGreaterThan(0);
});

describe.each(shells)('the shim in %s', (path) => {
  /** As `/bin/sh`: bash behaves otherwise under its own name. */
  function shell(): { file: string; runDir: string } {
    const folder = tempDirectory();
    const file = join(folder, 'sh');
    symlinkSync(path, file);
    return { file, runDir: folder };
  }

  function run(command: string | string[], env: NodeJS.ProcessEnv = { PATH: process.env.PATH }, umask = '0022') {
    const { file, runDir } = shell();
    const args = supervisorArguments({ runDir, taskId: 'a', umask, command });
    const { status, stdout, stderr } = spawnSync(file, [...args], {
      env,
      encoding: 'utf8',
      timeout: 20_000,
    });
    const read = (name: string) =>
      existsSync(join(runDir, name)) ? readFileSync(join(runDir, name), 'utf8') : undefined;
    return { status, stdout, stderr, exit: read('a.exit'), pid: read('a.pid'), runDir };
  }

  it.each([
    ['true', 0],
    ['exit 3', 3],
    ['exit 255', 255],
    ['kill -9 $$', 137],
    ['kill -TERM $$', 143],
    [['no-such-command-here'], 127],
    [['/'], 126],
    [['exit', '3'], 127],
    [['ulimit', '-n'], 127],
    [['-x'], 127],
  ])('writes down how %j ended: %i', (command, code) => {
    const { status, exit, pid } = run(command);
    expect(exit).toBe(`${code}\n`);
    expect(status).toBe(code);
    expect(pid).toMatch(/^\d+\n$/);
  });

  it('says what could not be run, and nothing else, in the output', () => {
    expect(run(['no-such-command-here']).stderr).toContain('no-such-command-here');
    expect(run('kill -9 $$').stderr).toBe('');
  });

  it('keeps its own files private and gives the command the umask it was told', () => {
    const { stdout, runDir } = run('umask', undefined, '0027');
    expect(stdout.trim()).toBe('0027');
    for (const name of ['a.pid', 'a.exit']) expect(statSync(join(runDir, name)).mode & 0o777).toBe(0o600);
  });

  it('hands on the environment, names of the shell variables it might use included', () => {
    const env = { PATH: process.env.PATH, r: '1', t: '2', m: '3', c: '4', i: '5', HOME: '/nowhere', IFS: 'x' };
    const got = Object.fromEntries(
      run(['env'], env)
        .stdout.trim()
        .split('\n')
        .map((line) => line.split('=')),
    );
    expect(got).toMatchObject({ r: '1', t: '2', m: '3', c: '4', i: '5', HOME: '/nowhere' });
  });

  it('hands on no descriptor of its own', () => {
    // What a command of the host's own gets is the measure: a test runner leaks some of its descriptors.
    const plain = spawnSync('sh', ['-c', 'ls /proc/self/fd'], { encoding: 'utf8' }).stdout;
    expect(run('ls /proc/self/fd').stdout).toBe(plain);
  });

  it('is not led astray by shell options and functions in the environment', () => {
    const { status, exit, stdout, stderr } = run('echo fine; exit 3', {
      PATH: process.env.PATH,
      'BASH_FUNC_echo%%': '() { builtin echo odd "$@"; }',
      'BASH_FUNC_umask%%': '() { return 1; }',
      SHELLOPTS: 'xtrace:errexit:nounset:noglob',
      ENV: '/no/such/file',
    });
    expect({ status, exit }).toEqual({ status: 3, exit: '3\n' });
    expect(stdout).toContain('fine');
    expect(stderr).not.toContain('umask');
  });

  it('runs nothing where the right to run is taken', () => {
    const { file, runDir } = shell();
    writeFileSync(join(runDir, 'a.pid'), 'void\n');
    const args = supervisorArguments({ runDir, taskId: 'a', umask: '0022', command: ['touch', join(runDir, 'ran')] });
    const { status, stderr } = spawnSync(file, [...args], { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 125, stderr: '' });
    expect(existsSync(join(runDir, 'ran'))).toBe(false);
    expect(existsSync(join(runDir, 'a.exit'))).toBe(false);
  });

  it.each(catchable)('outlives a %s that ends its command, whose disposition is the default', async (signal) => {
    const { file, runDir } = shell();
    const args = supervisorArguments({ runDir, taskId: 'a', umask: '0022', command: ['sleep', '60'] });
    const child = spawned(file, [...args], { detached: true });
    const exited = once(child, 'exit');
    await until(() => {
      const children = spawnSync('ps', ['-o', 'args=', '--ppid', `${child.pid}`], { encoding: 'utf8' }).stdout;
      // The subshell on its way there has the supervisor's own command line, which ends like this, and may swallow the
      // signal.
      return children.trim() === 'sleep 60';
    });
    process.kill(-child.pid!, signal);
    await exited;
    expect(readFileSync(join(runDir, 'a.exit'), 'utf8')).toBe(`${128 + constants.signals[signal]}\n`);
  });

  it('runs nothing where it cannot write down that it began', () => {
    const { file, runDir } = shell();
    const nowhere = join(runDir, 'no', 'such');
    const args = supervisorArguments({ runDir: nowhere, taskId: 'a', umask: '0022', command: 'true' });
    expect(spawnSync(file, [...args]).status).toBe(125);
  });

  /** A `sleep` that takes no time, and writes down that it was called. What comes after that line it does each time. */
  function sleepless(script: string): { PATH: string; sleeps: () => number } {
    const bin = tempDirectory();
    const count = join(bin, 'count');
    writeFileSync(join(bin, 'sleep'), `#!/bin/sh\necho >>${count}\n${script}\n`, { mode: 0o755 });
    const sleeps = () => (existsSync(count) ? readFileSync(count, 'utf8').length : 0);
    return { PATH: `${bin}:${process.env.PATH}`, sleeps };
  }

  it('gives up on its record once the folder was away for a minute of tries', () => {
    const { file, runDir } = shell();
    const { PATH, sleeps } = sleepless('');
    const args = supervisorArguments({ runDir, taskId: 'a', umask: '0022', command: `rm -rf '${runDir}'; exit 6` });
    expect(spawnSync(file, [...args], { env: { PATH } }).status).toBe(6);
    expect(sleeps()).toBe(TRIES_WITHOUT_FOLDER);
  });

  it.each([
    [
      'is moved away and comes back',
      (dir: string) => `mv '${dir}' '${dir}.away'`,
      (dir: string) => `mv '${dir}.away' '${dir}'`,
    ],
    ['is deleted and made again', (dir: string) => `rm -rf '${dir}'`, (dir: string) => `mkdir '${dir}'`],
  ])('keeps the exit code while its folder %s', (_what, away, back) => {
    const { file } = shell();
    const runDir = join(tempDirectory(), '.run');
    mkdirSync(runDir);
    const late = TRIES_WITHOUT_FOLDER - 1;
    const { PATH, sleeps } = sleepless(`[ "$(wc -l <"\${0%/*}/count")" -lt ${late} ] || ${back(runDir)}`);
    const args = supervisorArguments({ runDir, taskId: 'a', umask: '0022', command: `${away(runDir)}; exit 6` });
    expect(spawnSync(file, [...args], { env: { PATH } }).status).toBe(6);
    expect(readFileSync(join(runDir, 'a.exit'), 'utf8')).toBe('6\n');
    expect(sleeps()).toBe(late);
  });

  it('counts anew each time its folder is there', () => {
    const { file } = shell();
    const runDir = join(tempDirectory(), '.run');
    mkdirSync(join(runDir, 'a.exit'), { recursive: true });
    // There at every fourth try only, with a record that cannot be written; at the last it can.
    const script = [
      `n=$(wc -l <"\${0%/*}/count")`,
      `if [ $n -ge ${TRIES_WITHOUT_FOLDER + 4} ]; then rm -rf '${runDir}' && mkdir '${runDir}'`,
      `elif [ $((n % 4)) = 0 ]; then mkdir -p '${runDir}/a.exit'`,
      `else rm -rf '${runDir}'; fi`,
    ];
    const { PATH, sleeps } = sleepless(script.join('\n'));
    const args = supervisorArguments({ runDir, taskId: 'a', umask: '0022', command: 'exit 6' });
    expect(spawnSync(file, [...args], { env: { PATH } }).status).toBe(6);
    expect(readFileSync(join(runDir, 'a.exit'), 'utf8')).toBe('6\n');
    expect(sleeps()).toBe(TRIES_WITHOUT_FOLDER + 4);
  });

  it.each([
    ['a FIFO', 'mkfifo'],
    ['a link to a device', 'ln -s /dev/zero'],
    ['a link to nothing', 'ln -s nothing'],
    ['a record of its own', 'echo 0 >'],
  ])('writes its record in the place of %s that its command put there', (_what, make) => {
    const { file, runDir } = shell();
    const command = `cd '${runDir}' && ${make} a.exit && exit 7`;
    const args = supervisorArguments({ runDir, taskId: 'a', umask: '0022', command });
    expect(spawnSync(file, [...args], { timeout: 20_000 }).status).toBe(7);
    expect(lstatSync(join(runDir, 'a.exit')).isFile()).toBe(true);
    expect(readFileSync(join(runDir, 'a.exit'), 'utf8')).toBe('7\n');
    expect(existsSync(join(runDir, 'nothing'))).toBe(false);
  });

  it('goes on trying while the record cannot be written', async () => {
    const { file, runDir } = shell();
    spawnSync('mkdir', [join(runDir, 'a.exit')]);
    const args = supervisorArguments({ runDir, taskId: 'a', umask: '0022', command: 'exit 4' });
    const child = spawned(file, [...args], { detached: true });
    const exited = once(child, 'exit');
    await until(() => existsSync(join(runDir, 'a.pid')));
    expect(isAlive(child.pid!)).toBe(true);
    spawnSync('rmdir', [join(runDir, 'a.exit')]);
    expect((await exited)[0]).toBe(4);
    expect(readFileSync(join(runDir, 'a.exit'), 'utf8')).toBe('4\n');
  });
});

describe('the arguments of a supervisor', () => {
  const own = ['-c', SHIM, 'holdfast', '/run', 'a', '0022'];
  const of = (command: string | string[]) =>
    supervisorArguments({ runDir: '/run', taskId: 'a', umask: '0022', command });

  it('end with the command: a text for the shell, an argument vector as it stands', () => {
    expect(of('echo $HOME')).toEqual([...own, '/bin/sh', '-c', 'echo $HOME']);
    expect(of(['npm', 'test'])).toEqual([...own, 'npm', 'test']);
  });

  it('never let a command pass for an option of the shell', async () => {
    expect(of('-x')).toEqual([...own, '/bin/sh', '-c', ' -x']);
    expect(of(['-x', 'y'])).toEqual([...own, 'env', '--', '-x', 'y']);
    const lab = new ProcessLab();
    expect(await lab.outcome('-x')).toMatchObject({ details: { exitCode: 127 } });
    expect(await lab.outcome('+x')).toMatchObject({ details: { exitCode: 127 } });
  });
});
