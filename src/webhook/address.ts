/* Which addresses a webhook may reach: those of hosts on the public internet. */
import { isIP } from 'node:net';
import ipaddr, { type IPv4, type IPv6 } from 'ipaddr.js';

/** The metadata service of a cloud, at an address that is otherwise public. */
const metadataV4 = ipaddr.IPv4.parseCIDR('168.63.129.16/32');

/** All that is allocated for global unicast. The library calls everything unicast that it has no other name for. */
const globalV6 = ipaddr.IPv6.parseCIDR('2000::/3');

/** Prefixes in front of an IPv4 address that is the host really meant: IPv4-mapped, and the well-known prefix of NAT64. */
const embeddingV6 = [ipaddr.IPv6.parseCIDR('::ffff:0:0/96'), ipaddr.IPv6.parseCIDR('64:ff9b::/96')] as const;

/** Whether this is the address of a public host. A string that is not an address is not. */
export function isPublicAddress(address: string): boolean {
  const plain = address.replace(/%.*$/, ''); // the zone of a link-local address
  // Asked first: the library also reads "127.1" and octal numbers, as some resolvers do and others do not.
  const version = isIP(plain);
  if (version === 4) return isPublicV4(ipaddr.IPv4.parse(plain));
  return version === 6 && isPublicV6(ipaddr.IPv6.parse(inHexadecimal(plain)));
}

/** As a URL writes it: the library takes `::8.8.8.8`, which is no address of any host, for the mapped `::ffff:8.8.8.8`. */
function inHexadecimal(address: string): string {
  return new URL(`http://[${address}]`).hostname.slice(1, -1);
}

/** Special ranges are never public, whatever their name: private, loopback, link-local, shared, reserved, multicast, … */
function isPublicV4(address: IPv4): boolean {
  return address.range() === 'unicast' && !address.match(metadataV4);
}

function isPublicV6(address: IPv6): boolean {
  if (embeddingV6.some((prefix) => address.match(prefix)))
    return isPublicV4(new ipaddr.IPv4(address.toByteArray().slice(12)));
  return address.range() === 'unicast' && address.match(globalV6);
}
