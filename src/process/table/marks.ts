/*
 * Whose a process is, as its environment tells. `HOLDFAST_TASK` names the task that it was launched for. A host that
 * runs inside a task launches tasks of its own: their processes carry the marks of all tasks around them in
 * `HOLDFAST_ANCESTORS`, so that a stop of the outer task reaches them too.
 *
 * A process belongs to one task of a directory, the innermost of its marks there: a task that a host registered is not
 * part of another task that the same host has on record, even if the host itself was started by it.
 */

/** What a process of a task carries in its environment: `<runDir>/<taskId>`. */
export const TASK_VARIABLE = 'HOLDFAST_TASK';

/**
 * The marks of all tasks around, the outermost first, each encoded and separated by `:`. Absent where there is none.
 */
export const ANCESTORS_VARIABLE = 'HOLDFAST_ANCESTORS';

const SEPARATOR = ':';

/** The value of {@link TASK_VARIABLE} for a task. */
export function taskMark(runDir: string, taskId: string): string {
  return `${runDir}/${taskId}`;
}

/**
 * Sets the marks in the environment of a task's processes, whatever else it holds. `host` is this process's own
 * environment.
 */
export function setMarks(env: NodeJS.ProcessEnv, mark: string, host: NodeJS.ProcessEnv = process.env): void {
  const around = [host[ANCESTORS_VARIABLE], host[TASK_VARIABLE] && encodeMark(host[TASK_VARIABLE])].filter(Boolean);
  env[TASK_VARIABLE] = mark;
  if (around.length > 0) env[ANCESTORS_VARIABLE] = around.join(SEPARATOR);
  else delete env[ANCESTORS_VARIABLE];
}

/**
 * No separator, blank or line break is left: the list can be cut, also where `ps` shows it on one line among others.
 */
function encodeMark(mark: string): string {
  return encodeURIComponent(Buffer.from(mark).toString()).replaceAll('%2F', '/');
}

/** Reads the marks of tasks below one run folder. */
export class MarkReader {
  /** What `HOLDFAST_TASK` begins with, up to the task's id. */
  readonly own: string;
  /** What an entry of `HOLDFAST_ANCESTORS` begins with, up to the task's id. */
  readonly ancestor: string;

  constructor(runDir: string) {
    this.own = taskMark(runDir, '');
    this.ancestor = encodeMark(this.own);
  }

  /** The innermost task of this run folder in a value of `HOLDFAST_ANCESTORS`. */
  innermost(list: string): string | undefined {
    return list
      .split(SEPARATOR)
      .findLast((mark) => mark.startsWith(this.ancestor))
      ?.slice(this.ancestor.length);
  }
}
