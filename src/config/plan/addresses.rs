//! To which addresses connections are made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an endpoint may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addresses {
    /// Anywhere: whoever wrote the configuration chose it.
    #[default]
    Any,
    /// Where the whole Internet can reach it: somebody else chose it.
    Public,
}

impl Addresses {
    /// Whether a connection to this address is made.
    pub fn admit(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Any, _) => true,
            (Self::Public, IpAddr::V4(address)) => is_public(address),
            (Self::Public, IpAddr::V6(address)) => is_public_v6(address),
        }
    }
}

/// What the Internet cannot reach by the registry of special addresses of IANA, or is not one machine: addresses and the
/// lengths of their prefixes.
const SPECIAL: [(Ipv4Addr, u32); 17] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Shared by carriers, where Alibaba has its metadata.
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // What a cloud (Azure) serves its machines at; it looks like any other.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    // Link-local, where most clouds have their metadata.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    // Of protocols, where Oracle has its metadata.
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    // Documentation, as are 198.51.100 and 203.0.113.
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    // Relays of 6to4.
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // Benchmarks.
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast, reserved, broadcast.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::BROADCAST, 32),
];

fn is_public(address: Ipv4Addr) -> bool {
    let is_in = |(network, length): &(Ipv4Addr, u32)| {
        let differing = network.to_bits() ^ address.to_bits();
        differing.leading_zeros() >= *length
    };
    !SPECIAL.iter().any(is_in)
}

/// Global unicast (`2000::/3`) without what is special in it. Of addresses that stand for one of version 4 that one is judged.
fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public(mapped);
    }
    match address.segments() {
        // NAT64 (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        // Of protocols (Teredo among them), documentation, 6to4, documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_machines_nearby_reach_is_not_public() {
        let refused = "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.0.1 \
            168.63.129.16 169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 \
            192.168.0.1 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 \
            255.255.255.255 :: ::1 ::7f00:1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 \
            64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::8.8.8.8 100::1 2001::1 \
            2001:1ff:ffff::1 2001:db8::1 2002:7f00:1:: 2002:808:808:: 3fff::1 3fff:fff::1 4000::1 5f00::1 fc00::1 \
            fd00:ec2::254 fe80::1 fec0::1 ff02::1";
        for address in refused.split_whitespace() {
            let address = address.parse().unwrap();
            assert!(!Addresses::Public.admit(address), "{address}");
            assert!(Addresses::Any.admit(address), "{address}");
        }
        let admitted = "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 126.0.0.1 128.0.0.1 \
            168.63.129.17 172.15.0.1 172.32.0.1 192.0.1.1 192.167.0.1 198.17.0.1 198.20.0.1 223.255.255.255 \
            ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2001:200::1 2001:4860:4860::8888 2600::1 2a00:1450::1 3ffe::1";
        for address in admitted.split_whitespace() {
            let address = address.parse().unwrap();
            assert!(Addresses::Public.admit(address), "{address}");
        }
    }
}
