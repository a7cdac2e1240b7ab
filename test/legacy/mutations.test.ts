/* "A wrong reading is worse than none": whatever happens to a record, it is read as what it says, or refused with a reason. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BackgroundTaskError } from '../../src/errors.js';
import { createParser, parseTaskRecord } from '../../src/legacy/parser.js';
import { parseCurrentRecord, RecordError, type TaskRecord } from '../../src/task/record.js';
import { fixturesOf, meaningOf, records, shippedRecords, systems } from '../helpers/legacy.js';

const parse = createParser([]);
const copy = <T>(value: T): T => JSON.parse(JSON.stringify(value));
type Value = Record<string, unknown>;
type Mutation = (value: Value) => Value;

const anything = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom(null, '', -1, 0, 1.5, true, [], {}, 'running', 'completed', 1e12),
);
const place = fc.nat();
const at = (value: Value, index: number) => {
  const keys = Object.keys(value);
  return keys[index % keys.length]!;
};
const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  place.map(
    (index): Mutation =>
      (value) => {
        const { [at(value, index)]: _, ...rest } = value;
        return rest;
      },
  ),
  fc.tuple(place, anything).map(
    ([index, item]): Mutation =>
      (value) => ({ ...value, [at(value, index)]: item }),
  ),
  fc.tuple(fc.string(), anything).map(
    ([key, item]): Mutation =>
      (value) => ({ ...value, [`+${key}`]: item }),
  ),
  fc.tuple(place, fc.string()).map(
    ([index, name]): Mutation =>
      (value) => {
        const { [at(value, index)]: item, ...rest } = value;
        return { ...rest, [`+${name}`]: item };
      },
  ),
);
const mutations = fc.array(mutation, { minLength: 1, maxLength: 3 });

/** The record, or undefined where it was refused with a reason. */
function read(value: unknown): TaskRecord | undefined {
  try {
    return parse(value);
  } catch (error) {
    expect(error).toBeInstanceOf(RecordError);
    expect((error as Error).message).toMatch(/\S/);
    return undefined;
  }
}

describe.each(systems)('a mutated record of %s', (system) => {
  it('means what it says, or is refused', () => {
    let accepted = 0;
    let refused = 0;
    fc.assert(
      fc.property(records[system], mutations, (original, steps) => {
        const value = copy(
          steps.reduce((record, step) => (Object.keys(record).length > 0 ? step(record) : record), original),
        );
        const record = read(copy(value));
        if (!record) {
          refused++;
          return;
        }
        accepted++;
        expect(record).toMatchObject(meaningOf(system, value));
        expect(typeof record.description).toBe('string');
        expect(parseCurrentRecord(copy(record))).toEqual(record);
      }),
      { numRuns: 2000 },
    );
    expect(Math.min(accepted, refused)).toBeGreaterThan(100);
  });
});

it('with one field called as another system calls one of its: means what it says, or is refused', () => {
  const all = systems.flatMap((system) => fixturesOf(system).map(({ value }) => ({ system, value })));
  const names = [...new Set(all.flatMap(({ value }) => Object.keys(value)))];
  // One for each set of fields and status.
  const distinct = new Map(all.map((one) => [`${one.system} ${one.value.status} ${Object.keys(one.value)}`, one]));
  for (const { system, value } of distinct.values()) {
    for (const field of Object.keys(value)) {
      for (const name of names) {
        const { [field]: item, ...rest } = value;
        const renamed = { ...rest, [name]: item };
        const record = read(copy(renamed));
        if (record) expect(record, `${field} as ${name}`).toMatchObject(meaningOf(system, renamed));
      }
    }
  }
});

it('of our own: means what it says, or is refused', () => {
  const shipped = shippedRecords(1).map(([, text]) => JSON.parse(text) as Value);
  fc.assert(
    fc.property(fc.constantFrom(...shipped), mutations, (original, steps) => {
      const value = copy(steps.reduce((record, step) => step(record), original));
      const record = read(copy(value));
      if (!record || value.schemaVersion !== 1) return;
      // Filled in where an older record has none: nothing else is added or changed.
      const { revision, updatedAt } = record;
      expect(record).toEqual({ revision: 0, updatedAt, ...value });
      expect(revision).toBeGreaterThanOrEqual(0);
    }),
    { numRuns: 2000 },
  );
});

it('reads any JSON, or refuses it, and never fails otherwise', () => {
  const field = fc.constantFrom(
    ...[
      'schemaVersion',
      'taskId',
      'task_id',
      'kind',
      'status',
      'hooks',
      '__proto__',
      'constructor',
      'toString',
      'toJSON',
    ],
    ...['started_at', 'finished_at', 'prompt', 'answer', 'details', 'metadata'],
  );
  fc.assert(
    fc.property(fc.oneof(fc.jsonValue(), fc.dictionary(field, fc.jsonValue())), (value) => {
      read(copy(value));
      try {
        parseTaskRecord(value);
      } catch (error) {
        expect(error).toBeInstanceOf(BackgroundTaskError);
      }
    }),
    { numRuns: 3000 },
  );
});

it('reads anything that is no JSON at all, or refuses it, and leaves it as it is', () => {
  fc.assert(
    fc.property(
      fc.anything({ withBigInt: true, withDate: true, withMap: true, withNullPrototype: true, withSparseArray: true }),
      (value) => {
        try {
          parseTaskRecord(value);
        } catch (error) {
          expect(error).toMatchObject({ name: 'BackgroundTaskError', code: 'INVALID_SPEC' });
        }
        read(value);
      },
    ),
    { numRuns: 2000 },
  );
});
