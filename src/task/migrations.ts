/*
 * Records of earlier versions. A version that ever shipped reads for ever: each step takes a record of one version to the next, and a
 * record of each version is kept as a fixture of the tests. Steps are pure; what they return is written back only when the task next
 * changes. Version 1 is the first, so there is no step yet; the first one is added here as `1: (record) => ({ … })`.
 */
import type { JsonObject } from './types.js';

/** A record of version n as one of version n + 1. Unknown keys are kept. */
export type Migration = (record: JsonObject) => JsonObject;

/** The steps, by the version that they read. */
export const migrations: { readonly [version: number]: Migration } = {};

/**
 * The record as `target` writes it: every step from its own version on, in order. A record whose version has no step (0, 1.5, a text) is
 * returned as it is, for the schema to name the problem.
 */
export function migrate(record: JsonObject, target: number, steps = migrations): JsonObject {
  let migrated = record;
  for (let version = record.schemaVersion; typeof version === 'number' && version < target; version++) {
    const step = Object.hasOwn(steps, version) ? steps[version] : undefined;
    if (!step) break;
    migrated = { ...step(migrated), schemaVersion: version + 1 };
  }
  return migrated;
}
