//! Which networks a token may be used from.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::RegistryError;

const MAX_NETWORKS: usize = 64;

/// Reads a list such as `["10.0.0.0/8", "192.0.2.1"]`.
pub(super) fn parse(networks: &[String]) -> Result<Vec<IpNet>, RegistryError> {
    if networks.len() > MAX_NETWORKS {
        return Err(RegistryError::unprocessable(
            "too many networks in `cidr_whitelist`",
        ));
    }
    networks
        .iter()
        .map(|text| {
            text.parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| {
                    let shown: String = text.chars().take(60).collect();
                    RegistryError::unprocessable(format!("`{shown}` is not a network in CIDR form"))
                })
        })
        .collect()
}

/// Whether a caller from `address` is inside. No network means everywhere; a caller whose address
/// is not known is outside of any.
pub(super) fn covers(networks: &[IpNet], address: Option<IpAddr>) -> bool {
    networks.is_empty()
        || address.is_some_and(|address| {
            let address = address.to_canonical();
            networks.iter().any(|network| network.contains(&address))
        })
}
