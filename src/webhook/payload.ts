/* The default payload: small whatever the task holds, because receivers limit what they take. */
import type { AnyTask, JsonValue, OutputWindow, ReadOutputOptions } from '../index.js';
import { cutText, jsonBytes } from '../internal.js';

/** The whole body. */
export const MAX_PAYLOAD_BYTES = 20_000;
/** The task's part of it; what is left belongs to the end of the output. */
const MAX_TASK_BYTES = 12_000;
const MAX_TEXT_BYTES = 1_024;
/** Without these a receiver does not know what happened. None of them can be large. */
const essential = new Set(['taskId', 'status', 'createdAt', 'startedAt', 'endedAt']);
/** A colon and a comma. */
const SEPARATORS = 2;
const LATEST_DATE = 8.64e15;

/** What a receiver gets where the host does not say otherwise. */
export interface WebhookPayload {
  /** `task.completed`, `task.failed`, `task.timed_out`, `task.killed` or `task.lost`. */
  readonly type: string;
  /** When the task ended. The time of the attempt is in the header. */
  readonly timestamp: string;
  readonly data: {
    /** The task's record, without the fields that are named in `omitted`; long texts are cut, ending in "…". */
    readonly task: { readonly [field: string]: JsonValue };
    /** The end of the task's output. */
    readonly output: string;
    /** Whether there is output before it. */
    readonly outputTruncated: boolean;
    /** The fields of the task that were too large. Absent: none was. */
    readonly omitted?: readonly string[];
  };
}

/** At most {@link MAX_PAYLOAD_BYTES} as JSON. */
export async function defaultPayload(
  task: AnyTask,
  readOutput: (options: ReadOutputOptions) => Promise<OutputWindow>,
): Promise<WebhookPayload> {
  const { kept, omitted } = fitted(task);
  const ended = new Date(Math.min(task.endedAt ?? task.createdAt, LATEST_DATE));
  const payload = (output: string, outputTruncated: boolean): WebhookPayload => ({
    type: `task.${task.status}`,
    timestamp: ended.toISOString(),
    data: { task: kept, output, outputTruncated, ...(omitted.length > 0 && { omitted }) },
  });
  const room = MAX_PAYLOAD_BYTES - jsonBytes(payload('', false));
  const window = await readOutput({ tailBytes: room });
  const output = fittingTail(window.text, room);
  return payload(output, window.truncated || output.length < window.text.length);
}

/** The task without its largest fields, as many as it takes. */
function fitted(task: AnyTask): { kept: WebhookPayload['data']['task']; omitted: string[] } {
  const kept: Record<string, JsonValue> = { ...(task as unknown as Record<string, JsonValue>) };
  for (const key of ['description', 'stopReason']) {
    if (typeof kept[key] === 'string') kept[key] = cutText(kept[key], MAX_TEXT_BYTES);
  }
  if (task.error) kept.error = { ...task.error, message: cutText(task.error.message, MAX_TEXT_BYTES) };
  const sizes = Object.entries(kept)
    .filter(([key]) => !essential.has(key))
    .map(([key, value]) => ({ key, bytes: jsonBytes(key) + jsonBytes(value) }))
    .sort((a, b) => b.bytes - a.bytes);
  const omitted: string[] = [];
  let total = jsonBytes(kept);
  for (const { key, bytes } of sizes) {
    if (total <= MAX_TASK_BYTES) break;
    delete kept[key];
    total -= bytes + SEPARATORS;
    // Fields of other versions may be too many, or their names too long, to mention.
    if (jsonBytes([...omitted, key]) <= MAX_TEXT_BYTES) omitted.push(key);
  }
  return { kept, omitted };
}

/** The end of `text` that takes at most `bytes` as JSON, where a control character takes six and a quote two; never half a character. */
function fittingTail(text: string, bytes: number): string {
  if (jsonBytes(text) - 2 <= bytes) return text;
  let start = text.length;
  for (let left = bytes; start > 0; ) {
    const low = text.charCodeAt(start - 1);
    const pair = low >= 0xdc00 && low <= 0xdfff && start > 1 ? 2 : 1;
    left -= jsonBytes(text.slice(start - pair, start)) - 2;
    if (left < 0) break;
    start -= pair;
  }
  return text.slice(start);
}
