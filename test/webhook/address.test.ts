import fc from 'fast-check';
import { expect, it } from 'vitest';
import { isPublicAddress } from '../../src/webhook/address.js';

it.each([
  ...[
    '0.0.0.0',
    '0.1.2.3',
    '10.0.0.0',
    '10.255.255.255',
    '100.64.0.1',
    '100.100.100.200',
    '100.127.255.255',
    '127.0.0.1',
    '127.255.255.254',
  ],
  ...[
    '168.63.129.16',
    '192.31.196.1',
    '192.52.193.1',
    '192.175.48.1',
    '2620:4f:8000::1',
    '169.254.0.1',
    '169.254.169.254',
    '172.16.0.1',
    '172.31.255.255',
    '192.0.0.192',
    '192.0.2.1',
    '192.88.99.1',
  ],
  ...[
    '192.168.0.1',
    '192.168.255.255',
    '198.18.0.1',
    '198.19.255.255',
    '198.51.100.7',
    '203.0.113.9',
    '224.0.0.1',
    '239.255.255.255',
  ],
  ...['240.0.0.1', '255.255.255.255'],
  ...[
    '::',
    '::1',
    '0:0:0:0:0:0:0:1',
    '::127.0.0.1',
    '::8.8.8.8',
    '::808:808',
    '::ffff:0:8.8.8.8',
    '64:ff9b:1::8.8.8.8',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '::FFFF:10.0.0.1',
    '::ffff:0:127.0.0.1',
  ],
  ...[
    '64:ff9b::127.0.0.1',
    '64:ff9b::a9fe:a9fe',
    '64:ff9b:1::1',
    '100::1',
    '2001::1',
    '2001:2::1',
    '2001:10::1',
    '2001:db8::1',
  ],
  ...[
    '2002:7f00:1::',
    '2002:a00:1::1',
    '3fff::1',
    '5f00::1',
    'fc00::1',
    'fd00:ec2::254',
    'fdff::1',
    'fe80::1',
    'fe80::1%eth0',
    'febf::1',
  ],
  ...['fec0::1', 'ff02::1', 'ff0e::1', '4000::1', 'ffff::1'],
  ...['', 'localhost', '127.1', '2130706433', '0177.0.0.1', '1.2.3', '1.2.3.4.5', '::g', '[::1]'],
])('%s is not public', (address) => {
  expect(isPublicAddress(address)).toBe(false);
});

it.each([
  ...[
    '1.1.1.1',
    '8.8.8.8',
    '9.255.255.255',
    '11.0.0.0',
    '93.184.215.14',
    '100.63.255.255',
    '100.128.0.0',
    '126.255.255.255',
    '128.0.0.1',
  ],
  ...[
    '169.253.255.255',
    '169.255.0.0',
    '172.15.255.255',
    '172.32.0.0',
    '192.167.255.255',
    '192.169.0.0',
    '198.17.255.255',
    '198.20.0.0',
  ],
  ...[
    '223.255.255.255',
    '2001:4860:4860::8888',
    '2606:4700:4700::1111',
    '2a00:1450::1',
    '2001:200::1',
    '::ffff:8.8.8.8',
    '64:ff9b::808:808',
  ],
])('%s is public', (address) => {
  expect(isPublicAddress(address)).toBe(true);
});

const octets = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255));

it('an IPv4 address means the same inside of IPv6', () => {
  fc.assert(
    fc.property(octets, fc.constantFrom('::ffff:', '64:ff9b::'), fc.boolean(), ([a, b, c, d], prefix, dotted) => {
      const plain = `${a}.${b}.${c}.${d}`;
      const hex = `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
      expect(isPublicAddress(prefix + (dotted ? plain : hex))).toBe(isPublicAddress(plain));
    }),
    { numRuns: 1000 },
  );
});

it('no IPv6 address outside of global unicast is public, mapped and translated IPv4 apart', () => {
  const group = fc.nat(0xffff);
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
      const address = groups.map((one) => one.toString(16)).join(':');
      if (groups[0]! >> 13 === 1) return;
      expect(isPublicAddress(address)).toBe(false);
      // The same address, its last two groups as decimals with points.
      const [high, low] = groups.slice(6) as [number, number];
      const dotted = [high >> 8, high & 0xff, low >> 8, low & 0xff].join('.');
      expect(isPublicAddress(`${address.split(':').slice(0, 6).join(':')}:${dotted}`)).toBe(false);
    }),
    { numRuns: 1000 },
  );
});
