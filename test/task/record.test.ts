import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isCurrentShape, isSupported, parseCurrentRecord, RecordError } from '../../src/task/record.js';
import { shippedRecords } from '../helpers/legacy.js';

/** As this version writes them. */
const written = { revision: 7, updatedAt: 1_790_000_002_000 };
const shipped = Object.fromEntries(
  shippedRecords(1).map(([name, text]) => [name.replace('.json', ''), { ...JSON.parse(text), ...written }]),
);
const copy = <T>(value: T): T => JSON.parse(JSON.stringify(value));
const good = () => copy(shipped.running);
const reason = (value: unknown): string => {
  try {
    parseCurrentRecord(value);
  } catch (error) {
    expect(error).toBeInstanceOf(RecordError);
    return (error as Error).message;
  }
  return 'accepted';
};

describe('a good record', () => {
  it('comes back as it is, key for key, and frozen through and through', () => {
    for (const [name, value] of Object.entries(shipped)) {
      const text = JSON.stringify(value);
      const record = parseCurrentRecord(copy(value));
      expect(JSON.stringify(record), name).toBe(text);
      expect([record, record.details, record.metadata, record.hooks].every(Object.isFrozen)).toBe(true);
    }
  });

  it('has revision 0 where it never had one, and was last written at the latest time that it holds', () => {
    const { revision: _, updatedAt: __, ...older } = good();
    const at = { createdAt: 5, startedAt: null, endedAt: null };
    const read = (changes: object) => parseCurrentRecord({ ...copy(older), ...changes });
    expect(read(at)).toMatchObject({ revision: 0, updatedAt: 5 });
    expect(read({ ...at, startedAt: 7 })).toMatchObject({ revision: 0, updatedAt: 7 });
    expect(read({ ...at, startedAt: 7, endedAt: 9 })).toMatchObject({ revision: 0, updatedAt: 9 });
    expect(read({ ...at, updatedAt: 3 })).toMatchObject({ revision: 0, updatedAt: 3 });
    expect(read({ ...at, revision: 4 })).toMatchObject({ revision: 4, updatedAt: 5 });
    expect(reason({ ...good(), revision: -1 })).toContain('revision');
    expect(reason({ ...good(), revision: 1.5 })).toContain('revision');
    expect(reason({ ...good(), updatedAt: '2026' })).toContain('updatedAt');
  });

  it('keeps keys that this version does not know, whatever they are called', () => {
    const key = fc.oneof(fc.string(), fc.constantFrom('__proto__', 'constructor', 'toString', 'hasOwnProperty'));
    const extra = fc.dictionary(
      key.map((name) => (name in shipped.running && name !== '__proto__' ? `${name}!` : name)),
      fc.jsonValue(),
    );
    fc.assert(
      fc.property(extra, extra, (outer, inner) => {
        const value = copy({ ...outer, ...good(), metadata: inner, owner: { ...inner, ...shipped.running.owner } });
        expect(JSON.stringify(parseCurrentRecord(value))).toBe(JSON.stringify(value));
      }),
    );
  });
});

describe('a bad record', () => {
  it('is no object', () => {
    expect(reason(undefined)).toBe('expected a JSON object, got undefined');
    expect(reason([1])).toBe('expected a JSON object, got an array of 1');
    expect(reason(7)).toBe('expected a JSON object, got a number (7)');
  });

  const required = Object.keys(shipped.lost).filter((key) => key !== 'schemaVersion' && !(key in written));
  it.each(required)('lacks %s', (key) => {
    const { [key]: _, ...rest } = copy(shipped.lost);
    expect(reason(rest)).toMatch(new RegExp(`^${key}: is missing; expected .*$`));
  });

  const everything = Object.assign({}, ...Object.values(shipped)) as Record<string, unknown>;
  const free = ['schemaVersion', 'priority', 'result'];
  it.each(Object.keys(everything).filter((key) => !free.includes(key)))('has a %s of a wrong type', (key) => {
    for (const wrong of [[], key === 'description' ? 5 : '', true, -1]) {
      const allowed =
        (wrong === true && key.startsWith('detach')) ||
        (wrong === '' && ['group', 'idempotencyKey', 'stopReason'].includes(key));
      if (!(allowed && key !== 'detachTimeoutMs'))
        expect(reason({ ...good(), [key]: wrong }), `${key} = ${JSON.stringify(wrong)}`).toMatch(
          new RegExp(`^${key}[.:]`),
        );
    }
  });

  it.each([
    ['taskId', '../x', 'taskId: expected a string matching ^[a-z0-9]+(?:[-_][a-z0-9]+)*$, got "../x"'],
    [
      'status',
      'done',
      'status: expected one of "queued", "running", "waiting", "completed", "failed", "timed_out", "killed", "lost", got "done"',
    ],
    ['createdAt', -1, 'createdAt: expected a number of at least 0, got -1'],
    ['createdAt', Number.POSITIVE_INFINITY, 'createdAt: is Infinity, which JSON cannot hold'],
    ['attempt', 1.5, 'attempt: expected a whole number, got 1.5'],
    [
      'hooks',
      { a: { state: 'odd', attempts: 0 } },
      'hooks.a.state: expected one of "pending", "delivered", "failed", "skipped", got "odd"',
    ],
    ['hooks', JSON.parse('{"__proto__":5}'), 'hooks.__proto__: expected an object, got a number (5)'],
    ['metadata', { a: { b: undefined } }, 'metadata.a.b: is undefined, which JSON cannot hold'],
    ['metadata', { a: [() => 1] }, 'metadata.a.0: is a function, which JSON cannot hold'],
    ['details', { at: new Date(0) }, 'details.at: is a Date, which JSON cannot hold'],
    ['schemaVersion', 0, 'schemaVersion: expected 1, got 0'],
    ['schemaVersion', '1', 'schemaVersion: expected 1, got a string ("1")'],
  ])('with this %s is refused in words for people', (key, value, message) => {
    expect(reason({ ...good(), [key]: value })).toBe(message);
  });

  it('names every problem, and stays short', () => {
    expect(reason({ ...good(), kind: '', status: 1, hooks: [] })).toMatch(/^kind: .*; status: .*; hooks: /);
    const hooks = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`hook-${i}`, 1]));
    expect(Buffer.byteLength(reason({ ...good(), hooks }))).toBeLessThanOrEqual(8192);
  });

  it('nested too deeply to be written back is refused, however deep it is', () => {
    const nested = (depth: number) => JSON.parse(`${'['.repeat(depth)}${']'.repeat(depth)}`);
    expect(reason({ ...good(), metadata: { a: nested(1000) } })).toBe('accepted');
    expect(reason({ ...good(), metadata: { a: nested(1030) } })).toMatch(/nested more than 1024 levels deep/);
    expect(reason({ ...good(), unknown: nested(200_000) })).toMatch(/nested more than 1024 levels deep/);
  });
});

describe('a record of a newer version', () => {
  const newer = { schemaVersion: 2, taskId: 'a', kind: 'x', status: 'running' };

  it('is listed as it can be read, and cannot be written', () => {
    const record = parseCurrentRecord({
      ...newer,
      createdAt: 5,
      endedAt: 'soon',
      progress: { percent: 5 },
      novel: [1],
    });
    expect(record).toEqual({
      ...newer,
      description: '',
      detached: true,
      createdAt: 5,
      startedAt: null,
      endedAt: null,
      attempt: 1,
      revision: 0,
      updatedAt: 5,
      owner: null,
      details: {},
      metadata: {},
      hooks: {},
      novel: [1],
    });
    expect(isSupported(record)).toBe(false);
    expect(isSupported(parseCurrentRecord(good()))).toBe(true);
  });

  it('is left where it is where its id, kind or status cannot be read', () => {
    for (const fault of [{ taskId: 5 }, { kind: '' }, { status: 'paused' }, { metadata: { a: Number.NaN } }]) {
      expect(() => parseCurrentRecord({ ...newer, ...fault })).toThrow(expect.objectContaining({ newer: true }));
    }
    expect(() => parseCurrentRecord({ ...good(), kind: '' })).toThrow(expect.objectContaining({ newer: false }));
  });
});

it('knows its own shape by its version', () => {
  expect(isCurrentShape({ schemaVersion: undefined })).toBe(true);
  expect(isCurrentShape({ taskId: 'a' })).toBe(false);
  expect(isCurrentShape(JSON.parse('{"__proto__":{"schemaVersion":1}}'))).toBe(false);
  expect(isCurrentShape(null)).toBe(false);
});
