/* Records as other hands leave them: good ones, and good ones that something happened to. */
import type { Json } from './checker.js';
import type { Random } from './random.js';

/** A legal record of any status. */
export function randomRecord(random: Random, taskId: string): Json {
  const status = random.pick([
    'queued',
    'running',
    'waiting',
    'completed',
    'completed',
    'failed',
    'timed_out',
    'killed',
    'lost',
  ]);
  const active = ['queued', 'running', 'waiting'].includes(status);
  const createdAt = 1_790_000_000_000 + random.int(0, 1e9);
  const startedAt = status === 'queued' ? null : createdAt + random.int(0, 1_000);
  const endedAt = active ? null : startedAt! + random.int(0, 100_000);
  const kind = random.pick(['process', 'function', 'agent']);
  const exitCode = status === 'completed' ? 0 : status === 'failed' ? 1 : null;
  const maybe = (fields: object) => (random.chance(0.4) ? fields : {});
  return {
    schemaVersion: 1,
    taskId,
    kind,
    description: randomText(random),
    status,
    detached: true,
    createdAt,
    startedAt,
    endedAt,
    attempt: 1,
    owner: {
      instanceId: 'x',
      hostname: 'elsewhere',
      bootId: 'b',
      pidNamespace: 'pid:[1]',
      pid: 4242,
      startTicks: '123',
    },
    details:
      kind === 'process'
        ? { command: ['npm', 'test'], cwd: '/repo', pid: null, exitCode, signal: null }
        : { note: randomText(random) },
    metadata: random.chance(0.5) ? { sessionId: randomText(random), nested: { list: [1, null, true] } } : {},
    hooks: random.chance(0.5)
      ? { conversation: { state: active ? 'pending' : random.pick(['pending', 'skipped']), attempts: 0 } }
      : {},
    ...maybe({ group: 'agent-7' }),
    ...maybe({ idempotencyKey: `key-${taskId}` }),
    ...maybe({ progress: { message: randomText(random), current: 1, total: 2, updatedAt: createdAt } }),
    ...maybe({ aFieldOfTomorrow: { kept: [randomText(random)] } }),
    ...(status === 'waiting' && { waitingFor: { prompt: 'Well?', requestedAt: createdAt } }),
    ...(status === 'failed' && { error: { name: 'Error', message: randomText(random) } }),
    ...(status === 'timed_out' && { stop: { cause: 'deadline', requestedAt: createdAt } }),
    ...(status === 'killed' && { stop: { cause: 'user', requestedAt: createdAt } }),
  };
}

function randomText(random: Random): string {
  return Array.from({ length: random.int(0, 20) }, () =>
    random.pick(['a', ' ', '"', '\\', '\n', '\0', 'é', '🙂', '__proto__', '/../']),
  ).join('');
}

const anything = (random: Random): unknown =>
  random.pick([
    null,
    true,
    -1,
    0.5,
    1e300,
    '',
    'text',
    'running',
    [],
    [1],
    {},
    { name: 1 },
    { state: 'pending' },
    '1790000000000',
    '\ud800',
  ]);

/** The bytes of a record after something happened to it. */
export function mutated(random: Random, record: Json): Buffer {
  const text = JSON.stringify(record);
  const bytes = Buffer.from(text);
  const position = random.int(0, bytes.length - 1);
  return random.pick([
    () => bytes,
    () => Buffer.from(JSON.stringify(record, null, 2)),
    () => Buffer.from(JSON.stringify(changed(random, record))),
    () => Buffer.from(JSON.stringify(changed(random, record))),
    () => Buffer.from(JSON.stringify(changed(random, changed(random, record)))),
    () => bytes.subarray(0, position),
    () => Buffer.concat([bytes, bytes.subarray(position)]),
    () => flipped(random, bytes),
    () =>
      Buffer.concat([
        bytes.subarray(0, position),
        Buffer.from(random.pick(['\0', '\xff', '}', ',', '{"', '1e999', '\ufeff']), 'latin1'),
        bytes.subarray(position),
      ]),
    () => Buffer.from(text.replace(/:\d+/, random.pick([':1e999', ':-1', ':01', ':NaN', ':"1"']))),
    () => Buffer.alloc(random.int(0, 300)),
    () => Buffer.from(JSON.stringify(random.pick([[], [record], 'text', 7, null, {}]))),
    () => Buffer.from(text.replace('{', `{"deep":${nested(random.pick([10, 900, 3_000]))},`)),
    () =>
      Buffer.from(
        JSON.stringify({ ...record, taskId: random.pick(['../../etc', 'Other', '', 'a'.repeat(65), 'another-1']) }),
      ),
    () => Buffer.from(JSON.stringify({ ...record, schemaVersion: random.pick([0, 2, 99, -1, '1', 1.5, null]) })),
    () => Buffer.from(text.replace('{', '{"__proto__":{"status":"running"},')),
    () => (random.chance(0.02) ? Buffer.from(JSON.stringify({ ...record, large: 'x'.repeat(1024 * 1024) })) : bytes),
  ])();
}

/** One field gone, replaced or added; at the top or one level down. */
function changed(random: Random, record: Json): Json {
  const copy = structuredClone(record) as Record<string, any>;
  const inner = Object.keys(copy).filter((key) => typeof copy[key] === 'object' && copy[key] !== null);
  const target = random.chance(0.3) && inner.length > 0 ? copy[random.pick(inner)] : copy;
  const keys = Object.keys(target);
  const key = random.chance(0.1) || keys.length === 0 ? 'newKey' : random.pick(keys);
  if (random.chance(0.4) && key !== 'schemaVersion') delete target[key];
  else target[key] = anything(random);
  return copy;
}

function flipped(random: Random, bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  for (let n = random.int(1, 4); n > 0; n--) {
    const at = random.int(0, copy.length - 1);
    copy[at] = copy[at]! ^ (1 << random.int(0, 7));
  }
  return copy;
}

/** As text: `JSON.stringify` would overflow the stack. */
const nested = (depth: number) => `${'['.repeat(depth)}1${']'.repeat(depth)}`;
