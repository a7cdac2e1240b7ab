import { describe, expect, it } from 'vitest';
import { migrate, migrations } from '../../src/task/migrations.js';
import { parseCurrentRecord, SCHEMA_VERSION } from '../../src/task/record.js';
import { shippedRecords } from '../helpers/legacy.js';

const versions = Array.from({ length: SCHEMA_VERSION }, (_, index) => index + 1);

describe.each(versions)('records of schemaVersion %i, as they shipped', (version) => {
  const records = shippedRecords(version);

  it('are kept as fixtures', () => {
    expect(records.length).toBeGreaterThan(0);
  });

  it.each(records)('%s reads for ever', (name, text) => {
    const record = parseCurrentRecord(JSON.parse(text));
    expect(record.schemaVersion).toBe(SCHEMA_VERSION);
    expect(parseCurrentRecord(JSON.parse(JSON.stringify(record)))).toEqual(record);
    const { endedAt, startedAt, createdAt } = record;
    const unwritten = { revision: 0, updatedAt: endedAt ?? startedAt ?? createdAt };
    if (version === SCHEMA_VERSION) expect(record, name).toEqual({ ...unwritten, ...JSON.parse(text) });
  });
});

it('has a step from each earlier version, and no other', () => {
  expect(Object.keys(migrations).map(Number)).toEqual(versions.slice(0, -1));
});

describe('migrate', () => {
  const steps = {
    1: ({ name, ...rest }: object & { name?: string }) => ({ ...rest, description: name ?? '' }),
    2: (record: object) => ({ ...record, tags: [] }),
  };

  it('takes every step from the version of the record on, and keeps what it does not know', () => {
    const record = { schemaVersion: 1, name: 'x', novel: true };
    expect(migrate(record, 3, steps as never)).toEqual({ schemaVersion: 3, description: 'x', tags: [], novel: true });
    expect(migrate({ schemaVersion: 2, description: 'x' }, 3, steps as never)).toEqual({
      schemaVersion: 3,
      description: 'x',
      tags: [],
    });
    expect(record).toEqual({ schemaVersion: 1, name: 'x', novel: true });
  });

  it('leaves alone what has no step: the schema names that problem', () => {
    for (const schemaVersion of [0, 1.5, '1', null, 3, 4]) {
      expect(migrate({ schemaVersion }, 3, steps as never)).toEqual({ schemaVersion });
    }
  });
});
