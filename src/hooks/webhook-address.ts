/* Which addresses a webhook may reach: those that the whole internet can. */
import { BlockList, isIP } from 'node:net';

const refusedV4 = new BlockList();
for (const [network, prefix] of [
  ['0.0.0.0', 8], // unspecified, "this network"
  ['10.0.0.0', 8], // private
  ['100.64.0.0', 10], // carrier-grade NAT, and a cloud's metadata
  ['127.0.0.0', 8], // loopback
  ['168.63.129.16', 32], // a cloud's metadata
  ['169.254.0.0', 16], // link-local, and most clouds' metadata
  ['172.16.0.0', 12], // private
  ['192.0.0.0', 24], // protocol assignments, and a cloud's metadata
  ['192.0.2.0', 24], // documentation
  ['192.88.99.0', 24], // 6to4 relays
  ['192.168.0.0', 16], // private
  ['198.18.0.0', 15], // benchmarks
  ['198.51.100.0', 24], // documentation
  ['203.0.113.0', 24], // documentation
  ['224.0.0.0', 4], // multicast
  ['240.0.0.0', 4], // reserved, broadcast
] as const) {
  refusedV4.addSubnet(network, prefix);
}

/** All that is allocated for global unicast. Loopback, link-local, unique local, multicast and so on are outside of it. */
const globalV6 = new BlockList();
globalV6.addSubnet('2000::', 3, 'ipv6');

const refusedV6 = new BlockList();
for (const [network, prefix] of [
  ['2001::', 23], // protocol assignments: Teredo, benchmarks, ORCHID
  ['2001:db8::', 32], // documentation
  ['2002::', 16], // 6to4: an IPv4 address inside, which may be any
  ['3fff::', 20], // documentation
] as const) {
  refusedV6.addSubnet(network, prefix, 'ipv6');
}

/** Whether this is the address of a public host. Whatever is no address is not. */
export function isPublicAddress(address: string): boolean {
  const plain = address.replace(/%.*$/, ''); // the zone of a link-local address
  switch (isIP(plain)) {
    case 4:
      return !refusedV4.check(plain);
    case 6: {
      const embedded = embeddedV4(plain);
      if (embedded !== undefined) return !refusedV4.check(embedded);
      return globalV6.check(plain, 'ipv6') && !refusedV6.check(plain, 'ipv6');
    }
    default:
      return false;
  }
}

/** The IPv4 host that is really meant: IPv4-mapped (`::ffff:0:0/96`), or behind the well-known NAT64 prefix (`64:ff9b::/96`). */
function embeddedV4(address: string): string | undefined {
  const groups = groupsOf(address);
  const prefix = groups.slice(0, 6).join(':');
  if (prefix !== '0:0:0:0:0:ffff' && prefix !== '64:ff9b:0:0:0:0') return undefined;
  const [high, low] = groups.slice(6).map((group) => Number.parseInt(group, 16)) as [number, number];
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');
}

/** The eight groups in hexadecimal, without leading zeros. A URL writes any spelling in the same way. */
function groupsOf(address: string): string[] {
  const [head = '', tail] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  return [...before, ...Array<string>(8 - before.length - after.length).fill('0'), ...after];
}
