/* Ownership among real processes: killed, stopped, in other namespaces, racing. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import type { OwnerIdentity } from '../../src/task/types.js';
import {
  type Answer,
  canRun,
  defer,
  eventually,
  heldClaims,
  makeRecord,
  openStore,
  StoreProcess,
  tempDir,
} from '../helpers/store.js';

const ROUNDS = Number(process.env.HOLDFAST_RACE_ROUNDS ?? 40);
const unshare = ['unshare', '--pid', '--fork', '--mount-proc', '--kill-child'];

let directory: string;
beforeEach(() => {
  directory = tempDir();
});

async function openedBy(host: StoreProcess): Promise<OwnerIdentity> {
  const answer = await host.call('open', directory);
  expect(answer).toMatchObject({ ok: true });
  return answer.value as OwnerIdentity;
}

it('replaces a killed owner at once, with its records', async () => {
  const host = new StoreProcess();
  await openedBy(host);
  await host.call('put', makeRecord('t-1'));
  await host.kill();
  const { store } = await openStore(directory);
  expect((await store.load()).records).toMatchObject([{ taskId: 't-1' }]);
});

it('never robs a stopped owner, whose writes go on when it is continued', async () => {
  const host = new StoreProcess();
  const owner = await openedBy(host);
  host.child.kill('SIGSTOP');
  await eventually('the stop', () => readFileSync(`/proc/${owner.pid}/stat`, 'latin1').includes(') T '));
  for (let i = 0; i < 20; i++) {
    const tried = openStore(directory, { foreignOwnerTimeoutMs: 1 });
    await expect(tried).rejects.toMatchObject({ code: 'DIRECTORY_OWNED', owner });
  }
  host.child.kill('SIGCONT');
  expect(await host.call('put', makeRecord('t-1'))).toMatchObject({ ok: true });
  expect(host.events).toEqual([]);
});

it.each([-3_600_000, 3_600_000])('judges alike when a wall clock is off by %d ms', async (shift) => {
  const [host, other] = [new StoreProcess(), new StoreProcess()];
  await host.call('shiftClock', -shift);
  const owner = await openedBy(host);
  await other.call('shiftClock', shift);
  expect(await other.call('open', directory)).toMatchObject({ ok: false, code: 'DIRECTORY_OWNED', owner });
  expect(await host.call('put', makeRecord('t-1'))).toMatchObject({ ok: true });
  await host.kill();
  expect(await other.call('open', directory)).toMatchObject({ ok: true });
  expect(await other.call('put', makeRecord('t-1'))).toMatchObject({ ok: true });
});

describe.skipIf(!canRun(unshare[0]!, ...unshare.slice(1), 'true'))(
  'an owner in another pid namespace (needs unshare)',
  () => {
    it('is asked through its socket: running and stopped it stays, killed it is replaced', async () => {
      // A path longer than any socket's may be.
      directory = join(directory, 'd'.repeat(120), 'tasks');
      const host = new StoreProcess(unshare);
      const owner = await openedBy(host);
      await expect(openStore(directory)).rejects.toMatchObject({ code: 'DIRECTORY_OWNED', owner });
      const pid = pidInside(host);
      process.kill(pid, 'SIGSTOP');
      await eventually('the stop', () => readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') T '));
      for (let i = 0; i < 10; i++) {
        const tried = openStore(directory, { foreignOwnerTimeoutMs: 1 });
        await expect(tried).rejects.toMatchObject({ code: 'DIRECTORY_OWNED', owner });
      }
      process.kill(pid, 'SIGCONT');
      expect(await host.call('put', makeRecord('t-1'))).toMatchObject({ ok: true });
      await killInside(host);
      const next = await openStore(directory);
      expect((await next.store.load()).records).toHaveLength(1);
    });

    it('sees us the same way, and a restarted container with the same pid is another one', async () => {
      const { store } = await openStore(directory);
      const first = new StoreProcess(unshare);
      expect(await first.call('open', directory)).toMatchObject({
        ok: false,
        code: 'DIRECTORY_OWNED',
        owner: store.owner,
      });
      await store.release();
      const owner = await openedBy(first);
      const second = new StoreProcess(unshare);
      expect(await second.call('open', directory)).toMatchObject({ ok: false, code: 'DIRECTORY_OWNED', owner });
      await killInside(first);
      expect((await openedBy(second)).pid).toBe(owner.pid);
    });

    it('is also judged right without a /proc of its own', async () => {
      const host = new StoreProcess(['unshare', '--pid', '--fork', '--kill-child']);
      const owner = await openedBy(host);
      expect(owner.pidNamespace).toMatch(/without its own/);
      await expect(openStore(directory)).rejects.toMatchObject({ code: 'DIRECTORY_OWNED', owner });
      await killInside(host);
      await openStore(directory);
    });

    /** The process itself, not the command that made its namespace, which then ends too. */
    async function killInside(host: StoreProcess): Promise<void> {
      process.kill(pidInside(host), 'SIGKILL');
      await eventually('the death', () => host.child.exitCode !== null || host.child.signalCode !== null);
    }

    function pidInside(host: StoreProcess): number {
      return Number(readFileSync(`/proc/${host.child.pid}/task/${host.child.pid}/children`, 'utf8').trim());
    }
  },
);

describe.skipIf(!canRun('unshare', '--mount', 'true'))('a host that restarted (needs unshare and a bind mount)', () => {
  it('replaces the owner of its former boot, and refuses one that also has another name', async () => {
    const host = new StoreProcess();
    const owner = await openedBy(host);
    const bootId = join(directory, 'boot_id');
    execFileSync('cp', ['/proc/sys/kernel/random/uuid', bootId]);
    const rebooted = (name: string) => [
      ...['unshare', '--mount', '--uts', 'sh', '-c'],
      `mount --bind "$0" /proc/sys/kernel/random/boot_id && echo "$1" > /proc/sys/kernel/hostname && shift && exec "$@"`,
      ...[bootId, name],
    ];
    const stranger = new StoreProcess(rebooted('another-host'));
    expect(await stranger.call('open', directory)).toMatchObject({ ok: false, code: 'DIRECTORY_OWNED', owner });
    const same = new StoreProcess(rebooted(hostname()));
    expect(await same.call('open', directory)).toMatchObject({ ok: true });
    expect(await host.call('put', makeRecord('t-1'))).toMatchObject({ ok: false, code: 'OWNERSHIP_LOST' });
    expect(host.events).toMatchObject([{ event: 'fenced' }]);
  });
});

it(`lets exactly one of 6 processes take over from a killed owner, ${ROUNDS} rounds`, {
  timeout: 1_200_000,
}, async () => {
  const ready = async () => {
    const host = new StoreProcess();
    await host.call('hello');
    return host;
  };
  let owner = await ready();
  await openedBy(owner);
  const racers = await Promise.all(Array.from({ length: 6 }, ready));
  defer(() => Promise.all(racers.map((racer) => racer.kill())));
  for (let round = 1; round <= ROUNDS; round++) {
    const replacement = ready();
    const at = Date.now() + 20;
    await owner.kill();
    const answers = await Promise.all(racers.map((racer) => racer.call('open', directory, { at })));
    const winners = racers.filter((_, i) => answers[i]!.ok);
    expect(winners, `round ${round}: ${JSON.stringify(answers)}`).toHaveLength(1);
    checkLosers(answers, round);
    expect(heldClaims(directory)).toEqual([`epoch-${round + 1}`]);
    owner = winners[0]!;
    racers.splice(racers.indexOf(owner), 1, await replacement);
  }
});

function checkLosers(answers: readonly Answer[], round: number): void {
  const winner = answers.find((answer) => answer.ok)!.value;
  for (const answer of answers) {
    if (!answer.ok) expect(answer, `round ${round}`).toMatchObject({ code: 'DIRECTORY_OWNED', owner: winner });
  }
}
