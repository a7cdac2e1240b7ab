/* The object that the kind makes for each task: what it tells its task, and that nothing is left of it. */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { defineTaskKind } from '../../src/task/define-kind.js';
import { type AttachedWork, runtimeOf } from '../../src/task/kind-runtime.js';
import type { ProcessDetails, ProcessTask } from '../../src/task/types.js';
import { FakeClock } from '../helpers/clock.js';
import { type LabOptions, ProcessLab, stateOf, stopping } from '../helpers/process.js';
import { until } from '../helpers/wait.js';

const LIMIT = 1024;

/** The work of one task, and what it said. */
function attach(lab: ProcessLab, { taskId }: ProcessTask) {
  const said = { hints: 0, limits: 0, errors: [] as Error[] };
  const work: AttachedWork = lab.kind.attach!(taskId, {
    hint: () => said.hints++,
    outputLimit: () => said.limits++,
    report: (error) => said.errors.push(error),
  });
  onTestFinished(() => work.dispose!(true));
  return { work, said };
}

async function launch(lab: ProcessLab, work: AttachedWork, task: ProcessTask): Promise<ProcessTask> {
  await lab.files.output(task.taskId).prepare();
  return begin(lab, work, task);
}

async function begin(lab: ProcessLab, work: AttachedWork, task: ProcessTask): Promise<ProcessTask> {
  const { taskId, attempt, details } = task;
  const outputPath = lab.files.output(taskId).path;
  const context = { taskId, attempt, details, outputPath, signal: new AbortController().signal, task };
  const learnt = (await work.start!(context, undefined)) as Partial<ProcessDetails>;
  return { ...task, details: { ...details, ...learnt } };
}

async function running(command: string | readonly string[], more: object = {}, options: LabOptions = {}) {
  const lab = new ProcessLab(options);
  const task = lab.task({ command }, more);
  const { work, said } = attach(lab, task);
  return { lab, work, said, task: await launch(lab, work, task) };
}

it('tells its task, and no other, when its child has ended', async () => {
  const { lab, work, said, task } = await running('exit 3');
  await until(() => said.hints > 0);
  expect(await until(async () => over(await work.probe!(task)))).toMatchObject({ details: { exitCode: 3 } });
  await work.settled!(task);
  expect(existsSync(lab.layout.exitPath(task.taskId))).toBe(false);
});

it('says running while a launch is under way, and looks at the new one afterwards', async () => {
  const lab = new ProcessLab();
  const task = lab.task({ command: 'exit 4' });
  const { work } = attach(lab, task);
  expect(await work.probe!(task)).toMatchObject({ state: 'gone', neverBegan: true });
  await lab.files.output(task.taskId).prepare();
  const launched = begin(lab, work, task);
  expect(await work.probe!(task)).toEqual({ state: 'running' });
  const started = await launched;
  expect(await until(async () => over(await work.probe!(started)))).toMatchObject({ details: { exitCode: 4 } });
});

it('keeps nothing of an earlier attempt', async () => {
  const { lab, work, said, task } = await running('exit 5');
  expect(await until(async () => over(await work.probe!(task)))).toMatchObject({ details: { exitCode: 5 } });
  const again = await launch(lab, work, {
    ...task,
    attempt: 2,
    details: { ...task.details, command: 'exec sleep 60' },
  });
  expect(again.details.pid).not.toBe(task.details.pid);
  expect(await work.probe!(again)).toEqual({ state: 'running' });
  expect(said.errors).toEqual([]);
});

it('reports its ceiling once, and a stop lets the task end', async () => {
  const { lab, work, said, task } = await running('while :; do printf %64s; done', { maxOutputBytes: LIMIT });
  await until(() => said.limits > 0);
  await work.quiesce!();
  const stopped = stopping(task);
  await work.stop!(stopped, 'terminate');
  expect(await until(async () => over(await work.probe!(stopped)))).toMatchObject({ state: 'failed' });
  expect(said).toMatchObject({ limits: 1, errors: [] });
  expect(lab.exceeded).toEqual([]);
});

it.each([
  [true, 'stays frozen where its stop is on record'],
  [false, 'goes on where it is not'],
])('disposed of with hasStop %s, a task that was frozen %s', async (hasStop) => {
  const { lab, work, said, task } = await running('while :; do printf %64s; done', { maxOutputBytes: LIMIT });
  await until(() => said.limits > 0);
  await work.dispose!(hasStop);
  // A process that runs on another core takes a moment to stop, or to go on.
  const states = () => new Set(lab.marked(task).map((pid) => stateOf(pid) === 'T'));
  await until(() => states().size === 1 && states().has(hasStop));
});

it('has no timer left once it is disposed of, and begins nothing', async () => {
  const clock = new FakeClock();
  const { lab, work, said, task } = await running('trap "" TERM; exec sleep 60', {}, { clock });
  await work.stop!(stopping(task), 'kill');
  expect(clock.pendingTimers).toBe(1);
  await work.dispose!(false);
  expect(clock.pendingTimers).toBe(0);
  await work.stop!(stopping(task), 'kill');
  expect(clock.pendingTimers).toBe(0);
  writeFileSync(lab.layout.exitPath(task.taskId), '0\n');
  await expect(launch(lab, work, task)).rejects.toThrow('the manager has ended');
  expect(readFileSync(lab.layout.exitPath(task.taskId), 'utf8'), 'nothing is removed either').toBe('0\n');
  expect(said.limits).toBe(0);
});

it('of a manager that has ended begins nothing, whichever task it is for', async () => {
  const lab = new ProcessLab();
  const task = lab.task({ command: ['touch', join(lab.layout.directory, 'ran')] });
  const { work } = attach(lab, task);
  lab.close();
  await expect(launch(lab, work, task)).rejects.toThrow('the manager has ended');
  expect(existsSync(join(lab.layout.directory, 'ran'))).toBe(false);
});

it('a run folder that was made again hints all tasks, those of other works too', async () => {
  const { lab, work, task } = await running('exec sleep 60');
  expect(await work.probe!(task)).toEqual({ state: 'running' });
  rmSync(lab.layout.runDir, { recursive: true });
  await until(() => lab.hints.includes('all'));
  expect(existsSync(lab.layout.runDir)).toBe(true);
});

it('a kind of a host that has a method of this name keeps it for itself', () => {
  const schema = { '~standard': { version: 1, vendor: 'test', validate: (value: unknown) => ({ value }) } } as const;
  const definition = {
    name: 'tmux',
    details: schema,
    start: () => undefined,
    probe: () => ({ state: 'running' as const }),
    attach: () => 'a terminal',
  };
  expect(runtimeOf(defineTaskKind(definition))!.attach).toBeUndefined();
});

/** The probe, if the work has ended. */
function over(probe: { readonly state: string }): { readonly state: string } | undefined {
  return probe.state === 'running' ? undefined : probe;
}
