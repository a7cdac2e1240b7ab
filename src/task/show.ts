/* How error messages show a value: short, on one line, and never a part of what may be secret. */

const MAX_SHOWN = 80;

/** A value of the expected type as it stands; of any other, its type. */
export function show(value: unknown): string {
  if (typeof value === 'string') return quote(value);
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  return came(value);
}

/** An unexpected value: its type, and the value itself where that is short. */
export function came(value: unknown): string {
  if (typeof value === 'number') return Number.isFinite(value) ? `a number (${value})` : String(value);
  if (typeof value === 'string') return `a string (${quote(value)})`;
  if (typeof value === 'boolean') return `a boolean (${value})`;
  return typeName(value);
}

/** What came where a string belongs: a string as it stands; of any other value, its type. */
export function textOrType(value: unknown): string {
  return typeof value === 'string' ? show(value) : came(value);
}

/** The type of a value, without any part of it. */
export function typeName(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value !== 'object') return `a ${typeof value}`;
  try {
    if (Array.isArray(value)) return `an array of ${value.length}`;
    if (value instanceof URL) return `a URL with the protocol ${value.protocol}`;
    const tag = Object.prototype.toString.call(value).slice(8, -1);
    return tag === 'Object' ? 'an object' : withArticle(tag);
  } catch {
    return 'an object that cannot be looked at'; // a revoked proxy, or a getter that throws
  }
}

/** `a` or `an` before a name. */
export function withArticle(name: string): string {
  return `${/^[AEIOaeio]|^u(?!ni)/.test(name) ? 'an' : 'a'} ${name}`;
}

/** One word, or several as a choice. */
export function listOf(values: readonly unknown[]): string {
  return values.length === 1 ? show(values[0]) : `one of ${values.map(show).join(', ')}`;
}

function quote(text: string): string {
  if (text.length <= MAX_SHOWN) return JSON.stringify(text);
  return `${JSON.stringify(`${text.slice(0, MAX_SHOWN)}…`)} (${text.length} characters)`;
}
