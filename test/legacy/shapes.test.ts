import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createParser, parseTaskRecord } from '../../src/legacy/parser.js';
import { parseCurrentRecord } from '../../src/task/record.js';
import { defaults, fixturesOf, meaningOf, meanings, records, systems } from '../helpers/legacy.js';

const parse = createParser([]);
const copy = <T>(value: T): T => JSON.parse(JSON.stringify(value));

describe.each(systems)('%s', (system) => {
  const fixtures = fixturesOf(system);

  it.each(fixtures.map((fixture) => [fixture.name, fixture] as const))(
    'reads %s',
    (_, { value, expected, fileName }) => {
      const record = parse(copy(value), { fileName });
      const { endedAt, startedAt, createdAt } = record;
      const unwritten = { revision: 0, updatedAt: endedAt ?? startedAt ?? createdAt };
      expect(record).toEqual({ ...defaults, ...unwritten, ...expected });
      expect(parseTaskRecord(value, { fileName })).toEqual(record);
    },
  );

  it.each(fixtures.map((fixture) => [fixture.name, fixture] as const))(
    'writes %s back and reads it again: nothing lost',
    (_, { value, fileName }) => {
      const record = parse(copy(value), { fileName });
      const changed = { ...record, description: 'changed' };
      const again = parseCurrentRecord(copy(changed));
      expect(again).toEqual(changed);
      expect(parse(copy(record))).toEqual(record);
    },
  );

  it('has a fixture for each status', () => {
    const covered = new Set(fixtures.map(({ value }) => value.status));
    expect([...covered].sort()).toEqual(Object.keys(meanings[system]).sort());
  });

  it('reads any valid record as what it means, and keeps every value', () => {
    fc.assert(
      fc.property(records[system], (value) => {
        const record = parse(copy(value));
        expect(record).toMatchObject(meaningOf(system, value));
        expect(parseCurrentRecord(copy(record))).toEqual(record);
        expectKept(value, record);
      }),
      { numRuns: 500 },
    );
  });

  it('keeps fields that nobody told us of', () => {
    const key = fc.string({ minLength: 1 }).map((name) => `x ${name}`);
    const extras = fc.dictionary(key, fc.jsonValue(), { minKeys: 1 }).map(copy);
    fc.assert(
      fc.property(records[system], extras, (value, extra) => {
        const name = system.startsWith('kimi') ? 'kimi' : system;
        const said = Object.fromEntries(
          Object.entries(extra).filter(
            ([key, item]) =>
              !/secret$/i.test(key) && !(system === 'claude-hooks' && typeof item === 'string' && item.trim() === ''),
          ),
        );
        expect((parse(copy({ ...value, ...extra })).metadata[name] ?? {}) as object).toMatchObject(said);
      }),
      { numRuns: 200 },
    );
  });
});

/** Each text and number of the value is somewhere in the record: as it was, or as milliseconds; secrets and blanks are not. */
function expectKept(value: object, record: object): void {
  const kept = new Set(leaves(record));
  for (const [key, item] of Object.entries(value)) {
    if (key === 'response_secret') continue;
    // Statuses and flags are checked as what they mean.
    if (key === 'status' || key === 'timed_out' || key === 'hook_delivery') continue;
    if (item === null || (typeof item === 'string' && item.trim() === '')) continue;
    const found = kept.has(item) || (typeof item === 'number' && kept.has(Math.round(item * 1000)));
    const lowered = typeof item === 'string' && kept.has(item.toLowerCase());
    expect(found || lowered, `${key} = ${JSON.stringify(item)} in ${JSON.stringify(record)}`).toBe(true);
  }
}

function leaves(value: unknown): unknown[] {
  if (typeof value !== 'object' || value === null) return [value];
  return Object.values(value).flatMap(leaves);
}

it('keeps no secret', () => {
  fc.assert(
    fc.property(records['kube-coder'], (value) => {
      expect(JSON.stringify(parse(copy({ ...value, response_secret: 'whsec_do-not-keep' })))).not.toContain(
        'do-not-keep',
      );
    }),
  );
});
