import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createParser, parseTaskRecord } from '../../src/legacy/parser.js';
import type { LegacyShape } from '../../src/legacy/types.js';
import { isOrphanedLegacy } from '../../src/task/orphan.js';
import { parseCurrentRecord, RecordError } from '../../src/task/record.js';
import { fixturesOf, shippedRecords, systems } from '../helpers/legacy.js';

const parse = createParser([]);
const copy = <T>(value: T): T => JSON.parse(JSON.stringify(value));
const first = (system: (typeof systems)[number]) => fixturesOf(system)[0]!.value;
const reason = (value: unknown, fileName?: string, shapes: readonly LegacyShape[] = []): string => {
  try {
    createParser(shapes)(value, { fileName });
  } catch (error) {
    expect(error).toBeInstanceOf(RecordError);
    return (error as Error).message;
  }
  return 'accepted';
};

describe('what is no record', () => {
  it('is refused by what it is', () => {
    expect(reason(null)).toBe('expected a JSON object, got null');
    expect(reason([])).toBe('expected a JSON object, got an array of 0');
    expect(reason('x')).toBe('expected a JSON object, got a string ("x")');
    expect(reason(new Date())).toMatch(/expected a JSON object/);
  });

  it('with only an id is no task: every shape that was tried is named, with what it misses', () => {
    for (const value of [{ task_id: 'a' }, { taskId: 'bash-00000000' }, {}]) {
      const message = reason(value);
      for (const name of ['kimi', 'kimi (snake_case)', 'kube-coder', 'hermes-webui', 'claude-hooks']) {
        expect(message).toContain(`not ${name} (without `);
      }
      expect(message).toContain('status as one of running, done');
    }
  });
});

describe.each(systems)('a bad record of %s', (system) => {
  const value = first(system);
  const required = Object.keys(value);

  it.each(required)('without %s is refused, and the reason names it', (field) => {
    const { [field]: _, ...rest } = value;
    expect(reason(copy(rest))).toMatch(new RegExp(`${field}\\b`));
  });

  it.each(required)('with a %s of a wrong type is refused as what it is meant to be', (field) => {
    const message = reason({ ...copy(value), [field]: [] });
    expect(message).toMatch(/^as a [a-z_() -]+ record: /);
    expect(message).toContain(`${field}: expected `);
    expect(message).toContain('got an array of 0');
  });

  it('names every problem', () => {
    const ids = system === 'kimi-current' ? 'taskId' : 'task_id';
    const start = { 'kimi-current': 'startedAt', 'kube-coder': 'created_at' }[system as string] ?? 'started_at';
    const message = reason({ ...copy(value), [ids]: '../../etc/passwd', status: 'sleeping', [start]: -1 });
    for (const field of [ids, 'status', start]) expect(message).toContain(`${field}: `);
    expect(message).toContain('got "../../etc/passwd"');
  });

  it('with an id that no file can have is refused', () => {
    const ids = system === 'kimi-current' ? 'taskId' : 'task_id';
    // The last is a Kelvin sign, whose lower case is an ordinary k.
    for (const id of ['', '-a', 'a--b', 'a.b', 'a/b', 'a'.repeat(65), 'a\n', '\u212a']) {
      expect(reason({ ...copy(value), [ids]: id }), id).toContain(`${ids}: expected an id`);
    }
  });

  it('with an end although it runs is refused', () => {
    for (const field of ['endedAt', 'exitCode', 'ended_at', 'exit_code', 'completed_at', 'answer', 'finished_at']) {
      if (field in value)
        expect(reason({ ...copy(value), [field]: field === 'answer' ? 'x' : 5 })).toContain(
          'expected null while the task runs',
        );
    }
  });
});

it('does not show a secret in a reason', () => {
  expect(reason({ ...first('kube-coder'), response_secret: ['s3cret'], workdir: 5 })).toMatch(
    /response_secret: expected a string, got an array of 1$/,
  );
});

describe('the file name', () => {
  const kube = { ...first('kube-coder'), task_id: 'Fix-Login' };
  it('must be the id', () => {
    expect(reason(copy(kube), 'Fix-Login/task.json')).toBe('accepted');
    expect(reason(copy(kube), 'Fix-Login\\task.json')).toBe('accepted');
    expect(reason(copy(kube), 'fix-login.json')).toBe('accepted');
    expect(reason(copy(kube), 'task.json')).toBe('accepted');
    expect(reason(copy(kube))).toBe('accepted');
    expect(reason(copy(kube), 'other/task.json')).toBe(
      'taskId: "fix-login" is not what the file name says: "other/task.json"',
    );
    expect(reason(copy(kube), 'other.json')).toMatch(/is not what the file name says/);
  });
  it('of our own records has no capitals', () => {
    const record = parse(copy(kube));
    expect(reason(copy(record), 'fix-login.json')).toBe('accepted');
    expect(reason(copy(record), 'Fix-Login.json')).toMatch(/is not what the file name says/);
  });
  it('that is wrong leaves a record of a newer version where it is', () => {
    const newer = { schemaVersion: 2, taskId: 'a', kind: 'x', status: 'running' };
    expect(() => parse(newer, { fileName: 'b.json' })).toThrow(expect.objectContaining({ newer: true }));
  });
});

describe("the host's own shapes", () => {
  const ticket: LegacyShape<{ ticket: string; title: string; at: number }> = {
    name: 'tickets',
    schema: z.looseObject({ ticket: z.string(), title: z.string(), at: z.number() }),
    toRecord: (value) => ({
      taskId: value.ticket,
      kind: 'ticket',
      description: value.title,
      status: 'running',
      startedAt: value.at,
    }),
  };
  const value = { ticket: 'T-1', title: 'Broken', at: 1_700_000_000_000 };

  it('are read, with defaults for what they leave out', () => {
    expect(createParser([ticket])(value)).toEqual({
      schemaVersion: 1,
      taskId: 't-1',
      kind: 'ticket',
      description: 'Broken',
      status: 'running',
      detached: true,
      createdAt: 1_700_000_000_000,
      startedAt: 1_700_000_000_000,
      endedAt: null,
      attempt: 1,
      revision: 0,
      updatedAt: 1_700_000_000_000,
      owner: null,
      details: {},
      metadata: { tickets: { taskId: 'T-1' } },
      hooks: {},
    });
  });

  it('keep the rest of their metadata beside the id', () => {
    const shape = {
      ...ticket,
      toRecord: (v: never) => ({ ...ticket.toRecord(v, {}), metadata: { a: 1, tickets: { b: 2 } } }),
    };
    expect(createParser([shape])(value).metadata).toEqual({ a: 1, tickets: { taskId: 'T-1', b: 2 } });
  });

  it('come before the built-in ones, in their order, and are told the file name', () => {
    const seen: unknown[] = [];
    const shape = (name: string): LegacyShape => ({
      name,
      schema: z.looseObject({ task_id: z.string() }),
      toRecord: (_, context) => {
        seen.push(name, context);
        return { taskId: 't-77', kind: name, description: 'work', status: 'lost', createdAt: 1 };
      },
    });
    expect(createParser([shape('one'), shape('two')])(first('claude-hooks'), { fileName: 't-77.json' }).kind).toBe(
      'one',
    );
    expect(seen).toEqual(['one', { fileName: 't-77.json' }]);
    createParser([shape('three')])(first('claude-hooks'));
    expect(seen.slice(2)).toEqual(['three', {}]);
  });

  it('leave the built-in ones and our own as they are', () => {
    const both = createParser([ticket]);
    for (const system of systems) expect(both(copy(first(system)))).toEqual(parse(copy(first(system))));
    for (const [, text] of shippedRecords(1)) {
      // Filled in of an older record: nothing else is changed.
      const { revision, updatedAt, ...record } = both(JSON.parse(text));
      expect([record, revision, typeof updatedAt]).toEqual([JSON.parse(text), 0, 'number']);
    }
  });

  it('are named with what they missed where nothing fits', () => {
    expect(reason({ ticket: 'a' }, undefined, [ticket])).toMatch(
      /^of no known shape: not tickets \(title: .*\), not kimi \(/,
    );
  });

  it.each([
    ['a schema that throws', { schema: standard(() => fail(new Error('boom'))) }, /^as a tickets record: boom$/],
    [
      'a schema that throws anything',
      { schema: standard(() => fail(Object.create(null))) },
      /^as a tickets record: threw an object$/,
    ],
    ['an asynchronous schema', { schema: standard(async (v) => ({ value: v })) }, /asynchronous/],
    ['a schema without an answer', { schema: standard(() => undefined) }, /^as a tickets record: /],
    [
      'a toRecord that throws',
      { toRecord: () => fail(new TypeError('no such field')) },
      /^as a tickets record: no such field$/,
    ],
    ['a toRecord without an answer', { toRecord: () => undefined }, /undefined/],
    ['a toRecord that answers a list', { toRecord: () => [] }, /expected an object, got an array of 0/],
    [
      'a toRecord that answers no JSON',
      { toRecord: () => ({ metadata: { f: () => 1 } }) },
      /toRecord\.metadata\.f is a function/,
    ],
    [
      'a toRecord without a description',
      { toRecord: () => ({ taskId: 'a', kind: 'b', status: 'lost', createdAt: 1 }) },
      /description: is missing; expected a string/,
    ],
    [
      'a toRecord with an unknown status',
      { toRecord: () => ({ taskId: 'a', kind: 'b', description: 'work', status: 'odd', createdAt: 1 }) },
      /status: expected one of/,
    ],
    [
      'a toRecord with another version',
      { toRecord: () => ({ schemaVersion: 2, taskId: 'a', kind: 'b', status: 'lost' }) },
      /schemaVersion: expected 1 or nothing, got 2/,
    ],
    [
      'a toRecord with an id that is none',
      { toRecord: () => ({ taskId: '../a', kind: 'b', description: 'work', status: 'lost', createdAt: 1 }) },
      /taskId: .*got "\.\.\/a"/,
    ],
  ])('%s refuses the record', (_, fault, message) => {
    expect(reason(value, undefined, [{ ...ticket, ...fault } as LegacyShape])).toMatch(message);
  });
});

function standard(validate: (value: unknown) => unknown) {
  return { '~standard': { version: 1, vendor: 'test', validate } };
}

function fail(error: unknown): never {
  throw error;
}

describe('a key named __proto__', () => {
  it('is kept as a key, and changes nobody', () => {
    const evil = '{"polluted":true}';
    for (const system of systems) {
      const text = JSON.stringify(first(system)).replace(
        /}$/,
        `,"__proto__":${evil},"constructor":{"prototype":${evil}}}`,
      );
      const record = parse(JSON.parse(text));
      const name = system.startsWith('kimi') ? 'kimi' : system;
      const own = record.metadata[name] as object;
      expect(Object.getPrototypeOf(own)).toBe(Object.prototype);
      expect(Object.getOwnPropertyDescriptor(own, '__proto__')?.value).toEqual({ polluted: true });
      expect(JSON.stringify(parseCurrentRecord(copy(record)))).toBe(JSON.stringify(record));
    }
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });

  it('cannot stand in for a field', () => {
    const value = copy(first('hermes-webui'));
    const { prompt: _, ...rest } = value;
    expect(reason(JSON.parse(JSON.stringify(rest).replace(/^{/, '{"__proto__":{"prompt":"x"},')))).toContain(
      'prompt: is missing; expected a string',
    );
  });
});

describe('isOrphanedLegacy', () => {
  it('is true of what runs by a host that is gone, also once it was rewritten, until it has ended', () => {
    for (const system of systems) {
      for (const { value, name } of fixturesOf(system)) {
        const record = parse(copy(value));
        const expected = system !== 'kube-coder' && ['running', 'waiting'].includes(record.status);
        expect(isOrphanedLegacy(record), name).toBe(expected);
        expect(isOrphanedLegacy(parse(copy({ ...record, description: 'changed' }))), name).toBe(expected);
        expect(isOrphanedLegacy({ ...record, status: 'lost', endedAt: 1 }), name).toBe(false);
      }
    }
  });

  it('is false of our own tasks, and of those of the shapes of a host', () => {
    for (const [, text] of shippedRecords(1)) expect(isOrphanedLegacy(parse(JSON.parse(text)))).toBe(false);
    const record = parse(copy(first('kimi-current')));
    expect(isOrphanedLegacy({ ...record, metadata: {} })).toBe(false);
    expect(isOrphanedLegacy({ ...record, metadata: { kimi: 'a word of the host' } })).toBe(false);
  });
});

describe('parseTaskRecord', () => {
  it('leaves the value as it is, and freezes its answer', () => {
    const value = copy(first('kube-coder'));
    const before = copy(value);
    const task = parseTaskRecord(value);
    expect(value).toEqual(before);
    expect(Object.isFrozen(value)).toBe(false);
    expect(Object.isFrozen(task.metadata['kube-coder'])).toBe(true);
    expect(String(task.kind)).toBe('tmux');
  });

  it('shows a running task of a host that is gone as running: it judges nothing', () => {
    expect(parseTaskRecord(first('kimi-current')).status).toBe('running');
  });

  it('throws one kind of error, with every problem', () => {
    for (const value of [
      undefined,
      5n,
      Symbol('x'),
      () => 1,
      {
        get taskId() {
          throw new Error('boom');
        },
      },
      cyclic(),
    ]) {
      expect(() => parseTaskRecord(value)).toThrow(
        expect.objectContaining({ name: 'BackgroundTaskError', code: 'INVALID_SPEC' }),
      );
    }
    expect(() => parseTaskRecord({ ...first('kube-coder'), prompt: 1, workdir: 2 })).toThrow(
      'not a task record: as a kube-coder record: prompt: expected a string, got a number (1); workdir: expected a string, got a number (2)',
    );
  });
});

function cyclic(): object {
  const value: { self?: object } = {};
  value.self = value;
  return value;
}
