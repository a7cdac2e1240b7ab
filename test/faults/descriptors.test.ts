/* A host that has no file descriptor left, for real: it can look at nothing, so it says nothing, and goes on when it can. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { killAllAfterwards, onDisk } from '../helpers/faults.js';
import { startHost } from '../helpers/host.js';
import { tempDirectory } from '../helpers/wait.js';

it('a host without a free descriptor calls nothing lost, launches nothing, and settles everything once it has one', async () => {
  const directory = tempDirectory('holdfast-fds-');
  killAllAfterwards(directory);
  const first = startHost(
    `const manager = await BackgroundTaskManager.open({ directory, fsync: false });
     for (const [id, end] of [['adopted', 'exit 3'], ['stays', 'sleep 600']])
       await manager.registerTask({ kind: 'process', taskId: id, description: 'work', command: 'until [ -e "' + directory + '/.gate" ]; do sleep 0.02; done; ' + end });
     say('ready');`,
    directory,
  );
  await first.next();
  await first.kill();
  const host = startHost(
    `const fs = await import('node:fs');
     const manager = await BackgroundTaskManager.open({ directory, fsync: false, reconcileIntervalMs: 20, stopGraceMs: 300 });
     const told = new Set();
     const lost = [];
     manager.on('error', ({ error }) => told.add(error.code));
     manager.on('task:settled', ({ task }) => task.status === 'lost' && lost.push(task.taskId));
     await manager.registerTask({ kind: 'process', taskId: 'own', description: 'work', command: 'until [ -e "' + directory + '/.gate" ]; do sleep 0.02; done; exit 5' });
     let finish;
     await manager.registerTask({ kind: 'function', taskId: 'inside', description: 'work', run: () => new Promise((resolve) => { finish = resolve; }) });
     const fds = [];
     const fill = () => { try { for (;;) fds.push(fs.openSync('/dev/null')); } catch (error) { if (error.code !== 'EMFILE') throw error; } };
     // What a pass had open at first is closed by now, and taken too.
     for (let turn = 0; turn < 10; turn++) { fill(); await new Promise((resolve) => setTimeout(resolve, 10)); }
     fill();
     say('full');
     const refused = await manager.registerTask({ kind: 'process', taskId: 'never', description: 'work', command: 'touch "' + directory + '/.ran"' }).catch((error) => error.code);
     finish(1);
     const stopping = manager.stopTask('stays');
     stopping.catch(() => {});
     const reports = [];
     for (let pass = 0; pass < 5; pass++) reports.push(await manager.reconcile().then(({ lost }) => lost, (error) => error.code));
     await new Promise((resolve) => setTimeout(resolve, 400));
     const during = manager.listTasks().map(({ taskId, status }) => taskId + ' ' + status).sort();
     for (const fd of fds) fs.closeSync(fd);
     const ended = await Promise.all(['adopted', 'own', 'inside', 'stays'].map((id) => manager.waitForTask(id)));
     say({ refused, reports: reports.flat(), lost, told: [...told], during, ended: ended.map(({ status, details }) => [status, details.exitCode ?? null]), used: manager.status().slots.used });
     await manager.close();`,
    directory,
    { NODE_NO_WARNINGS: '1' },
  );
  expect(await host.next()).toBe('full');
  writeFileSync(join(directory, '.gate'), '');
  const story = await host.next();
  expect(story).toMatchObject({ refused: 'STORAGE_FAILED', lost: [], used: 0 });
  expect(story.reports.filter((one: string) => one !== 'STORAGE_FAILED')).toEqual([]);
  expect(story.told).toContain('STORAGE_FAILED');
  expect(story.during.filter((one: string) => one.endsWith('lost'))).toEqual([]);
  expect(story.ended.slice(0, 3)).toEqual([
    ['failed', 3],
    ['failed', 5],
    ['completed', null],
  ]);
  expect(story.ended[3][0]).toBe('killed');
  expect(await host.ended, host.stderr()).toBe(0);
  expect(onDisk(directory, 'never')).toBeUndefined();
});
