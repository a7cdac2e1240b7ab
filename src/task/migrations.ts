/*
 * Records of earlier versions. Every version that was published stays readable: each step turns a record of one version
 * into one of the next, and the tests keep a record of each version as a fixture. Steps are pure; the result is written
 * back only when the task next changes. Version 1 is the first, so there is no step yet; the first one is added here as
 * `1: (record) => ({ … })`.
 */
import type { JsonObject } from './types.js';

/** A record of version n as one of version n + 1. Unknown keys are kept. */
export type Migration = (record: JsonObject) => JsonObject;

/** The steps, by the version that they read. */
export const migrations: { readonly [version: number]: Migration } = {};

/**
 * The record in the shape of version `target`: every step from its own version on, in order. A record whose version has
 * no step (0, 1.5, a string) is returned as it is; the schema then names the problem.
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
