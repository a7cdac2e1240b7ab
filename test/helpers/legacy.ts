import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';

const folder = new URL('../legacy/fixtures/', import.meta.url);

/** A record of another system, and what of our own record is not as in `defaults`. */
export interface Fixture {
  readonly name: string;
  readonly fileName?: string;
  readonly value: Readonly<Record<string, unknown>>;
  readonly expected: Readonly<Record<string, unknown>>;
}

export const systems = ['kimi-current', 'kimi-snake', 'kube-coder', 'hermes-webui', 'claude-hooks'] as const;
export type System = (typeof systems)[number];

export function fixturesOf(system: System): Fixture[] {
  return JSON.parse(readFileSync(new URL(`${system}.json`, folder), 'utf8'));
}

/** Records of our own as each version wrote them: `[name, text]`. */
export function shippedRecords(version: number): [string, string][] {
  const at = new URL(`schema-${version}/`, folder);
  return readdirSync(at).map((name) => [name, readFileSync(new URL(name, at), 'utf8')]);
}

export const defaults = { schemaVersion: 1, detached: true, attempt: 1, owner: null, hooks: {} };

const seconds = fc.integer({ min: 1, max: 2_000_000_000 });
const milliseconds = fc.integer({ min: 1e11, max: 4e12 });
const time = fc.oneof(
  seconds,
  milliseconds,
  seconds.map((value) => value + 0.5),
);
const text = fc.oneof(fc.string(), fc.constantFrom('', ' ', '\t\n'));
const optionalText = fc.oneof(text, fc.constant(null));
const eight = fc.string({
  unit: fc.constantFrom(...'0123456789abcdefghijklmnopqrstuvwxyz'),
  minLength: 8,
  maxLength: 8,
});
const anyId = fc
  .array(fc.string({ unit: fc.constantFrom(...'09azAZ'), minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 5 })
  .chain((parts) => fc.constantFrom('-', '_').map((joint) => parts.join(joint)));
const pid = fc.nat();
const code = fc.oneof(fc.integer({ min: -64, max: 255 }), fc.constant(null));

type Value = Record<string, unknown>;
const join = (...parts: fc.Arbitrary<object>[]): fc.Arbitrary<Value> =>
  fc.tuple(...parts).map((all) => Object.assign({}, ...all) as Value);
const some = (fields: { [key: string]: fc.Arbitrary<unknown> }) => fc.record(fields, { requiredKeys: [] });

/** An active status with nulls, or an ended one with an end. */
const course = (active: readonly string[], ended: readonly string[], ends: { [key: string]: fc.Arbitrary<unknown> }) =>
  fc.oneof(
    fc.record({
      status: fc.constantFrom(...active),
      ...Object.fromEntries(Object.keys(ends).map((key) => [key, fc.constant(null)])),
    }),
    fc.record({ status: fc.constantFrom(...ended), ...ends }),
  );

const kimiEnds = ['completed', 'failed', 'timed_out', 'killed', 'lost'];
const kimiCommon = some({
  detached: fc.boolean(),
  stopReason: optionalText,
  terminalNotificationSuppressed: fc.boolean(),
  timeoutMs: fc.nat(),
});

/** Any valid record of a system. */
export const records: { [Name in System]: fc.Arbitrary<Value> } = {
  'kimi-current': fc.oneof(
    join(
      fc.record({
        taskId: eight.map((end) => `bash-${end}`),
        kind: fc.constant('process'),
        description: text,
        startedAt: time,
        command: text,
        pid,
      }),
      course(['running'], kimiEnds, { endedAt: time, exitCode: code }),
      kimiCommon,
    ),
    join(
      fc.record({
        taskId: eight.map((end) => `agent-${end}`),
        kind: fc.constant('agent'),
        description: text,
        startedAt: time,
      }),
      course(['running'], kimiEnds, { endedAt: time }),
      some({
        agentId: optionalText,
        subagentType: optionalText,
        model: optionalText,
        thinkingEffort: optionalText,
      }),
      kimiCommon,
    ),
    join(
      fc.record({
        taskId: eight.map((end) => `question-${end}`),
        kind: fc.constant('question'),
        description: text,
        startedAt: time,
        questionCount: fc.nat(),
      }),
      course(['running'], kimiEnds, { endedAt: time }),
      some({ toolCallId: optionalText }),
      kimiCommon,
    ),
  ),
  'kimi-snake': join(
    fc.record({
      task_id: fc.tuple(fc.constantFrom('agent', 'bash'), eight).map((parts) => parts.join('-')),
      command: text,
      description: text,
      pid,
      started_at: time,
    }),
    course(['running', 'awaiting_approval'], ['completed', 'failed', 'killed', 'lost'], {
      ended_at: time,
      exit_code: code,
    }),
    some({
      timed_out: fc.boolean(),
      stop_reason: optionalText,
      timeout_ms: fc.nat(),
      agent_id: optionalText,
      subagent_type: optionalText,
    }),
  ),
  'kube-coder': join(
    fc.record({
      task_id: anyId,
      session_id: text,
      prompt: text,
      workdir: text,
      status: fc.constantFrom('running', 'waiting-for-input', 'completed', 'killed', 'error'),
      created_at: time,
    }),
    some({
      kind: fc.constant('terminal'),
      tmux_session: optionalText,
      assistant: optionalText,
      model: optionalText,
      effort: optionalText,
      parent_task_id: optionalText,
      source: optionalText,
      finished_at: time,
      killed_at: time,
      error: optionalText,
      last_input_prompt: optionalText,
      response_url: optionalText,
      response_secret: text,
      hook_fired_at: time,
      hook_delivery: fc.oneof(
        fc.record({ state: fc.constant('delivered'), attempts: fc.nat(), status: fc.nat(), delivered_at: time }),
        fc.record({ state: fc.constant('failed'), attempts: fc.nat(), last_error: text, last_attempt_at: time }),
      ),
    }),
  ),
  'hermes-webui': join(
    fc.record({ task_id: anyId, bg_session_id: text, stream_id: text, prompt: text, started_at: time }),
    course(['running'], ['done'], { answer: text, completed_at: time }),
  ),
  'claude-hooks': join(
    fc.record({ task_id: anyId, started_at: time }),
    course(['running'], ['success', 'failed', 'cancelled', 'interrupted'], { finished_at: time }),
    some({
      input_tokens: fc.nat(),
      cost_usd: fc.double({ noNaN: true, min: 0, max: 1e6 }),
      repository: text,
      issue: fc.nat(),
    }),
  ),
};

/** What each system's words mean, said again independently of the code under test. */
export const meanings: { [Name in System]: { readonly [status: string]: string } } = {
  'kimi-current': {
    running: 'running',
    completed: 'completed',
    failed: 'failed',
    timed_out: 'timed_out',
    killed: 'killed',
    lost: 'lost',
  },
  'kimi-snake': {
    running: 'running',
    awaiting_approval: 'running',
    completed: 'completed',
    failed: 'failed',
    killed: 'killed',
    lost: 'lost',
  },
  'kube-coder': {
    running: 'running',
    'waiting-for-input': 'waiting',
    completed: 'completed',
    killed: 'killed',
    error: 'failed',
  },
  'hermes-webui': { running: 'running', done: 'completed' },
  'claude-hooks': {
    running: 'running',
    success: 'completed',
    failed: 'failed',
    cancelled: 'killed',
    interrupted: 'lost',
  },
};

/** The record of ours that a record of theirs means, as far as every one of them says it. */
export function meaningOf(system: System, value: Value) {
  const timedOut = system === 'kimi-snake' && value.status === 'failed' && value.timed_out === true;
  const id = String(value[system === 'kimi-current' ? 'taskId' : 'task_id']);
  const start = value[
    { 'kimi-current': 'startedAt', 'kube-coder': 'created_at' }[system as string] ?? 'started_at'
  ] as number;
  const kinds = {
    'kimi-current': value.kind,
    'kimi-snake': id.startsWith('agent-') ? 'agent' : 'process',
    'kube-coder': 'tmux',
    'hermes-webui': 'agent',
    'claude-hooks': 'agent',
  };
  const prompts = { 'kube-coder': 'prompt', 'hermes-webui': 'prompt', 'claude-hooks': 'task_id' } as Record<
    string,
    string
  >;
  return {
    taskId: id.toLowerCase(),
    kind: kinds[system],
    status: timedOut ? 'timed_out' : meanings[system][value.status as string],
    description: value[prompts[system] ?? 'description'],
    createdAt: start < 1e11 ? Math.round(start * 1000) : start,
  };
}
