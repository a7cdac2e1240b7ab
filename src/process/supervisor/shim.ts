/*
 * The supervisor: a few lines of shell between the host and the command. It is a session and group of its own, survives
 * a SIGTERM to that group, and writes down how the command ended, whether or not a host still lives.
 *
 * Called as `/bin/sh -c SHIM holdfast <runDir> <taskId> <umask> <argv…>`. It works with positional parameters only: a
 * variable of its own would overwrite one of the same name that the task's environment holds, on its way to the
 * command.
 */

/** The supervisor's `$0`; its command line is how a supervisor is told from a stranger with a recycled pid. */
export const SUPERVISOR_NAME = 'holdfast';

/** The supervisor's exit code when another one, or a recovery, had the right to run: nothing was run. */
export const NOTHING_RAN = 125;

export const SHELL = '/bin/sh';

/** So many tries in a row, a second apart, find no run folder before a supervisor gives its record up. */
export const TRIES_WITHOUT_FOLDER = 60;

/*
 * - Options and functions that the environment may bring along (bash reads both) are undone first, with their messages
 *   discarded.
 * - The signals get a handler, not "ignore": handlers are reset at exec, so the command begins with the default
 *   dispositions. They are all that end a process by default and can be caught, but for those that tell of a fault of
 *   its own (where a handler would be called for ever) and the real-time ones. The last three, SIGSTKFLT being 16, are
 *   not known to every system or shell: `command` keeps an unknown one from ending the shell.
 * - The shell's own messages stay out of the output; descriptor 3 keeps the way to it for the command.
 * - `set -C` makes the creation of `.pid` exclusive: the process that creates it has the right to run.
 * - `exec` looks for a program only: no builtin of the shell can take the command's place.
 * - From there on `$1` is the folder, `$2` the exit record, `$3` the exit code, `$4` the number of tries in a row
 *   without a folder.
 * - A link or a FIFO that a task put in the place of its exit record is removed: writing to it would lose the code, or
 *   block for ever.
 * - A full disk, or a folder that cannot be reached for a while, delays the exit code and does not lose it. Only a
 *   folder that is not there for a minute of tries is taken for deleted.
 */
export const SHIM = `{ set +eux; unset -f command echo rm sleep umask; trap : HUP INT QUIT ABRT ALRM PIPE PROF TERM USR1 USR2 VTALRM XCPU XFSZ; command trap : 16 IO PWR; } 2>/dev/null
exec 3>&2 2>/dev/null
umask 077
set -C
echo $$ >"$1/$2.pid" || exit ${NOTHING_RAN}
set +C
(umask "$3"; shift 3; exec "$@") 2>&3 3>&-
set -- "$1" "$1/$2.exit" $? 0
until { [ ! -h "$2" ] && [ ! -p "$2" ] || rm -f "$2"; } && echo $3 >"$2"
do
[ -d "$1" ] && set -- "$1" "$2" $3 0
[ $4 -lt ${TRIES_WITHOUT_FOLDER} ] || break
set -- "$1" "$2" $3 $(($4 + 1))
sleep 1 || /bin/sleep 1
done
exit $3`;

/** What a supervisor is started for. */
export interface SupervisorArguments {
  readonly runDir: string;
  readonly taskId: string;
  /** Octal digits; the command's, while the supervisor's own files are private whatever it is. */
  readonly umask: string;
  readonly command: string | readonly string[];
}

/** The arguments of `/bin/sh` that make it a supervisor. */
export function supervisorArguments({ runDir, taskId, umask, command }: SupervisorArguments): string[] {
  return ['-c', SHIM, SUPERVISOR_NAME, runDir, taskId, umask, ...commandArguments(command)];
}

function commandArguments(command: string | readonly string[]): readonly string[] {
  // A shell would take a command that begins like an option for one; a blank before it changes nothing else.
  if (typeof command === 'string') return [SHELL, '-c', /^[-+]/.test(command) ? ` ${command}` : command];
  // Some shells have options for exec, and some of those have no way to say where they end.
  return command[0]?.startsWith('-') ? ['env', '--', ...command] : command;
}
