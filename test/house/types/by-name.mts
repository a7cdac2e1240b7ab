// Resolves `holdfast` and `holdfast/webhook` through package.json, as an installed package is.
import { BackgroundTaskManager, PermanentDeliveryError } from 'holdfast';
import { webhookHook } from 'holdfast/webhook';

export const open = (): Promise<BackgroundTaskManager> =>
  BackgroundTaskManager.open({ directory: 'x', hooks: { callback: webhookHook({ url: 'https://example.com/hook' }) } });
export const giveUp: Error = new PermanentDeliveryError('no');
