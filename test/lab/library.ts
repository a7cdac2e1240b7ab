/*
 * The library under test is the built package, as a host gets it. The path is spelled out because the compiler options of this repository
 * lead the name `holdfast` to the sources.
 */
import type * as Holdfast from 'holdfast';

const built = new URL('../../dist/index.js', import.meta.url).href;

export const { BackgroundTaskManager, parseTaskRecord, readTasks } = (await import(built)) as typeof Holdfast;
export type Manager = Holdfast.BackgroundTaskManager;
export type Slot = Holdfast.Slot;
