/* A host that one of its own tasks starts: it takes the directory over once the first owner is dead, and stops the task that it runs in. */
import { writeFileSync } from 'node:fs';
import { BackgroundTaskManager } from 'holdfast';
import { pause, plan } from './kit.mjs';

async function open() {
  for (;;) {
    try {
      return await BackgroundTaskManager.open({ directory: plan.directory, fsync: false, stopGraceMs: 50 });
    } catch (error) {
      if (error.code !== 'DIRECTORY_OWNED') throw error;
      await pause(5);
    }
  }
}

writeFileSync(plan.begun, `${process.pid}`);
const manager = await open();
const { status } = await manager.stopTask('around');
await manager.close();
// A signal that comes late is one, too.
await pause(150);
writeFileSync(plan.told, status);
