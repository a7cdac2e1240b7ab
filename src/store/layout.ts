import { join } from 'node:path';

/**
 * Where everything is below a directory: the one place that builds paths from ids. Ids were checked before they come
 * here.
 */
export class Layout {
  /** The real path of the directory. */
  readonly directory: string;
  /** One folder on purpose: one watcher sees every exit. */
  readonly runDir: string;
  readonly ownerDir: string;
  readonly rejectedDir: string;
  /** Folders of legacy tasks whose name is not the task's id. */
  readonly #legacyFolders = new Map<string, string>();

  constructor(directory: string) {
    this.directory = directory;
    this.runDir = join(directory, '.run');
    this.ownerDir = join(directory, '.owner');
    this.rejectedDir = join(directory, '.rejected');
  }

  recordPath(taskId: string): string {
    return join(this.directory, `${taskId}.json`);
  }
  taskDir(taskId: string): string {
    return join(this.directory, this.#legacyFolders.get(taskId) ?? taskId);
  }
  outputPath(taskId: string): string {
    return join(this.taskDir(taskId), 'output.log');
  }
  resultPath(taskId: string): string {
    return join(this.directory, taskId, 'result.json');
  }
  /** Every file of ours that a task's folder can hold, but for {@link legacyRecordPath}. */
  taskFiles(folder: string): string[] {
    return ['output.log', 'result.json', 'result.json.next'].map((name) => join(folder, name));
  }
  /** The record of a legacy task, in the folder of its output. */
  legacyRecordPath(folder: string): string {
    return join(folder, 'task.json');
  }
  pidPath(taskId: string): string {
    return join(this.runDir, `${taskId}.pid`);
  }
  /** What becomes the `.pid` of a task that may not run any more. */
  voidDraftPath(taskId: string): string {
    return join(this.runDir, `${taskId}.void`);
  }
  exitPath(taskId: string): string {
    return join(this.runDir, `${taskId}.exit`);
  }

  /** A legacy task's output stays in its old folder, whose name may hold capitals. */
  useLegacyFolder(taskId: string, folder: string): void {
    this.#legacyFolders.set(taskId, folder);
  }
  /** The task is gone: a new one of the same id has nothing to do with the old folder. */
  forgetLegacyFolder(taskId: string): void {
    this.#legacyFolders.delete(taskId);
  }
}
