import { execFileSync } from 'node:child_process';
import fs, {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { askBeacon, Beacon } from '../../src/store/beacon.js';
import { ownIdentity } from '../../src/store/identity.js';
import type { OwnerIdentity } from '../../src/task/types.js';
import {
  defer,
  eventually,
  heldClaims,
  identity,
  layoutOf,
  ManualClock,
  makeRecord,
  openStore,
  snapshot,
  tempDir,
} from '../helpers/store.js';

let directory: string;
beforeEach(() => {
  directory = tempDir();
});
const ownerDir = () => join(directory, '.owner');
const claim = (epoch: number) => join(ownerDir(), `epoch-${epoch}`);

/** A claim as another owner would have left it. */
function plant(owner: OwnerIdentity | string, epoch = 1): void {
  mkdirSync(ownerDir(), { recursive: true });
  writeFileSync(claim(epoch), typeof owner === 'string' ? owner : JSON.stringify(owner));
}

function mkdirOwner(): string {
  mkdirSync(ownerDir(), { recursive: true });
  return ownerDir();
}

const deadPid = { pid: 4_190_000, startTicks: '1' };

describe('one owner', () => {
  it('refuses a second one in the same process until the first gives up, and names the first', async () => {
    const first = await openStore(directory);
    await expect(openStore(directory)).rejects.toMatchObject({ code: 'DIRECTORY_OWNED', owner: first.store.owner });
    await first.store.release();
    const second = await openStore(directory);
    expect(second.store.owner.instanceId).not.toBe(first.store.owner.instanceId);
    expect(heldClaims(directory)).toEqual(['epoch-2']);
    await second.store.put(makeRecord('t-1'));
  });

  it('lets exactly one of many openers in the same process win', async () => {
    const outcomes = await Promise.allSettled(Array.from({ length: 12 }, () => openStore(directory)));
    const won = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value.store.owner] : []));
    expect(won).toHaveLength(1);
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected')
        expect(outcome.reason).toMatchObject({ code: 'DIRECTORY_OWNED', owner: won[0] });
    }
    expect(readdirSync(ownerDir()).sort()).toEqual(['epoch-1', 'epoch-1.lock', `${won[0]!.instanceId}.sock`].sort());
  });

  it('passes the directory on for ever, each owner sweeping the last', async () => {
    for (let epoch = 1; epoch <= 20; epoch++) {
      const { store } = await openStore(directory);
      expect(readdirSync(ownerDir()).sort()).toEqual(
        [`epoch-${epoch}`, `epoch-${epoch}.lock`, `${store.owner.instanceId}.sock`].sort(),
      );
      await store.release();
      expect(readdirSync(ownerDir())).toEqual([`epoch-${epoch}.released`]);
    }
  });

  it('is refused to a worker thread, and free again when one that owned it was terminated', async () => {
    const worker = (path: string) =>
      new Worker(
        `import { register } from 'tsx/esm/api'; register();
         import { parentPort } from 'node:worker_threads';
         const { openFileStore } = await import(${JSON.stringify(new URL('../../src/store/file-store.ts', import.meta.url).href)});
         const { systemClock } = await import(${JSON.stringify(new URL('../../src/clock.ts', import.meta.url).href)});
         parentPort.on('message', () => {});
         try {
           await openFileStore({ directory: ${JSON.stringify(path)}, fsync: false, clock: systemClock, parse() {}, onFenced() {}, onError() {} });
           parentPort.postMessage('open');
         } catch (error) { parentPort.postMessage(error.code); }`,
        { eval: true, execArgv: ['--input-type=module'] },
      );
    const ask = async (path: string) => {
      const thread = worker(path);
      defer(() => thread.terminate());
      const answer = await new Promise((resolve, reject) => thread.once('message', resolve).once('error', reject));
      return { thread, answer };
    };
    await openStore(directory);
    expect((await ask(directory)).answer).toBe('DIRECTORY_OWNED');

    const other = tempDir();
    const { thread, answer } = await ask(other);
    expect(answer).toBe('open');
    await expect(openStore(other)).rejects.toMatchObject({ code: 'DIRECTORY_OWNED' });
    await thread.terminate();
    await openStore(other);
  });
});

describe('the verdict on a recorded owner', () => {
  const cases: [string, () => OwnerIdentity, 'dead' | 'owned'][] = [
    ['a process that is gone', () => identity(deadPid), 'dead'],
    ['a pid that now belongs to another process', () => identity({ startTicks: '1' }), 'dead'],
    ['a process that is gone, under another host name', () => identity({ ...deadPid, hostname: 'renamed' }), 'dead'],
    ['a living process, under another host name', () => identity({ hostname: 'renamed', ...parentProcess() }), 'owned'],
    ['a former boot of this host', () => identity({ bootId: 'former', hostname: hostname() }), 'dead'],
    ['another boot of another host', () => identity({ bootId: 'other', hostname: 'other' }), 'owned'],
    ['another pid namespace without a socket', () => identity({ pidNamespace: 'pid:[1]' }), 'owned'],
    [
      'another pid namespace and an id that is a path',
      () => identity({ pidNamespace: 'pid:[1]', instanceId: '../x' }),
      'owned',
    ],
  ];

  it.each(cases)('%s', async (_what, owner, verdict) => {
    const recorded = owner();
    plant(recorded, 7);
    if (verdict === 'dead') {
      await openStore(directory);
      expect(heldClaims(directory)).toEqual(['epoch-8']);
    } else {
      await expect(openStore(directory)).rejects.toMatchObject({ code: 'DIRECTORY_OWNED', owner: recorded });
      expect(snapshot(ownerDir())).toEqual({ 'epoch-7': JSON.stringify(recorded) });
    }
  });

  it('asks the socket of an owner in another pid namespace', async () => {
    const recorded = identity({ pidNamespace: 'pid:[1]' });
    plant(recorded);
    const beacon = await Beacon.light(ownerDir(), recorded.instanceId);
    await expect(openStore(directory)).rejects.toMatchObject({ code: 'DIRECTORY_OWNED', owner: recorded });
    // The socket of a killed process stays, and refuses.
    const path = join(ownerDir(), `${recorded.instanceId}.sock`);
    renameSync(path, `${path}.kept`);
    await beacon!.extinguish();
    renameSync(`${path}.kept`, path);
    await openStore(directory);
    expect(existsSync(path)).toBe(false);
  });

  it('takes a blank claim for what a power cut left, unless somebody listens', async () => {
    plant('\0\0\0');
    const beacon = await Beacon.light(ownerDir(), 'somebody');
    await expect(openStore(directory)).rejects.toMatchObject({ code: 'DIRECTORY_OWNED' });
    await beacon!.extinguish();
    await openStore(directory);
  });

  it.each(['{"pid": 1', '{"pid":-1}', '[]', 'owned by me'])('leaves a garbled claim to a person: %s', async (text) => {
    plant(text, 3);
    const failure = openStore(directory);
    await expect(failure).rejects.toMatchObject({ code: 'DIRECTORY_OWNED' });
    await expect(failure).rejects.toThrow(claim(3));
    expect(readFileSync(claim(3), 'utf8')).toBe(text);
    rmSync(claim(3));
    await openStore(directory);
  });

  it('sweeps only what is its own below the claim it won', async () => {
    const old = identity(deadPid);
    plant(old, 4);
    const draft = `${old.instanceId}.claim`;
    for (const name of ['epoch-2', 'epoch-3.released', draft, 'README', 'epoch-x', 'my.sock']) {
      writeFileSync(join(ownerDir(), name), 'x');
    }
    mkdirSync(join(ownerDir(), 'epoch-4.lock'));
    const { store, errors } = await openStore(directory);
    expect(readdirSync(ownerDir()).sort()).toEqual(
      ['README', 'epoch-5', 'epoch-5.lock', 'epoch-x', 'my.sock', `${store.owner.instanceId}.sock`].sort(),
    );
    expect(errors).toEqual([]);
  });

  it('listens again when a new owner swept its socket before it listened', async () => {
    const chmod = fs.promises.chmod;
    const swept: string[] = [];
    vi.spyOn(fs.promises, 'chmod').mockImplementation(async (path, mode) => {
      // A socket that is bound and not listening yet refuses, as one does whose owner is gone.
      if (String(path).endsWith('.sock') && swept.length < 2) {
        rmSync(path);
        swept.push(String(path));
      }
      return chmod(path, mode);
    });
    syncBuiltinESMExports();
    defer(() => {
      vi.restoreAllMocks();
      syncBuiltinESMExports();
    });
    const { store } = await openStore(directory);
    const { instanceId } = store.owner;
    expect(swept).toEqual(Array(2).fill(join(ownerDir(), `${instanceId}.sock`)));
    expect(await askBeacon(ownerDir(), instanceId)).toBe('answers');
    await store.put(makeRecord('t-1'));
  });

  it('leaves a socket that it cannot ask', async () => {
    const other = identity();
    const beacon = await Beacon.light(mkdirOwner(), other.instanceId);
    defer(() => beacon?.extinguish());
    const open = fs.promises.open;
    vi.spyOn(fs.promises, 'open').mockImplementation(async (path, ...rest) => {
      // Only who asks opens the folder while this store sweeps; its own socket listens by then.
      if (String(path) === ownerDir() && heldClaims(directory).length > 0)
        throw Object.assign(new Error('EMFILE: too many open files'), { code: 'EMFILE' });
      return open(path, ...rest);
    });
    syncBuiltinESMExports();
    defer(() => {
      vi.restoreAllMocks();
      syncBuiltinESMExports();
    });
    await openStore(directory);
    expect(readdirSync(ownerDir())).toContain(`${other.instanceId}.sock`);
  });

  it('holds a number for over once it was released, whoever else linked it', async () => {
    mkdirSync(ownerDir());
    writeFileSync(`${claim(2)}.released`, '{}');
    plant(identity(), 2);
    await openStore(directory);
    expect(heldClaims(directory)).toEqual(['epoch-3']);
  });

  it('withdraws a claim that it made on an old view, and tries the next number', async () => {
    const link = fs.promises.link;
    const made: string[] = [];
    vi.spyOn(fs.promises, 'link').mockImplementation(async (from, to) => {
      // Somebody else claims this number and gives it up, between our look and our link.
      if (made.length === 0) writeFileSync(`${claim(1)}.released`, JSON.stringify(identity(deadPid)));
      made.push(String(to));
      return link(from, to);
    });
    syncBuiltinESMExports();
    defer(() => {
      vi.restoreAllMocks();
      syncBuiltinESMExports();
    });
    const { store, fenced } = await openStore(directory);
    expect(made).toEqual([claim(1), claim(2)]);
    expect(heldClaims(directory)).toEqual(['epoch-2']);
    await store.put(makeRecord('t-1'));
    expect(fenced).toEqual([]);
  });
});

describe('an owner that we know nothing of', () => {
  const foreign = () => identity({ bootId: 'other', hostname: 'other' });
  const lock = (epoch: number) => `${claim(epoch)}.lock`;

  it('is replaced once its heartbeat stood still, and is fenced', async () => {
    const old = await openStore(directory, { identity: foreign() });
    const clock = new ManualClock();
    const opening = openStore(directory, { clock, foreignOwnerTimeoutMs: 60_000 });
    const { store } = await clock.advanceUntilSettled(opening, 500);
    expect(clock.monotonic()).toBeGreaterThanOrEqual(60_000);
    expect(clock.monotonic()).toBeLessThan(62_000);
    expect(heldClaims(directory)).toEqual(['epoch-2']);

    const lost = { code: 'OWNERSHIP_LOST', owner: store.owner };
    await expect(old.store.put(makeRecord('t-1'))).rejects.toMatchObject(lost);
    await expect(old.store.putResult('t-1', 1)).rejects.toMatchObject(lost);
    await expect(old.store.remove('t-1')).rejects.toMatchObject(lost);
    await old.store.checkOwnership();
    expect(old.fenced).toEqual([store.owner]);
    expect(existsSync(layoutOf(store).recordPath('t-1'))).toBe(false);

    await old.store.release();
    await store.put(makeRecord('t-1'));
    expect(heldClaims(directory)).toEqual(['epoch-2']);
    expect(existsSync(lock(2))).toBe(true);
  });

  it('is left alone once its heart was seen to beat', async () => {
    const old = await openStore(directory, { identity: foreign() });
    const clock = new ManualClock();
    const opening = openStore(directory, { clock, foreignOwnerTimeoutMs: 60_000 });
    await eventually('the wait', () => clock.pending > 0);
    utimesSync(lock(1), 1, 1);
    const refused = clock.advanceUntilSettled(opening, 500);
    await expect(refused).rejects.toMatchObject({ code: 'DIRECTORY_OWNED', owner: old.store.owner });
    expect(clock.monotonic()).toBeLessThan(60_000);
  });

  it('is replaced at once when it gives up during the wait', async () => {
    const old = await openStore(directory, { identity: foreign() });
    const clock = new ManualClock();
    const opening = openStore(directory, { clock, foreignOwnerTimeoutMs: 60_000 });
    await eventually('the wait', () => clock.pending > 0);
    await old.store.release();
    await clock.advanceUntilSettled(opening, 500);
    expect(clock.monotonic()).toBeLessThan(5_000);
  });

  it('is never robbed by an opener whose wall clock jumps', async () => {
    await openStore(directory, { identity: foreign() });
    const clock = new ManualClock();
    vi.spyOn(clock, 'now').mockReturnValue(Number.MAX_SAFE_INTEGER);
    const opening = openStore(directory, { clock, foreignOwnerTimeoutMs: 60_000 });
    await eventually('the wait', () => clock.pending > 0);
    clock.advance(30_000);
    await eventually('the next look', () => clock.pending > 0);
    expect(heldClaims(directory)).toEqual(['epoch-1']);
    await clock.advanceUntilSettled(opening, 1_000);
  });
});

describe('the number of a claim', () => {
  it.each([15, 16])('may have %i digits', async (digits) => {
    const number = digits === 15 ? 999_999_999_999_999 : Number.MAX_SAFE_INTEGER - 3;
    plant(identity(deadPid), number);
    const { store } = await openStore(directory);
    expect(heldClaims(directory)).toEqual([`epoch-${number + 1}`]);
    await store.release();
  });

  it.each([`${Number.MAX_SAFE_INTEGER - 1}`, '9'.repeat(30), `${'9'.repeat(400)}.released`.slice(-200)])(
    'that nobody can follow is refused, naming the file: %s',
    async (number) => {
      writeFileSync(join(mkdirOwner(), `epoch-${number}`), JSON.stringify(identity(deadPid)));
      await expect(openStore(directory)).rejects.toMatchObject({
        code: 'STORAGE_FAILED',
        message: expect.stringMatching(new RegExp(`epoch-${number} .* remove that file`)),
      });
    },
  );

  it('has one spelling: with leading zeros it is none', async () => {
    writeFileSync(join(mkdirOwner(), 'epoch-007'), JSON.stringify(identity(deadPid)));
    await openStore(directory);
    expect(heldClaims(directory)).toContain('epoch-1');
  });

  it('that nobody can follow, made while a manager owns the directory, stops its writes and says why', async () => {
    const { store, fenced } = await openStore(directory);
    writeFileSync(claim(Number.MAX_SAFE_INTEGER), '');
    await expect(store.put(makeRecord('t-1'))).rejects.toMatchObject({
      code: 'STORAGE_FAILED',
      message: expect.stringContaining('none can follow'),
    });
    rmSync(claim(Number.MAX_SAFE_INTEGER));
    await store.put(makeRecord('t-1'));
    expect(fenced).toEqual([]);
  });

  it.each([
    ['a FIFO', (path: string) => execFileSync('mkfifo', [path])],
    ['a link to a device', (path: string) => symlinkSync('/dev/zero', path)],
    [
      'a file without end',
      (path: string) => {
        writeFileSync(path, '');
        truncateSync(path, 2 ** 40);
      },
    ],
  ])('in the name of %s is left to a person', async (_what, make) => {
    mkdirOwner();
    make(claim(3));
    await expect(openStore(directory)).rejects.toMatchObject({
      code: 'DIRECTORY_OWNED',
      message: expect.stringContaining('epoch-3'),
    });
  });
});

describe('being fenced', () => {
  it.each([
    ['the directory is gone', () => rmSync(directory, { recursive: true }), () => `${directory} is gone`],
    ['its folder in it is gone', () => rmSync(ownerDir(), { recursive: true }), () => `${ownerDir()} is gone`],
    ['its claim was removed', () => rmSync(claim(1)), () => "this manager's claim was removed"],
    [
      'somebody followed',
      () => plant(identity({ ...deadPid, hostname: 'h' }), 2),
      () => `process ${deadPid.pid} on h took`,
    ],
    ['somebody unreadable followed', () => plant('?', 2), () => 'somebody else took the directory over'],
  ])('says what happened: %s', async (_what, happen, message) => {
    const { store } = await openStore(directory);
    happen();
    await expect(store.put(makeRecord('t-1'))).rejects.toMatchObject({
      code: 'OWNERSHIP_LOST',
      message: expect.stringContaining(message()),
    });
    await store.release();
  });

  it('is noticed when the own claim is gone, though nobody followed', async () => {
    const { store, fenced } = await openStore(directory);
    rmSync(ownerDir(), { recursive: true });
    await store.checkOwnership();
    await store.checkOwnership();
    expect(fenced).toEqual([null]);
    await expect(store.put(makeRecord('t-1'))).rejects.toMatchObject({ code: 'OWNERSHIP_LOST', taskId: 't-1' });
    await store.release();
  });

  it('happens once, also when many calls find it at the same time', async () => {
    const { store, fenced } = await openStore(directory);
    const other = identity(deadPid);
    plant(other, 9);
    const puts = await Promise.allSettled(Array.from({ length: 10 }, (_, i) => store.put(makeRecord(`t-${i}`))));
    for (const put of puts)
      expect(put).toMatchObject({ status: 'rejected', reason: { code: 'OWNERSHIP_LOST', owner: other } });
    expect(fenced).toEqual([other]);
    expect(readdirSync(directory).filter((name) => name.endsWith('.json'))).toEqual([]);
  });

  it('does not happen because of other names in the folder', async () => {
    const { store, fenced } = await openStore(directory);
    writeFileSync(join(ownerDir(), 'epoch-99x'), '');
    mkdirSync(join(ownerDir(), 'epoch-99.lock'));
    await store.put(makeRecord('t-1'));
    expect(fenced).toEqual([]);
  });
});

describe('the heartbeat', () => {
  const lock = () => `${claim(1)}.lock`;
  const stamp = () => lstatSync(lock(), { throwIfNoEntry: false })?.mtimeMs ?? 0;

  beforeEach(() => {
    // The timers of the lock itself are the real ones.
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    defer(() => vi.useRealTimers());
  });

  /** Lets time go by, and the disk answer, until it is so. */
  async function until(what: string, condition: () => boolean): Promise<void> {
    const deadline = performance.now() + 20_000;
    while (!condition()) {
      if (performance.now() > deadline) throw new Error(`never came: ${what}`);
      await vi.advanceTimersByTimeAsync(1_000);
      await setImmediate();
    }
  }
  /** A renewed time stamp: the lock is held, and nobody is just about to take it again. */
  async function untilBeat(): Promise<void> {
    const before = stamp();
    await until('a new time stamp', () => stamp() !== 0 && stamp() !== before);
  }
  async function untilLockedAgain(): Promise<void> {
    // A fresh lock is tried out with a time stamp that ends like this.
    await until('a fresh lock', () => stamp() > 1_000_000 && stamp() % 1000 === 5);
    await untilBeat();
  }

  it('renews its time stamp', async () => {
    await openStore(directory);
    await untilBeat();
    await untilBeat();
  });

  it('goes on beating after somebody changed or removed the lock, and fences nobody', async () => {
    const { store, fenced, errors } = await openStore(directory);
    await untilBeat();
    utimesSync(lock(), 1, 1);
    await untilLockedAgain();
    rmdirSync(lock());
    await untilLockedAgain();
    expect([fenced, errors]).toEqual([[], []]);
    await store.put(makeRecord('t-1'));
    await store.release();
    expect(readdirSync(ownerDir())).toEqual(['epoch-1.released']);
  });

  it('reports a lock that cannot be renewed, and tries again', async () => {
    const clock = new ManualClock();
    const { store, errors, fenced } = await openStore(directory, { clock });
    rmdirSync(lock());
    writeFileSync(lock(), 'in the way');
    await until('a report', () => errors.length > 0);
    expect(errors[0]).toMatchObject({ code: 'STORAGE_FAILED' });
    rmSync(lock());
    clock.advance(10_000);
    await until('a new lock', () => existsSync(lock()) && lstatSync(lock()).isDirectory());
    expect(fenced).toEqual([]);
    await store.release();
  });

  it('finds out that somebody took over, also when nothing is written', async () => {
    const { fenced } = await openStore(directory);
    const other = identity(deadPid);
    plant(other, 2);
    rmdirSync(lock());
    await until('the fence', () => fenced.length > 0);
    expect(fenced).toEqual([other]);
    expect(existsSync(lock())).toBe(false);
  });
});

/** A living process that is not this one. */
function parentProcess(): Pick<OwnerIdentity, 'pid' | 'startTicks'> {
  const stat = readFileSync(`/proc/${process.ppid}/stat`, 'latin1');
  return { pid: process.ppid, startTicks: stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]! };
}

it('has an identity of its own for each manager', () => {
  expect(ownIdentity().instanceId).not.toBe(ownIdentity().instanceId);
});
