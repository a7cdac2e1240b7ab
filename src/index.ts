export type { BackgroundTaskErrorCode } from './errors.js';
export { BackgroundTaskError, PermanentDeliveryError } from './errors.js';
export type { BackgroundTaskEvents, ReconcileReport } from './events.js';
export type { Delivery, DeliveryEntry, Hook, HookDefinition, HookOptions } from './hooks/types.js';
export type { ImportReport } from './legacy/import.js';
export { parseTaskRecord } from './legacy/parser.js';
export type { LegacyShape } from './legacy/types.js';
export type { PruneOptions } from './lifecycle/retention.js';
export type { CloseOptions, ManagerStatus } from './lifecycle/status.js';
export type { StopOptions } from './lifecycle/task/stopping.js';
export type { WaitOptions } from './lifecycle/waits.js';
export { BackgroundTaskManager } from './manager.js';
export type { OpenOptions } from './options.js';
export type { OutputWindow, ReadOutputOptions } from './output/types.js';
export type { ReadReport } from './records.js';
export { importTasks, readTask, readTaskOutput, readTasks } from './records.js';
export { defineTaskKind } from './task/define-kind.js';
export type { ListPage, TaskFilter, TaskSelector } from './task/filter.js';
export { isFailed, isFunctionTask, isProcessTask, isTerminal, isWaiting } from './task/guards.js';
export type {
  AnyTaskKind,
  ExistingWork,
  KindBase,
  KindName,
  Probe,
  RecoverProcess,
  Run,
  RunContext,
  SameTask,
  StartContext,
  Task,
  TaskKind,
  TaskNamed,
  TaskOfKind,
} from './task/kind.js';
export type { FunctionSpec, InProcessWork, ProcessSpec, Slot, SpecBase, SpecNamed, SpecOfKind } from './task/spec.js';
export { isTerminalStatus } from './task/status.js';
export type {
  ActiveStatus,
  AnyTask,
  Awaitable,
  Ended,
  Failed,
  FunctionTask,
  HookState,
  JsonObject,
  JsonValue,
  KindField,
  OtherKind,
  OtherTask,
  OwedDelivery,
  OwnerIdentity,
  ProcessDetails,
  ProcessTask,
  Progress,
  StandardSchema,
  StopCause,
  TaskError,
  TaskOf,
  TaskRef,
  TaskStatus,
  TaskStop,
  TerminalStatus,
  UnknownKind,
  UnknownTask,
  Waiting,
  WaitingFor,
} from './task/types.js';
