/* kimi, current: camelCase, one `<taskId>.json` for each task beside its `<taskId>/output.log`. */
import { z } from 'zod';
import type { JsonObject } from '../task/types.js';
import {
  type BuiltInShape,
  fieldSchemas,
  lastStatus,
  lazy,
  nullWhile,
  present,
  recordOf,
  remains,
  toMilliseconds,
  toMillisecondsOrNull,
} from './fields.js';

const statuses = ['running', 'completed', 'failed', 'timed_out', 'killed', 'lost'] as const;

const common = lazy(() => {
  const { id, optionalText, time } = fieldSchemas();
  return z.object({
    taskId: id,
    description: z.string(),
    status: z.enum(statuses),
    startedAt: time,
    endedAt: time.nullable(),
    detached: z.boolean().nullish(),
    stopReason: optionalText,
    terminalNotificationSuppressed: z.boolean().nullish(),
    timeoutMs: time.nullish(),
  });
});
type Common = z.infer<ReturnType<typeof common>>;

const byKind = lazy(() => {
  const { optionalText, whole } = fieldSchemas();
  return z.discriminatedUnion(
    'kind',
    [
      nullWhile(
        z.object({
          kind: z.literal('process'),
          // Judged above; here only so that the exit code can be judged by it.
          status: z.unknown(),
          command: z.string(),
          pid: whole.nonnegative().nullable(),
          exitCode: whole.nullable(),
        }),
        ['running'],
        ['exitCode'],
      ),
      z.object({
        kind: z.literal('agent'),
        agentId: optionalText,
        subagentType: optionalText,
        model: optionalText,
        thinkingEffort: optionalText,
      }),
      z.object({ kind: z.literal('question'), questionCount: whole.nonnegative(), toolCallId: optionalText }),
    ],
    'expected "process", "agent" or "question"',
  );
});

const schema = lazy(() => z.intersection(nullWhile(common(), ['running'], ['endedAt']), byKind()));
type Value = z.infer<ReturnType<typeof schema>>;

export const kimiCurrent: BuiltInShape<Value> = {
  name: 'kimi',
  schema,
  fields: ['taskId', 'kind', 'description', 'startedAt', 'endedAt'],
  statuses,
  toRecord(value) {
    switch (value.kind) {
      case 'process': {
        const { command, pid, exitCode, ...rest } = value;
        return record(rest, { command, cwd: null, pid, exitCode, signal: null });
      }
      case 'agent': {
        const { agentId, subagentType, model, thinkingEffort, ...rest } = value;
        return record(rest, present({ agentId, subagentType, model, thinkingEffort }));
      }
      case 'question': {
        const { questionCount, toolCallId, ...rest } = value;
        return record(rest, present({ questionCount, toolCallId }));
      }
    }
  },
};

function record(value: Common & { kind: string }, details: JsonObject): JsonObject {
  const { taskId, kind, description, status, startedAt, endedAt, detached, stopReason, timeoutMs, ...rest } = value;
  return recordOf('kimi', {
    taskId,
    idField: 'taskId',
    kind,
    description,
    status,
    startedAt: toMilliseconds(startedAt),
    endedAt: toMillisecondsOrNull(endedAt),
    fields: { detached: detached ?? true, ...present({ stopReason, timeoutMs }) },
    details,
    remains: { ...lastStatus(status, status), ...remains(rest, ['terminalNotificationSuppressed']) },
  });
}
