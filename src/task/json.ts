import type { JsonValue } from './types.js';

/** Thrown by {@link toJson}: the message says where and what. */
export class NotJsonError extends TypeError {
  override readonly name = 'NotJsonError';
}

/**
 * A deep, frozen copy of `value` as JSON keeps it; throws {@link NotJsonError} naming the first place that JSON would lose or change.
 * Properties that are `undefined` are left out, `toJSON` is honoured.
 */
export function toJson(value: unknown, at: string): JsonValue {
  assertJson(value, at, []);
  return deepFreeze(JSON.parse(JSON.stringify(value)) as JsonValue);
}

function assertJson(value: unknown, at: string, parents: object[]): void {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return;
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new NotJsonError(`${at} is ${value}, which JSON cannot hold`);
    return;
  }
  if (typeof value !== 'object') throw new NotJsonError(`${at} is a ${typeof value}, which JSON cannot hold`);
  if (parents.includes(value)) throw new NotJsonError(`${at} refers back to a value that contains it`);
  if (parents.length > 1000) throw new NotJsonError(`${at.slice(0, 80)}… is nested more than 1000 levels deep`);
  const custom = (value as { toJSON?: unknown }).toJSON;
  if (typeof custom === 'function') {
    assertJson(custom.call(value, ''), at, [...parents, value]);
    return;
  }
  const tag = Object.prototype.toString.call(value);
  if (tag !== '[object Object]' && !Array.isArray(value)) {
    throw new NotJsonError(`${at} is a ${tag.slice(8, -1)}, which JSON cannot hold`);
  }
  parents.push(value);
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) assertJson(value[i], `${at}[${i}]`, parents);
  } else {
    for (const [key, item] of Object.entries(value)) {
      if (item !== undefined) assertJson(item, `${at}.${key}`, parents);
    }
  }
  parents.pop();
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
