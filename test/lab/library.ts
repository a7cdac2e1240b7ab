/*
 * The library under test is the built package, as a host gets it. The path is spelled out because the compiler options of this repository
 * lead the name `holdfast` to the sources.
 */
import type * as Holdfast from 'holdfast';
import type * as Webhook from 'holdfast/webhook';

const built = (file: string) => import(new URL(`../../dist/${file}`, import.meta.url).href);

export const { BackgroundTaskError, BackgroundTaskManager, defineTaskKind, parseTaskRecord, readTasks } = (await built(
  'index.js',
)) as typeof Holdfast;
export const { webhookHook } = (await built('webhook.js')) as typeof Webhook;
export type Manager = Holdfast.BackgroundTaskManager;
export type Slot = Holdfast.Slot;
