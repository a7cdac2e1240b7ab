import type { JsonObject, JsonValue } from './types.js';

/** Deeper values could be read, but writing them back would overflow the stack: no record holds them. */
const MAX_DEPTH = 1024;
/** Values from the host may have fewer levels, so that they fit into any place of a record. */
const MAX_GIVEN_DEPTH = 1000;

/** Thrown by {@link toJson}: the message says where and what. */
export class NotJsonError extends TypeError {
  override readonly name = 'NotJsonError';
}

/**
 * A deep, frozen copy of `value` as JSON keeps it; throws {@link NotJsonError} naming the first place that JSON would
 * lose or change. Properties that are `undefined` are left out, `toJSON` is honoured.
 */
export function toJson(value: unknown, at: string): JsonValue {
  assertGiven(value, at, []);
  return deepFreeze(JSON.parse(JSON.stringify(value)) as JsonValue);
}

function assertGiven(value: unknown, at: string, parents: object[]): void {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return;
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new NotJsonError(`${at} is ${value}, which JSON cannot hold`);
    return;
  }
  if (typeof value !== 'object') throw new NotJsonError(`${at} is a ${typeof value}, which JSON cannot hold`);
  if (parents.includes(value)) throw new NotJsonError(`${at} refers back to a value that contains it`);
  if (parents.length > MAX_GIVEN_DEPTH)
    throw new NotJsonError(`${at.slice(0, 80)}… is nested more than ${MAX_GIVEN_DEPTH} levels deep`);
  const custom = (value as { toJSON?: unknown }).toJSON;
  if (typeof custom === 'function') {
    assertGiven(custom.call(value, ''), at, [...parents, value]);
    return;
  }
  const tag = Object.prototype.toString.call(value);
  if (tag !== '[object Object]' && !Array.isArray(value)) {
    throw new NotJsonError(`${at} is a ${tag.slice(8, -1)}, which JSON cannot hold`);
  }
  parents.push(value);
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) assertGiven(value[i], `${at}[${i}]`, parents);
  } else {
    for (const [key, item] of Object.entries(value)) {
      if (item !== undefined) assertGiven(item, `${at}.${key}`, parents);
    }
  }
  parents.pop();
}

/**
 * The first place in a value from disk that JSON would lose or change, or that is nested too deeply to be written back.
 * Its path is collected from the inside out, so that nothing is built for a good value.
 */
export function findNotJson(value: unknown, depth = 0): { path: string[]; problem: string } | undefined {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return undefined;
    case 'number':
      return Number.isFinite(value) ? undefined : { path: [], problem: `is ${value}, which JSON cannot hold` };
    case 'object':
      break;
    default:
      return {
        path: [],
        problem: `is ${typeof value === 'undefined' ? 'undefined' : `a ${typeof value}`}, which JSON cannot hold`,
      };
  }
  if (value === null) return undefined;
  if (depth > MAX_DEPTH) return { path: [], problem: `is nested more than ${MAX_DEPTH} levels deep` };
  const keys = Array.isArray(value) ? undefined : Object.keys(value);
  if (keys && !isPlainObject(value)) {
    return { path: [], problem: `is a ${Object.prototype.toString.call(value).slice(8, -1)}, which JSON cannot hold` };
  }
  const length = keys ? keys.length : (value as unknown[]).length;
  for (let i = 0; i < length; i++) {
    const key = keys ? keys[i]! : i;
    const found = findNotJson((value as Record<string | number, unknown>)[key], depth + 1);
    if (found) {
      found.path.push(String(key));
      return found;
    }
  }
  return undefined;
}

/** Whether it is an object as JSON makes them: a `Date`, a `Map` or an array is none. */
export function isPlainObject(value: unknown): value is JsonObject {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const prototype = Object.getPrototypeOf(value);
  // Objects of another realm have another `Object.prototype`, which is as well the end of its chain.
  return prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null;
}

/** Freezes a tree of plain data in place. Iterative: records may be deeply nested. */
export function deepFreeze<T>(value: T): T {
  const open: unknown[] = [value];
  while (open.length > 0) {
    const next = open.pop();
    if (typeof next !== 'object' || next === null || Object.isFrozen(next)) continue;
    Object.freeze(next);
    for (const item of Object.values(next)) open.push(item);
  }
  return value;
}

/** The length of `value` as it would be written, in bytes of UTF-8. */
export function jsonBytes(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value) ?? '');
}

/** Cuts a text so that it takes at most `maxBytes` of UTF-8, never within a character. */
export function cutText(text: string, maxBytes: number): string {
  if (Buffer.byteLength(text) <= maxBytes) return text;
  const ellipsis = '…';
  const bytes = Buffer.from(text).subarray(0, maxBytes - Buffer.byteLength(ellipsis));
  let end = bytes.length;
  // A cut within a character leaves its lead byte (11xxxxxx) with too few continuation bytes (10xxxxxx) behind it.
  while (end > 0 && (bytes[end - 1]! & 0xc0) === 0x80) end--;
  if (end > 0 && bytes[end - 1]! >= 0xc0) end--;
  else end = bytes.length;
  return bytes.subarray(0, end).toString() + ellipsis;
}
