//! Which addresses a request may connect to.
//!
//! Every address that is not part of the public internet is forbidden, unless
//! the operator grants it. The ranges follow IANA's registries of
//! special-purpose addresses; of IPv6, all outside of what is assigned as global
//! unicast is forbidden. An IPv6 address that leads to an IPv4 address is judged
//! by that one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::OpenError;

const LOOPBACK: &str = "a loopback address";
const PRIVATE: &str = "a private address";
const LINK_LOCAL: &str = "a link-local address";
const METADATA: &str = "the address of a cloud's metadata service";
const MULTICAST: &str = "a multicast address";
const EXAMPLE: &str = "an address for documentation";
const BENCHMARK: &str = "an address for benchmarks";
const RESERVED: &str = "a reserved address";
const THIS_HOST: &str = "an address of this very host";
const TUNNEL: &str = "an address of a tunnel to IPv4";

/// The first range that holds an address says what it is.
const FORBIDDEN_V4: &[(Ipv4Net, &str)] = &[
    (v4([0, 0, 0, 0], 8), THIS_HOST),
    (v4([10, 0, 0, 0], 8), PRIVATE),
    (v4([100, 100, 100, 200], 32), METADATA),
    (v4([100, 64, 0, 0], 10), "a shared address of a provider's network"),
    (v4([127, 0, 0, 0], 8), LOOPBACK),
    // A public address by its number, but in Azure it is the host of the machine.
    (v4([168, 63, 129, 16], 32), METADATA),
    (v4([169, 254, 169, 254], 32), METADATA),
    (v4([169, 254, 0, 0], 16), LINK_LOCAL),
    (v4([172, 16, 0, 0], 12), PRIVATE),
    (v4([192, 0, 0, 192], 32), METADATA),
    (v4([192, 0, 0, 0], 24), RESERVED),
    (v4([192, 0, 2, 0], 24), EXAMPLE),
    (v4([192, 88, 99, 0], 24), TUNNEL),
    (v4([192, 168, 0, 0], 16), PRIVATE),
    (v4([198, 18, 0, 0], 15), BENCHMARK),
    (v4([198, 51, 100, 0], 24), EXAMPLE),
    (v4([203, 0, 113, 0], 24), EXAMPLE),
    (v4([224, 0, 0, 0], 4), MULTICAST),
    (v4([255, 255, 255, 255], 32), "the broadcast address"),
    (v4([240, 0, 0, 0], 4), RESERVED),
];

const FORBIDDEN_V6: &[(Ipv6Net, &str)] = &[
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), THIS_HOST),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), LOOPBACK),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), METADATA),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), METADATA),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "a unique local address"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), LINK_LOCAL),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "a site-local address"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), MULTICAST),
    // Teredo.
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), TUNNEL),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), BENCHMARK),
    // What is left of the block for protocols: no server of the public web is there.
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), RESERVED),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), EXAMPLE),
    // 6to4.
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), TUNNEL),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), EXAMPLE),
];

/// All that is public of IPv6 is in here.
const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
/// How networks without IPv4 reach IPv4 (RFC 6052).
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length)
}

/// What kind of address it is, in words with an article, if it is not public.
pub fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(address) => first(FORBIDDEN_V4, |range| range.contains(&address)),
        IpAddr::V6(address) => match leads_to(address) {
            Some(inner) if forbidden(inner.into()).is_some() => forbidden(inner.into()),
            Some(_) if NAT64.contains(&address) => None,
            _ => {
                let known = first(FORBIDDEN_V6, |range| range.contains(&address));
                known.or((!GLOBAL_UNICAST.contains(&address)).then_some(RESERVED))
            }
        },
    }
}

fn first<N>(ranges: &[(N, &'static str)], holds: impl Fn(&N) -> bool) -> Option<&'static str> {
    ranges.iter().find(|(range, _)| holds(range)).map(|(_, what)| *what)
}

/// The IPv4 address that packets to this address end up at, where its form says so.
fn leads_to(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let of = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match [a, b, c, d, e, f] {
        // The form `::a.b.c.d`; `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0] if g != 0 => of(g, h),
        // `::ffff:0:a.b.c.d`
        [0, 0, 0, 0, 0xffff, 0] => of(g, h),
        _ if NAT64.contains(&address) => of(g, h),
        [0x2002, high, low, ..] => of(high, low),
        // Teredo writes the client's address inverted.
        [0x2001, 0, ..] => of(!g, !h),
        // ISATAP, below any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe] => of(g, h),
        _ => None,
    }
}

/// The addresses that requests may connect to: public ones, and those that the
/// operator grants.
#[derive(Debug, Clone, Default)]
pub struct Addresses {
    granted: Vec<IpNet>,
}

impl Addresses {
    /// Reads ranges such as `10.0.0.0/8`, or single addresses.
    pub fn parse(ranges: &[String]) -> Result<Self, OpenError> {
        let granted = ranges.iter().map(|text| {
            let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
            text.parse::<IpNet>().ok().or_else(single).ok_or_else(|| OpenError::Value {
                key: "allow_addresses",
                value: text.clone(),
                must: "hold addresses or ranges such as `127.0.0.1/32` or `fd00::/8`",
            })
        });
        Ok(Self { granted: granted.collect::<Result<_, _>>()? })
    }

    /// An error says what kind of address it is.
    pub fn check(&self, address: IpAddr) -> Result<(), &'static str> {
        let address = address.to_canonical();
        if self.granted.iter().any(|range| range.contains(&address)) {
            return Ok(());
        }
        forbidden(address).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(address: &str) -> Option<&'static str> {
        forbidden(address.parse().unwrap())
    }

    #[test]
    fn each_range_is_forbidden_from_its_first_to_its_last_address() {
        for (first, last, what) in [
            ("0.0.0.0", "0.255.255.255", THIS_HOST),
            ("10.0.0.0", "10.255.255.255", PRIVATE),
            ("100.64.0.0", "100.127.255.255", "a shared address of a provider's network"),
            ("127.0.0.0", "127.255.255.255", LOOPBACK),
            ("169.254.0.0", "169.254.255.255", LINK_LOCAL),
            ("172.16.0.0", "172.31.255.255", PRIVATE),
            ("192.0.0.0", "192.0.0.255", RESERVED),
            ("192.0.2.0", "192.0.2.255", EXAMPLE),
            ("192.88.99.0", "192.88.99.255", TUNNEL),
            ("192.168.0.0", "192.168.255.255", PRIVATE),
            ("198.18.0.0", "198.19.255.255", BENCHMARK),
            ("198.51.100.0", "198.51.100.255", EXAMPLE),
            ("203.0.113.0", "203.0.113.255", EXAMPLE),
            ("224.0.0.0", "239.255.255.255", MULTICAST),
            ("240.0.0.0", "255.255.255.254", RESERVED),
            ("255.255.255.255", "255.255.255.255", "the broadcast address"),
            ("::", "::", THIS_HOST),
            ("::1", "::1", LOOPBACK),
            ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "a unique local address"),
            ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", LINK_LOCAL),
            ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "a site-local address"),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", MULTICAST),
            ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", BENCHMARK),
            ("2001:1::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", RESERVED),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", EXAMPLE),
            ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", EXAMPLE),
            // Outside of global unicast: discard, local NAT64, segment routing, the rest.
            ("100::", "100::ffff:ffff:ffff:ffff", RESERVED),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", RESERVED),
            ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", RESERVED),
            ("4000::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", RESERVED),
        ] {
            assert_eq!((kind(first), kind(last)), (Some(what), Some(what)), "{first} to {last}");
        }
    }

    #[test]
    fn metadata_services_are_forbidden_by_name() {
        for address in [
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd20:ce::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
        ] {
            assert_eq!(kind(address), Some(METADATA), "{address}");
        }
    }

    #[test]
    fn an_address_within_an_address_is_found() {
        for (address, what) in [
            ("::ffff:127.0.0.1", LOOPBACK),
            ("::ffff:a00:1", PRIVATE),
            ("::127.0.0.1", LOOPBACK),
            ("::ffff:0:7f00:1", LOOPBACK),
            ("64:ff9b::10.0.0.1", PRIVATE),
            ("2002:7f00:1::", LOOPBACK),
            ("2002:c0a8:101::5", PRIVATE),
            // Teredo's client 127.0.0.1, inverted.
            ("2001:0:4136:e378:8000:63bf:80ff:fffe", LOOPBACK),
            ("2a00:1450:4001::200:5efe:10.0.0.1", PRIVATE),
            ("2a00:1450:4001::5efe:127.0.0.1", LOOPBACK),
            // Public inside, but nobody runs such tunnels any more.
            ("::8.8.8.8", RESERVED),
            ("::ffff:0:808:808", RESERVED),
            ("2002:808:808::", TUNNEL),
            ("2001:0:4136:e378:8000:63bf:f7f7:f7f7", TUNNEL),
        ] {
            assert_eq!(kind(address), Some(what), "{address}");
        }
    }

    #[test]
    fn public_addresses_are_free() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2000::1",
            "2001:200::1",
            "2606:4700:4700::1111",
            "3ffe:ffff::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert_eq!(kind(address), None, "{address}");
        }
    }

    fn granted(ranges: &[&str]) -> Result<Addresses, OpenError> {
        Addresses::parse(&ranges.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_grant_lifts_its_own_range_and_no_other() {
        let addresses = granted(&["127.0.0.1/32", "10.1.0.0/16", "fd00:1::/32", "::1"]).unwrap();
        let free = |address: &str| addresses.check(address.parse().unwrap()).is_ok();
        for address in
            ["127.0.0.1", "::ffff:127.0.0.1", "10.1.255.255", "fd00:1::9", "::1", "1.1.1.1"]
        {
            assert!(free(address), "{address}");
        }
        for address in ["127.0.0.2", "10.2.0.0", "fd00:2::9", "64:ff9b::7f00:1", "2002:7f00:1::"] {
            assert!(!free(address), "{address}");
        }
    }

    #[test]
    fn what_is_no_range_is_named() {
        for text in ["10.0.0.0/33", "localhost", "", "10/8", "*"] {
            let error = granted(&[text]).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`allow_addresses` is `{text}`, but must ")),
                "{error}"
            );
        }
    }
}
