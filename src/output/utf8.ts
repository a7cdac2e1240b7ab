/*
 * Where characters begin and end. A boundary is a place at which a decoder may stop and another one start without a
 * difference: no character, and no broken piece of one that a decoder takes as a whole, lies across it. UTF-8 tells
 * from three bytes before and one after.
 */

/** The longest character, in bytes. */
export const MAX_CHARACTER_BYTES = 4;

/**
 * How many bytes before `position` the character begins that lies across it; 0 where `position` is a boundary. At the
 * end of `bytes`: how many bytes at the end are the beginning of a character that may still be completed.
 */
export function bytesOfOpenCharacter(bytes: Uint8Array, position: number): number {
  for (let back = 1; back < MAX_CHARACTER_BYTES && back <= position; back++) {
    const start = position - back;
    if (isContinuation(bytes[start]!)) continue;
    return reaches(bytes, start, position) ? back : 0;
  }
  return 0;
}

/** The first boundary at or after `position`. */
export function nextBoundary(bytes: Uint8Array, position: number): number {
  let boundary = position;
  while (boundary < bytes.length && bytesOfOpenCharacter(bytes, boundary) > 0) boundary++;
  return boundary;
}

/** The last boundary at or before `position`. */
export function previousBoundary(bytes: Uint8Array, position: number): number {
  return position - bytesOfOpenCharacter(bytes, position);
}

/**
 * Whether the character that begins at `start` takes the byte at `position`, or would take one that is not there yet.
 */
function reaches(bytes: Uint8Array, start: number, position: number): boolean {
  const first = bytes[start]!;
  if (start + lengthFrom(first) <= position) return false;
  for (let at = start + 1; at <= position && at < bytes.length; at++) {
    if (!isContinuation(bytes[at]!)) return false;
    if (at === start + 1 && !mayFollow(first, bytes[at]!)) return false;
  }
  return true;
}

function isContinuation(byte: number): boolean {
  return (byte & 0xc0) === 0x80;
}

/** The length of the character that begins with this byte; 1 for a byte that begins none. */
function lengthFrom(first: number): number {
  if (first >= 0xc2 && first <= 0xdf) return 2;
  if (first >= 0xe0 && first <= 0xef) return 3;
  return first >= 0xf0 && first <= 0xf4 ? 4 : 1;
}

/**
 * No overlong forms, no surrogates, nothing beyond U+10FFFF: what is none of these the decoder breaks before the second
 * byte.
 */
function mayFollow(first: number, second: number): boolean {
  if (first === 0xe0) return second >= 0xa0;
  if (first === 0xed) return second <= 0x9f;
  if (first === 0xf0) return second >= 0x90;
  return first !== 0xf4 || second <= 0x8f;
}
