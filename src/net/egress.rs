//! Which addresses outgoing requests may reach.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// What a client may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Whatever the configuration names, private or not.
    Anywhere,
    /// Addresses of the public internet only.
    PublicOnly,
}

/// Whether `address` belongs to the public internet.
///
/// The special-purpose blocks of RFC 6890 and its registries are not, nor is an IPv6 address that
/// carries such an IPv4 address (mapped, compatible, 6to4, NAT64).
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = a == 0
        || a == 10
        || a == 127
        || (a == 100 && (64..128).contains(&b))
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 192 && b == 168)
        || (a == 198 && (b == 18 || b == 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113)
        || a >= 224;
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        // 6to4 and NAT64 lead to the IPv4 address that they carry.
        [0x2002, high, low, ..] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(embedded(high, low))
        }
        // Documentation, benchmarking and Teredo stand inside the global range.
        [0x2001, second, ..] if second == 0xdb8 || second < 0x200 => false,
        [0x3fff, ..] => false,
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

/// Whether all addresses of `host` belong to the public internet; an error where it has none.
///
/// For requests through a proxy, which resolves the name itself and may reach more than this
/// machine should.
pub async fn has_public_addresses(host: &str) -> io::Result<bool> {
    let mut addresses = tokio::net::lookup_host((host, 0)).await?;
    Ok(addresses.all(|address| is_public(address.ip())))
}

/// Whether `address` is one of this machine's own.
pub fn is_of_this_machine(address: IpAddr) -> bool {
    // Only an address of one's own can be bound to.
    address.is_loopback() || std::net::UdpSocket::bind((address, 0)).is_ok()
}

/// Resolves names, and leaves out addresses that are not public. Because it is asked at the moment
/// of connecting, a name that changes its address between check and use gains nothing.
///
/// Proxies are where the configuration says, private or not. What is asked through one is not
/// resolved here, and must be checked before.
#[derive(Clone, Debug)]
pub(super) struct PublicResolver {
    proxies: Arc<[String]>,
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let is_proxy = self.proxies.iter().any(|proxy| proxy == name.as_str());
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found
                .filter(|address| is_proxy || is_public(address.ip()))
                .collect();
            if public.is_empty() {
                return Err(format!("`{}` has no public address", name.as_str()).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

impl PublicResolver {
    /// One that resolves the hosts of `proxies` to any address.
    pub(super) fn except(proxies: Arc<[String]>) -> Arc<Self> {
        Arc::new(Self { proxies })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_known() {
        assert!(is_of_this_machine("127.0.0.1".parse().unwrap()));
        assert!(!is_of_this_machine("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn special_addresses_are_not_public() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::127.0.0.1",
            "3fff::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "172.32.0.1",
            "2606:4700::1111",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
