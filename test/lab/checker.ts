/*
 * Judges a directory by its files and by what its hosts were promised. It knows the design and nothing of the library: what is a legal
 * record, what a record may become, and what must have stayed.
 */
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export type Json = { readonly [key: string]: any };

const STATUSES = ['queued', 'running', 'waiting', 'completed', 'failed', 'timed_out', 'killed', 'lost'];
export const ACTIVE = ['queued', 'running', 'waiting'];
const CAUSES = ['user', 'deadline', 'output_limit', 'shutdown'];
const HOOK_STATES = ['pending', 'delivered', 'failed', 'skipped'];
const ID = /^[a-z0-9]+(?:[-_][a-z0-9]+)*$/;
const MAX_BYTES = 1024 * 1024;

export const isTerminal = (record: Json): boolean =>
  STATUSES.includes(record.status) && !ACTIVE.includes(record.status);

// ── one record ────────────────────────────────────────────────────────

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isTime = (value: unknown): boolean => typeof value === 'number' && Number.isFinite(value) && value >= 0;
const isText = (value: unknown): boolean => typeof value === 'string';
const optional = (test: (value: any) => boolean) => (value: unknown) => value === undefined || test(value);
const orNull = (test: (value: any) => boolean) => (value: unknown) => value === null || test(value);
const isError = (value: unknown) =>
  isObject(value) && isText(value.name) && isText(value.message) && optional(isText)(value.code);
const isOwner = (value: unknown) =>
  isObject(value) &&
  ['instanceId', 'hostname', 'bootId', 'pidNamespace', 'startTicks'].every((key) => isText(value[key])) &&
  Number.isSafeInteger(value.pid) &&
  value.pid > 0;
const isDelivery = (value: unknown) =>
  isObject(value) &&
  HOOK_STATES.includes(value.state) &&
  Number.isSafeInteger(value.attempts) &&
  value.attempts >= 0 &&
  optional(isError)(value.lastError) &&
  optional(isTime)(value.nextAttemptAt) &&
  optional(isTime)(value.deliveredAt);
const isProgress = (value: unknown) =>
  isObject(value) &&
  optional(isText)(value.message) &&
  optional(Number.isFinite)(value.current) &&
  optional(Number.isFinite)(value.total) &&
  isTime(value.updatedAt);

const FIELDS: Readonly<Record<string, (value: any) => boolean>> = {
  schemaVersion: (value) => value === 1,
  taskId: (value) => isText(value) && value.length <= 64 && ID.test(value),
  kind: (value) => isText(value) && value !== '',
  description: isText,
  status: (value) => STATUSES.includes(value),
  detached: (value) => typeof value === 'boolean',
  createdAt: isTime,
  startedAt: orNull(isTime),
  endedAt: orNull(isTime),
  timeoutMs: optional(isTime),
  deadlineAt: optional(isTime),
  group: optional(isText),
  idempotencyKey: optional(isText),
  attempt: (value) => Number.isSafeInteger(value) && value >= 1,
  maxOutputBytes: optional(isTime),
  owner: orNull(isOwner),
  stop: optional(
    (value) =>
      isObject(value) && CAUSES.includes(value.cause) && optional(isText)(value.reason) && isTime(value.requestedAt),
  ),
  stopReason: optional(isText),
  queueTimeoutMs: optional(isTime),
  detachOnTimeout: optional((value) => typeof value === 'boolean'),
  detachTimeoutMs: optional(isTime),
  progress: optional(isProgress),
  lastInput: optional(
    (value) => isObject(value) && isText(value.prompt) && value.value !== undefined && isTime(value.answeredAt),
  ),
  waitingFor: optional((value) => isObject(value) && isText(value.prompt) && isTime(value.requestedAt)),
  error: optional(isError),
  details: isObject,
  metadata: isObject,
  hooks: (value) => isObject(value) && Object.values(value).every(isDelivery),
};

/** Every way in which its fields are not those of a record. */
export function shapeProblems(value: unknown): string[] {
  if (!isObject(value)) return ['not an object'];
  return Object.entries(FIELDS)
    .filter(([field, test]) => !test(value[field]))
    .map(([field]) => `${field} is ${JSON.stringify(value[field])}`);
}

/** Every way in which a well-formed record contradicts the state machine, or itself. */
export function stateProblems(record: Json): string[] {
  const problems: string[] = [];
  const must = (ok: boolean, problem: string) => {
    if (!ok) problems.push(`${record.taskId} (${record.status}): ${problem}`);
  };
  const terminal = isTerminal(record);
  must(terminal === (record.endedAt !== null), `endedAt is ${record.endedAt}`);
  must(record.status !== 'queued' || record.startedAt === null, 'queued, and startedAt is set');
  must(!['running', 'waiting', 'completed'].includes(record.status) || record.startedAt !== null, 'startedAt is null');
  must(record.startedAt === null || record.startedAt >= record.createdAt, 'started before it was created');
  must(!terminal || record.endedAt >= (record.startedAt ?? record.createdAt), 'ended before it started');
  must((record.status === 'waiting') === (record.waitingFor !== undefined), 'waitingFor and status disagree');
  must(record.error === undefined || record.status === 'failed', 'an error, but not failed');
  must(
    record.status !== 'timed_out' || record.stop?.cause === 'deadline' || record.startedAt === null,
    'timed out without a deadline',
  );
  must(record.deadlineAt === undefined || record.startedAt !== null, 'a deadline before the start');
  for (const [hook, owed] of Object.entries<Json>(record.hooks)) {
    must(terminal || owed.state === 'pending' || owed.state === 'skipped', `${hook} is ${owed.state} before the end`);
    must(
      owed.state !== 'delivered' || owed.attempts > 0 || owed.deliveredAt !== undefined,
      `${hook} delivered without an attempt`,
    );
  }
  if (record.kind === 'process' && terminal)
    must(judgedRightly(record), `exit ${record.details.exitCode}, stop ${record.stop?.cause}`);
  return problems;
}

/** How a process's end is judged, given the stop that was on record. */
function judgedRightly({ status, stop, startedAt, details: { exitCode } }: Json): boolean {
  const none = exitCode === null || exitCode === undefined;
  switch (stop?.cause) {
    case undefined:
      if (none) return status === 'lost' || status === 'failed' || (status === 'timed_out' && startedAt === null);
      return status === (exitCode === 0 ? 'completed' : 'failed');
    case 'deadline':
      return status === 'timed_out';
    case 'output_limit':
      return status === 'killed';
    default:
      return status === (exitCode === 0 ? 'completed' : 'killed');
  }
}

// ── a directory ───────────────────────────────────────────────────────

/** What is on disk. */
export interface Disk {
  readonly records: ReadonlyMap<string, Json>;
  /** What is no legal record, or should not be there. */
  readonly problems: string[];
}

/** Reads every record as it is on disk now, and says what is wrong with any of them. Works beside a host that writes. */
export function readDisk(directory: string): Disk {
  const records = new Map<string, Json>();
  const problems: string[] = [];
  for (const name of names(directory)) {
    if (!name.endsWith('.json')) continue;
    const taskId = name.slice(0, -'.json'.length);
    const read = readRecord(join(directory, name));
    if (read === undefined) continue;
    const found = typeof read === 'string' ? [read] : [...shapeProblems(read)];
    if (typeof read === 'string' || found.length > 0) {
      problems.push(...found.map((problem) => `${name}: ${problem}`));
      continue;
    }
    if (read.taskId !== taskId) problems.push(`${name}: its taskId is ${read.taskId}`);
    problems.push(...stateProblems(read));
    records.set(taskId, read);
  }
  return { records, problems };
}

/** Nothing where it is gone, a text where it is no record. */
function readRecord(path: string): Json | string | undefined {
  try {
    const stats = lstatSync(path);
    if (!stats.isFile()) return 'not a regular file';
    if ((stats.mode & 0o777) !== 0o600) return `its mode is ${(stats.mode & 0o777).toString(8)}`;
    if (stats.size > MAX_BYTES) return `${stats.size} bytes`;
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
      ? undefined
      : `cannot be read: ${(error as Error).message}`;
  }
}

function names(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** Left-overs of dead hosts that the next owner should have swept. */
export function leftOvers(directory: string): string[] {
  const unfinished = names(directory).filter((name) => /\.next(?:\.|$)/.test(name));
  const claims = names(join(directory, '.owner')).filter((name) => name.endsWith('.claim'));
  return [...unfinished, ...claims].map((name) => `${name} was not swept`);
}

// ── promises ──────────────────────────────────────────────────────────

/** Every way in which `after` is not what `before` may have become. Both are snapshots of one task. */
export function successionProblems(before: Json, after: Json): string[] {
  const problems: string[] = [];
  const same = (field: string, a: unknown, b: unknown) => {
    if (JSON.stringify(a) !== JSON.stringify(b))
      problems.push(`${before.taskId}: ${field} was ${brief(a)}, is ${brief(b)}`);
  };
  // No workload changes a description.
  for (const field of ['taskId', 'kind', 'description', 'createdAt', 'group', 'idempotencyKey', 'timeoutMs'])
    same(field, before[field], after[field]);
  if (isTerminal(before))
    for (const field of ['status', 'startedAt', 'endedAt', 'error', 'result', 'attempt', 'details', 'stopReason'])
      same(field, before[field], after[field]);
  else if (before.kind === 'process') {
    for (const field of ['command', 'cwd']) same(`details.${field}`, before.details[field], after.details[field]);
    // Learnt after the launch: a disk that refuses it still has it in `.run`.
    if (before.details.pid !== null && after.details.pid !== null)
      same('details.pid', before.details.pid, after.details.pid);
  }
  const mayBeQueuedAgain = mayNeverHaveBegun(before);
  if (before.detached) {
    same('detached', before.detached, after.detached);
    if (before.deadlineAt !== undefined && !mayBeQueuedAgain) same('deadlineAt', before.deadlineAt, after.deadlineAt);
  }
  if (!mayBeQueuedAgain) {
    // What is queued has not begun: a damaged record that says otherwise is put right when its task begins.
    if (before.startedAt !== null && before.status !== 'queued' && !isTerminal(after))
      same('startedAt', before.startedAt, after.startedAt);
    if (before.status === 'running' || before.status === 'waiting') same('queued', after.status === 'queued', false);
  }
  if (before.stop) same('stop', before.stop, after.stop);
  if (before.lastInput && after.lastInput?.answeredAt === before.lastInput.answeredAt)
    same('lastInput', before.lastInput, after.lastInput);
  if (before.lastInput) same('an answer', after.lastInput !== undefined, true);
  for (const [key, value] of Object.entries(before.metadata)) same(`metadata.${key}`, value, after.metadata[key]);
  for (const [hook, owed] of Object.entries<Json>(before.hooks)) {
    const now: Json | undefined = after.hooks[hook];
    if (!now) problems.push(`${before.taskId}: the hook ${hook} is gone`);
    else if (owed.state === 'delivered' || owed.state === 'skipped') same(`hooks.${hook}`, owed.state, now.state);
    else if (owed.attempts > now.attempts)
      problems.push(`${before.taskId}: attempts of ${hook} went from ${owed.attempts} to ${now.attempts}`);
  }
  return problems;
}

/** A process whose launch nobody has heard the end of: should it turn out that nothing ran, it is queued again. */
const mayNeverHaveBegun = ({ kind, status, details, stop }: Json): boolean =>
  kind === 'process' && status === 'running' && details.pid === null && !stop;

const brief = (value: unknown) => (JSON.stringify(value) ?? 'absent').slice(0, 120);

/** The lines that hosts wrote down. */
export function readLines(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').filter(Boolean);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** What hosts acknowledged. A write is torn where a SIGKILL meets it between two pages: half a line was not acknowledged. */
export function readAcknowledged(path: string): Json[] {
  return readLines(path).flatMap((line) => {
    try {
      return [JSON.parse(line)];
    } catch (error) {
      if (error instanceof SyntaxError) return [];
      throw error;
    }
  });
}

/**
 * Whose record may be gone: who was said to be pruned, and, where a host died while it pruned, who could have been: the removal of a task is
 * announced after it.
 */
export function removable(acknowledged: readonly Json[]): (taskId: string) => boolean {
  const pruned = new Set<string>(acknowledged.flatMap((line) => (line.pruned === undefined ? [] : [line.pruned])));
  const isPruning = acknowledged.findLast((line) => line.pruning !== undefined)?.pruning === true;
  if (isPruning) for (const { task } of acknowledged) if (task && isDone(task)) pruned.add(task.taskId);
  return (taskId) => pruned.has(taskId);
}

/** Ended, and nothing is owed. */
const isDone = (task: Json): boolean =>
  isTerminal(task) &&
  Object.values<Json>(task.hooks).every(({ state }) => state === 'delivered' || state === 'skipped');

/** Every promise that the records do not keep. */
export function brokenPromises(acknowledged: readonly Json[], records: ReadonlyMap<string, Json>): string[] {
  const mayBeGone = removable(acknowledged);
  const problems = new Set<string>();
  for (const { task } of acknowledged) {
    if (!task || mayBeGone(task.taskId)) continue;
    const record = records.get(task.taskId);
    if (record) for (const problem of successionProblems(task, record)) problems.add(problem);
    else problems.add(`${task.taskId} was acknowledged and is gone`);
  }
  return [...problems];
}

/** Exit codes on record that are not those with which the commands of the workload end, where nobody stopped them. */
export function exitProblems(records: ReadonlyMap<string, Json>): string[] {
  return [...records.values()]
    .filter(({ stop, details, metadata }) => !stop && typeof details.exitCode === 'number' && 'expected' in metadata)
    .filter(({ details, metadata }) => details.exitCode !== metadata.expected)
    .map(({ taskId, details, metadata }) => `${taskId} exited with ${details.exitCode}, not ${metadata.expected}`);
}

/** What a host that works as it should, on a disk that is well, never says. */
export function complaints(acknowledged: readonly Json[]): string[] {
  return acknowledged
    .filter((line) => line.refused ?? line.error ?? line.rejected)
    .map((line) => `the host said ${brief(line)}`);
}

/** Hooks that were called before the outcome was on record, or again after their success was. */
export function hookProblems(acknowledged: readonly Json[]): string[] {
  const delivered = new Set<string>();
  const problems: string[] = [];
  for (const { called, event, task } of acknowledged) {
    if (called !== undefined) {
      if (!isTerminal(task)) problems.push(`${called} was called for a task that is ${task.status}`);
      if (delivered.has(called)) problems.push(`${called} was called again after its success was on record`);
    }
    if (event !== 'hook:delivered') continue;
    for (const [hook, owed] of Object.entries<Json>(task.hooks))
      if (owed.state === 'delivered') delivered.add(`${task.taskId}:${hook}`);
  }
  return problems;
}

/**
 * Processes that nobody stopped and that did not run exactly once: what was accepted runs, whoever died meanwhile. `begun`: a line for each
 * time that one began, its id.
 */
export function notOnce(records: ReadonlyMap<string, Json>, begun: readonly string[]): string[] {
  const times = new Map<string, number>();
  for (const taskId of begun) times.set(taskId, (times.get(taskId) ?? 0) + 1);
  return [...records.values()]
    .filter(({ kind, stop }) => kind === 'process' && !stop)
    .flatMap((record) => {
      const { taskId, status, attempt, stopReason } = record;
      const ran = times.get(taskId) ?? 0;
      const problems: string[] = [];
      if (status === 'lost') problems.push(`${taskId} was accepted and is lost: ${stopReason}`);
      else if (isTerminal(record) && ran === 0) problems.push(`${taskId} was accepted, is ${status}, and never ran`);
      if (ran > 1) problems.push(`${taskId} ran ${ran} times`);
      if (attempt !== 1) problems.push(`${taskId} is at attempt ${attempt}, and a process is begun once`);
      return problems;
    });
}

/**
 * Tasks that still wait although more of those that were registered after them have begun than could have at once. `lineOf`: the line that a
 * task stands in, and how many of that line may be at work. Whoever has a slot may be seen waiting until its record says otherwise.
 */
export function overtaken(
  records: ReadonlyMap<string, Json>,
  lineOf: (record: Json) => { readonly name: string; readonly limit: number },
): string[] {
  const inOrder = [...records.values()].sort((a, b) => a.createdAt - b.createdAt || (a.taskId < b.taskId ? -1 : 1));
  const lines = new Map<string, { limit: number; waiting: string[]; passed: string[] }>();
  for (const record of inOrder) {
    const { name, limit } = lineOf(record);
    const line = lines.get(name) ?? { limit, waiting: [], passed: [] };
    lines.set(name, line);
    if (record.status === 'queued') line.waiting.push(record.taskId);
    else line.passed = [...line.waiting];
  }
  return [...lines.values()]
    .filter(({ limit, passed }) => passed.length > limit)
    .map(({ limit, passed }) => `${passed.length} tasks were overtaken, limit ${limit}: ${passed[0]} is the first`);
}

/** What was begun more than once. */
export function repeated(lines: readonly string[]): string[] {
  const seen = new Set<string>();
  return lines.filter((line) => seen.size === seen.add(line).size);
}
