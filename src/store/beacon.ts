/*
 * A unix socket in `.owner` on which an owner listens. It answers openers that cannot see the owner's process: the
 * kernel takes a connection even for a stopped process, and refuses it at once when the process is gone.
 */
import { chmod, open, unlink } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { systemCode } from '../util/system-error.js';

/** A name longer than this is cut off silently when a socket is bound; the system's own limit is 103 or 107. */
const MAX_SOCKET_PATH = 100;
/** File systems without sockets: such an owner cannot be asked, and others must then take it for alive. */
const noSockets = ['EOPNOTSUPP', 'ENOTSUP', 'EPERM', 'EINVAL', 'ENAMETOOLONG'];

export type BeaconAnswer = 'answers' | 'refused' | 'unknown';

export class Beacon {
  readonly #server: Server;
  readonly #path: string;

  private constructor(server: Server, path: string) {
    this.#server = server;
    this.#path = path;
  }

  /**
   * Listens, without holding the process; `null` where the file system has no sockets. Between being bound and
   * listening a socket refuses as a dead owner's does, and a new owner may sweep it: then it is made again.
   */
  static async light(ownerDir: string, instanceId: string): Promise<Beacon | null> {
    if (process.platform === 'win32') return null;
    for (;;) {
      const beacon = await Beacon.#listen(ownerDir, instanceId);
      if (!beacon || (await beacon.#makePrivate())) return beacon;
    }
  }

  static async #listen(ownerDir: string, instanceId: string): Promise<Beacon | null> {
    const name = beaconName(instanceId);
    const server = createServer((socket) => {
      // Being connected was the whole answer; how the asker hangs up does not matter.
      socket.on('error', () => undefined).destroy();
    });
    try {
      await throughShortPath(ownerDir, name, (path) => listen(server, path));
    } catch (error) {
      if (noSockets.includes(systemCode(error) ?? '')) return null;
      throw error;
    }
    // A connection that cannot be accepted (no descriptors left) stays in the queue, which answers just as well.
    server.on('error', () => undefined);
    return new Beacon(server, join(ownerDir, name));
  }

  /** Whether the socket is still there; otherwise it listens no more. */
  async #makePrivate(): Promise<boolean> {
    try {
      await chmod(this.#path, 0o600);
      return true;
    } catch (error) {
      await this.extinguish();
      if (systemCode(error) === 'ENOENT') return false;
      throw error;
    }
  }

  /** Stops listening. A socket file that cannot be removed refuses from now on, and is swept by the next owner. */
  async extinguish(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    await unlink(this.#path).catch(() => undefined);
  }
}

function beaconName(instanceId: string): string {
  return `${instanceId}.sock`;
}

/** Asks whether the owner with this id listens. */
export async function askBeacon(ownerDir: string, instanceId: string): Promise<BeaconAnswer> {
  // An id that is no plain name was not made by us, and must not become a path.
  if (process.platform === 'win32' || !/^[\w-]{1,64}$/.test(instanceId)) return 'unknown';
  try {
    await throughShortPath(ownerDir, beaconName(instanceId), knock);
    return 'answers';
  } catch (error) {
    if (systemCode(error) === 'ECONNREFUSED') return 'refused';
    // EAGAIN: so many have knocked at a stopped owner that its queue is full.
    return systemCode(error) === 'EAGAIN' ? 'answers' : 'unknown';
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    // exclusive: a cluster's worker must listen itself, not through the primary.
    server.listen({ path, exclusive: true }, () => {
      server.off('error', reject);
      resolve();
    });
    server.unref();
  });
}

function knock(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve();
    });
    socket.on('error', reject);
  });
}

/**
 * Socket paths are short by law, and a longer one is cut without a word: on Linux go through the folder's descriptor.
 */
async function throughShortPath<T>(folder: string, name: string, use: (path: string) => Promise<T>): Promise<T> {
  if (process.platform !== 'linux') {
    const path = join(folder, name);
    if (Buffer.byteLength(path) <= MAX_SOCKET_PATH) return use(path);
    throw Object.assign(new Error(`ENAMETOOLONG: too long for a socket, '${path}'`), { code: 'ENAMETOOLONG' });
  }
  const handle = await open(folder, 'r');
  try {
    return await use(`/proc/self/fd/${handle.fd}/${name}`);
  } finally {
    await handle.close();
  }
}
