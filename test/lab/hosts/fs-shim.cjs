/*
 * Loaded into a host before anything else (`--require`): stands between it and the file system. Calls that concern one directory are
 * counted; at the chosen one the host is killed, or the call fails; or every call that changes something is recorded, for hosts that lose
 * their power. What C++ does inside one call (`writeFile`) is one call here: that is what the trials under strace are for.
 */
'use strict';
const childProcess = require('node:child_process');
const fs = require('node:fs');
const { syncBuiltinESMExports } = require('node:module');
const { fileURLToPath } = require('node:url');

/** What each call is: how many of its first arguments are paths (0: an open file), whether it changes anything, what can befall it. */
const calls = {
  open: { paths: 1, faults: ['ENOSPC', 'EIO', 'EACCES', 'EMFILE'] },
  opendir: { paths: 1, reads: true, faults: ['EIO', 'EACCES', 'EMFILE'] },
  readdir: { paths: 1, reads: true, faults: ['EIO', 'EACCES', 'EMFILE'] },
  readFile: { paths: 1, reads: true, faults: ['EIO', 'EACCES', 'EMFILE'] },
  stat: { paths: 1, reads: true, faults: ['EIO'] },
  lstat: { paths: 1, reads: true, faults: ['EIO'] },
  realpath: { paths: 1, reads: true, faults: ['EIO'] },
  access: { paths: 1, reads: true, faults: ['EIO'] },
  writeFile: { paths: 1, faults: ['ENOSPC', 'EIO', 'EACCES', 'EMFILE', 'short'] },
  appendFile: { paths: 1, faults: ['ENOSPC', 'EIO', 'EACCES', 'EMFILE', 'short'] },
  mkdir: { paths: 1, faults: ['ENOSPC', 'EIO', 'EACCES'] },
  rmdir: { paths: 1, faults: ['EIO', 'EACCES'] },
  rm: { paths: 1, faults: ['EIO', 'EACCES'] },
  unlink: { paths: 1, faults: ['EIO', 'EACCES'] },
  rename: { paths: 2, faults: ['ENOSPC', 'EIO', 'EACCES'] },
  link: { paths: 2, faults: ['ENOSPC', 'EIO', 'EACCES'] },
  chmod: { paths: 1, faults: ['EIO', 'EACCES'] },
  utimes: { paths: 1, faults: ['EIO', 'EACCES'] },
  truncate: { paths: 1, faults: ['EIO', 'EACCES'] },
  read: { paths: 0, reads: true, faults: ['EIO'] },
  fstat: { paths: 0, reads: true, faults: ['EIO'] },
  write: { paths: 0, faults: ['ENOSPC', 'EIO', 'short'] },
  writev: { paths: 0, faults: ['ENOSPC', 'EIO'] },
  fsync: { paths: 0, faults: ['ENOSPC', 'EIO'] },
  fdatasync: { paths: 0, faults: ['ENOSPC', 'EIO'] },
  fchmod: { paths: 0, faults: ['EIO'] },
  ftruncate: { paths: 0, faults: ['EIO'] },
};
/** The methods of a FileHandle, by the call that each one is. */
const methods = {
  read: 'read',
  readFile: 'read',
  stat: 'fstat',
  write: 'write',
  writev: 'writev',
  writeFile: 'writeFile',
  appendFile: 'appendFile',
  sync: 'fsync',
  datasync: 'fdatasync',
  chmod: 'fchmod',
  truncate: 'ftruncate',
};
const messages = {
  ENOSPC: 'no space left on device',
  EIO: 'i/o error',
  EACCES: 'permission denied',
  EMFILE: 'too many open files',
};

const real = { ...fs };
const realPromises = { ...fs.promises };
const realSpawn = childProcess.spawn;
/** The open files of the directory, by number or handle: each with its path and a number that is not used again. */
const files = new Map();
let plan = { mode: 'off', directory: '/nowhere' };
let count = 0;
/** How often a call failed as it was told to. */
let fired = 0;
/** How many calls each fault could befall. */
let countByFault = {};
/** How many processes were started. */
let launches = 0;
let log;
let sequence = 0;

/** For hosts that make one trial after another. */
globalThis.labFs = {
  arm(next) {
    plan = next;
    count = 0;
    fired = 0;
    countByFault = {};
  },
  /** Calls since it was armed. */
  get count() {
    return count;
  },
  get fired() {
    return fired;
  },
  get countByFault() {
    return countByFault;
  },
};
globalThis.labFs.arm(JSON.parse(process.env.LAB_FS));
if (plan.log) log = real.openSync(plan.log, 'a', 0o600);

function pathText(value) {
  if (typeof value === 'string') return value;
  if (value instanceof URL) return fileURLToPath(value);
  return Buffer.isBuffer(value) ? value.toString() : '';
}

const isInside = (path) => path === plan.directory || path.startsWith(`${plan.directory}/`);
const opensToWrite = (flags) => (typeof flags === 'number' ? (flags & 0o103) !== 0 : /[wa+]/.test(flags ?? 'r'));

/** What a call concerns, where that is ours: an open file, or paths. */
function concern(call, args) {
  const file = files.get(args[0]);
  if (file) return isInside(file.path) ? { file: file.id, paths: [file.path] } : undefined;
  const found = args.slice(0, call.paths).map(pathText);
  return found.some(isInside) ? { paths: found } : undefined;
}

const isBeforeLate = () => launches < (plan.late ?? 0);

/** Counts the call; does not return when it is the one to be killed at. */
function enter(name, args) {
  const call = calls[name];
  const target = plan.mode === 'off' ? undefined : concern(call, args);
  if (!target) return {};
  const changes = name === 'open' ? opensToWrite(args[1]) : !call.reads;
  if (plan.mode === 'kill' && changes && ++count === plan.at && !isBeforeLate()) process.kill(process.pid, 'SIGKILL');
  if (plan.mode === 'count') for (const fault of call.faults) countByFault[fault] = (countByFault[fault] ?? 0) + 1;
  if (plan.mode !== 'fault' || !call.faults.includes(plan.fault)) return { target, changes };
  count++;
  const isMeant = plan.forEver ? count >= plan.at : count === plan.at;
  if (isMeant) fired++;
  return { target, changes, fault: isMeant ? plan.fault : undefined };
}

function failure(fault, name, { paths: [path] }) {
  const code = fault === 'short' ? 'ENOSPC' : fault;
  return Object.assign(new Error(`${code}: ${messages[code]}, ${name} '${path}'`), { code, syscall: name, path });
}

/** The arguments of a write of which only half reaches the disk. */
function halved(name, args) {
  const [target, data, offset, length, position] = args;
  const bytes = Buffer.from(data);
  if (name !== 'write') return [target, bytes.subarray(0, bytes.length >> 1), ...args.slice(2)];
  const [from, size] = typeof data === 'string' ? [0, bytes.length] : [offset ?? 0, length ?? bytes.length];
  return [target, bytes, from, size >> 1, typeof data === 'string' ? offset : position];
}

/** Puts a call on record: once as it begins and once as it has succeeded, since calls overlap. Folders are opened to be synced. */
function begin(name, args, { target, changes }) {
  if (plan.mode !== 'record' || !(changes || (target && name === 'open'))) return () => undefined;
  const id = ++sequence;
  const put = (line) => real.writeSync(log, `${JSON.stringify({ id, call: name, ...target, ...line })}\n`);
  put({
    phase: 'begin',
    ...(name === 'open' && { flags: args[1] }),
    ...(/^(?:write|append)/.test(name) && dataOf(name, args)),
  });
  return (result) => put({ phase: 'end', ...(name === 'open' && { file: files.get(result)?.id }) });
}

function dataOf(name, [, data, offset, length, position]) {
  const bytes = Buffer.from(data);
  if (name !== 'write' || typeof data === 'string') return { data: bytes.toString('base64') };
  const part = bytes.subarray(offset ?? 0, length === undefined ? undefined : (offset ?? 0) + length);
  return { data: part.toString('base64'), ...(typeof position === 'number' && { position }) };
}

function remember(name, args, result) {
  const path = pathText(args[0]);
  if (name === 'open' && isInside(path)) files.set(result, { path, id: ++sequence });
}

function sync(name, original) {
  return (...args) => {
    const entered = enter(name, args);
    const { fault, target } = entered;
    if (fault === 'short') {
      const result = original(...halved(name, args));
      if (name === 'write') return result;
    }
    if (fault) throw failure(fault, name, target);
    const done = begin(name, args, entered);
    const result = original(...args);
    remember(name, args, result);
    done(result);
    return result;
  };
}

function callback(name, original) {
  return (...all) => {
    const tell = all.at(-1);
    if (typeof tell !== 'function') return original(...all);
    const args = all.slice(0, -1);
    const entered = enter(name, args);
    const { fault, target } = entered;
    if (fault === 'short') {
      return original(...halved(name, args), (...told) =>
        name === 'write' ? tell(...told) : tell(failure(fault, name, target)),
      );
    }
    if (fault) return process.nextTick(tell, failure(fault, name, target));
    const done = begin(name, args, entered);
    return original(...args, (error, ...results) => {
      if (!error) {
        remember(name, args, results[0]);
        done(results[0]);
      }
      tell(error, ...results);
    });
  };
}

/** A call that answers with a promise. */
function promised(name, original) {
  return async (...args) => {
    const entered = enter(name, args);
    const { fault, target } = entered;
    if (fault === 'short') {
      const result = await original(...halved(name, args));
      if (name === 'write') return result;
    }
    if (fault) throw failure(fault, name, target);
    const done = begin(name, args, entered);
    const result = await original(...args);
    remember(name, args, result);
    if (name === 'open' && files.has(result)) watch(result);
    done(result);
    return result;
  };
}

/** A handle's methods pass through here, too: as calls whose first argument is the handle. */
function watch(handle) {
  const close = handle.close.bind(handle);
  handle.close = () => {
    files.delete(handle);
    return close();
  };
  for (const [method, name] of Object.entries(methods)) {
    const original = handle[method].bind(handle);
    const call = promised(name, (_handle, ...args) => original(...args));
    handle[method] = (...args) => call(handle, ...args);
  }
}

function replace(target, key, wrapped) {
  // `util.promisify` asks the function for its own properties.
  Object.defineProperties(wrapped, Object.getOwnPropertyDescriptors(target[key]));
  target[key] = wrapped;
}

for (const [name, { paths }] of Object.entries(calls)) {
  if (real[name]) replace(fs, name, callback(name, real[name]));
  if (real[`${name}Sync`]) replace(fs, `${name}Sync`, sync(name, real[`${name}Sync`]));
  if (paths > 0 && realPromises[name]) replace(fs.promises, name, promised(name, realPromises[name]));
}
// The number of a file that is closed may be given out again for something else.
for (const name of ['close', 'closeSync']) {
  replace(fs, name, (fd, ...rest) => {
    files.delete(fd);
    return real[name](fd, ...rest);
  });
}
// Both sides of a launch are moments to be killed at, too. With `late` the calls are counted from that launch on, and its supervisor stops
// itself before its first line: it goes on when somebody lets it.
replace(childProcess, 'spawn', (file, args, options) => {
  if (plan.mode === 'kill' && ++count === plan.at && !isBeforeLate()) process.kill(process.pid, 'SIGKILL');
  const isLate = ++launches === plan.late;
  const stopped = ['-c', 'kill -STOP $$; exec "$0" "$@"', file, ...args];
  const child = isLate ? realSpawn('/bin/sh', stopped, options) : realSpawn(file, args, options);
  if (isLate) count = 0;
  if (plan.mode === 'kill' && ++count === plan.at && !isBeforeLate()) process.kill(process.pid, 'SIGKILL');
  return child;
});
syncBuiltinESMExports();
