/*
 * A connection to an address that was checked. The name is resolved once, every address it has is checked, and one of those is connected
 * to; before a byte is sent, the address at the other end is checked again. So it makes no difference what the name resolves to elsewhere,
 * or a moment later.
 */
import type { LookupAddress, LookupOptions } from 'node:dns';
import { lookup as systemLookup } from 'node:dns';
import { connect as connectTcp, isIP, type LookupFunction, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { PermanentDeliveryError } from '../index.js';
import { isPublicAddress } from './address.js';

/** Resolves a name to all of its addresses, as `dns.lookup` does with `all`. */
export type Resolver = (
  hostname: string,
  options: LookupOptions & { all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/** How to connect. */
export interface Route {
  readonly allowPrivateNetworks: boolean;
  readonly signal: AbortSignal;
  readonly resolver?: Resolver | undefined;
  /** More certificates to trust, beside those that Node trusts. */
  readonly ca?: string | undefined;
}

/** Rejects with `PermanentDeliveryError` where the address is refused, with the system's error where nobody answers. Never holds the process. */
export async function openConnection(url: URL, route: Route): Promise<Socket> {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  if (isIP(host)) checkAddress(host, url, route);
  const secure = url.protocol === 'https:';
  const socket = connectTcp({ host, port: Number(url.port) || (secure ? 443 : 80), lookup: checkedLookup(url, route) });
  socket.unref();
  // Errors are told to whoever waits; without a listener, one that comes while nobody does would end the process.
  socket.on('error', () => undefined);
  try {
    await connected(socket, 'connect', route.signal);
    checkAddress(socket.remoteAddress ?? '', url, route);
    if (!secure) return socket;
    const servername = isIP(host) ? {} : { servername: host };
    const tls = connectTls({
      socket,
      host,
      ...servername,
      ALPNProtocols: ['http/1.1'],
      ...(route.ca && { ca: route.ca }),
    });
    tls.on('error', () => undefined);
    await connected(tls, 'secureConnect', route.signal);
    return tls;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

function checkAddress(address: string, url: URL, { allowPrivateNetworks }: Route): void {
  if (allowPrivateNetworks || isPublicAddress(address)) return;
  const name = address === url.hostname ? '' : ` of ${url.host}`;
  throw new PermanentDeliveryError(
    `expected a public address, ${address || 'the address'}${name} is none (see allowPrivateNetworks)`,
  );
}

/** One address that is refused refuses the name: a public name that also points inside is a trap, or a mistake. */
function checkedLookup(url: URL, route: Route): LookupFunction {
  const resolver = route.resolver ?? (systemLookup as Resolver);
  return (hostname, options, callback) => {
    resolver(hostname, { ...options, all: true }, (error, addresses) => {
      if (error) return callback(error, []);
      try {
        for (const { address } of addresses) checkAddress(address, url, route);
      } catch (refused) {
        return callback(refused as Error, []);
      }
      const [first] = addresses;
      if (!first) return callback(Object.assign(new Error(`${hostname} has no address`), { code: 'ENOTFOUND' }), []);
      if (options.all) return callback(null, addresses);
      callback(null, first.address, first.family);
    });
  };
}

function connected(socket: Socket, event: 'connect' | 'secureConnect', signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => socket.destroy(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('the connection was closed before it was open')));
    socket.once(event, () => {
      signal.removeEventListener('abort', onAbort);
      socket.removeListener('error', reject);
      resolve();
    });
  });
}
