/*
 * What a coding agent does with its tasks, in one scene: a dev server is started in the foreground and sent to the background by its
 * deadline; its output is polled while it serves; three sub-agents share two places; one asks a question and is answered, one is denied;
 * at the end everything is stopped, every completion has arrived in the conversation, and no process is left. Exits with 0 only if so.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BackgroundTaskManager, defineTaskKind } from 'holdfast';
import { z } from 'zod';

const directory = await mkdtemp(join(tmpdir(), 'holdfast-agent-'));

// #region open
const subAgent = defineTaskKind({
  name: 'sub-agent',
  details: z.object({ prompt: z.string(), conversationId: z.string().optional() }),
  result: z.object({ answer: z.string() }),
});
/** What the model is told of work that ended while it did something else. */
const conversation: string[] = [];

const manager = await BackgroundTaskManager.open({
  directory,
  kinds: [subAgent],
  whenFull: 'queue',
  maxRunningTasksPerGroup: 2,
  hooks: {
    conversation: async (task, { readOutput }) => {
      const { text } = await readOutput({ tailLines: 1 });
      conversation.push(`${task.description}: ${task.status}. ${text.trimEnd()}`);
    },
  },
});
// #endregion open

const server = `
  const server = require('node:http').createServer((request, response) => {
    console.log(request.method + ' ' + request.url);
    response.end('hello');
  });
  server.listen(0, '127.0.0.1', () => console.log('process ' + process.pid + ' serves http://127.0.0.1:' + server.address().port + '/'));
`;

/** The command does not end by itself: after its deadline the agent goes on without it. */
async function startServer(): Promise<string> {
  // #region foreground
  const { taskId } = await manager.registerTask({
    kind: 'process',
    description: 'Dev server',
    command: [process.execPath, '-e', server],
    detached: false,
    timeoutMs: 1_500,
    detachOnTimeout: true,
  });
  const release = await manager.waitForRelease(taskId);
  // #endregion foreground
  assert.equal(release, 'detached_by_timeout');
  assert.equal(manager.getTask(taskId)?.status, 'running');
  return taskId;
}

/** A poll by the tail of the output, as a model does it. */
async function waitForLine(taskId: string, pattern: RegExp): Promise<RegExpExecArray> {
  for (const giveUpAt = Date.now() + 20_000; Date.now() < giveUpAt; await sleep(50)) {
    const { text } = await manager.readOutput(taskId, { tailLines: 20 });
    const match = pattern.exec(text);
    if (match) return match;
  }
  throw new Error(`the output never matched ${pattern}`);
}

async function useServer(taskId: string): Promise<{ pid: number; url: string }> {
  const [, pid, url = ''] = await waitForLine(taskId, /process (\d+) serves (\S+)/);
  assert.equal(await (await fetch(`${url}health`)).text(), 'hello');
  await waitForLine(taskId, /GET \/health/);
  return { pid: Number(pid), url };
}

/** How many sub-agents work at once, and how many ever did. */
const atWork = { now: 0, most: 0 };

function startSubAgent(prompt: string, permission?: string) {
  return manager.registerTask({
    kind: 'sub-agent',
    description: prompt,
    details: { prompt },
    group: 'sub-agents',
    run: async ({ taskId, signal, appendOutput, reportProgress, updateDetails, requestInput }) => {
      atWork.most = Math.max(atWork.most, ++atWork.now);
      try {
        await updateDetails({ conversationId: `conversation-of-${taskId}` });
        for (let step = 1; step <= 5; step++) {
          reportProgress({ current: step, total: 5 });
          await sleep(50, undefined, { signal });
        }
        const granted = !permission || (await requestInput(permission, { schema: z.boolean() }));
        const answer = granted ? `done: ${prompt}` : `left alone: ${prompt}`;
        await appendOutput(`${answer}\n`);
        return { answer };
      } finally {
        atWork.now--;
      }
    },
  });
}

/** The user is asked whatever a sub-agent asks, and allows to write but not to delete. */
function answerQuestions(): void {
  // #region questions
  manager.on('task:waiting', async ({ task }) => {
    const allowed = !task.waitingFor?.prompt.includes('delete');
    await manager.provideInput(task.taskId, allowed);
  });
  // #endregion questions
}

async function useSubAgents(): Promise<void> {
  const review = await startSubAgent('Review the diff');
  const write = await startSubAgent('Write the tests', 'May I write to test/?');
  const clean = await startSubAgent('Clean up', 'May I delete node_modules?');
  assert.deepEqual([review.status, write.status, clean.status], ['running', 'running', 'queued']);

  assert(await manager.waitForIdle({ filter: { group: 'sub-agents' }, timeoutMs: 20_000 }));
  assert.equal(atWork.most, 2, 'never more than two at once');
  const answers = manager.listTasks({ kind: 'sub-agent', status: 'completed' }).map((task) => task.result?.answer);
  assert.deepEqual(answers, ['left alone: Clean up', 'done: Write the tests', 'done: Review the diff']);
  const { lastInput, details } = manager.listTasks({ kind: 'sub-agent' })[0] ?? assert.fail();
  assert.deepEqual([lastInput?.prompt, lastInput?.value], ['May I delete node_modules?', false]);
  assert.equal(details.conversationId, `conversation-of-${clean.taskId}`);
}

async function checkNothingIsLeft(pid: number, url: string): Promise<void> {
  await assert.rejects(fetch(url), 'nobody serves any more');
  const table = execFileSync('ps', ['-A', '-ww', '-o', 'pid=,stat=,args='], { encoding: 'utf8' }).split('\n');
  const living = table.map((row) => row.trim().split(/\s+/)).filter(([, state]) => !state?.startsWith('Z'));
  const left = living.filter(([one, , ...args]) => Number(one) === pid || args.includes(join(directory, '.run')));
  assert.deepEqual(left, [], 'neither the server nor its supervisor');
  assert.deepEqual(manager.listTasks({ active: true, includeForeground: true }), []);
}

async function checkConversation(): Promise<void> {
  const isOwed = () => conversation.length < 4 || manager.listDeliveries({ state: 'pending' }).length > 0;
  for (const giveUpAt = Date.now() + 20_000; isOwed() && Date.now() < giveUpAt; ) await sleep(20);
  assert.deepEqual([...conversation].sort(), [
    'Clean up: completed. left alone: Clean up',
    'Dev server: killed. GET /health',
    'Review the diff: completed. done: Review the diff',
    'Write the tests: completed. done: Write the tests',
  ]);
  assert.deepEqual(manager.listDeliveries({ state: 'pending' }), []);
}

try {
  answerQuestions();
  const taskId = await startServer();
  const { pid, url } = await useServer(taskId);
  await useSubAgents();
  // #region stop
  const stopped = await manager.stopAll({ reason: 'The session is over' });
  // #endregion stop
  assert.deepEqual(
    stopped.map((task) => [task.taskId, task.status, task.stopReason]),
    [[taskId, 'killed', 'The session is over']],
  );
  await checkNothingIsLeft(pid, url);
  await checkConversation();
  console.log(conversation.join('\n'));
} finally {
  await manager.close({ tasks: 'stop' });
  await rm(directory, { recursive: true, force: true });
}
