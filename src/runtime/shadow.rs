//! Comparing the answers of two registries that run.

use std::sync::Arc;

use url::Url;

use super::import::{anonymous_uplink, direct_uplink};
use crate::{
    config::{Config, ListenAddress, UplinkAuth},
    error::RegistryError,
    lifecycle::{SharedClock, SystemClock},
    registry::{
        import::{Names, Source},
        shadow::{Registries, Shadow, Shadowed},
    },
};

/// What is to be compared.
pub(crate) struct Shadowing {
    /// The registry that is to be matched, with what it is asked with.
    pub(crate) theirs: (Url, Option<UplinkAuth>),
    /// The registry that is to match it.
    pub(crate) ours: (Url, Option<UplinkAuth>),
    /// Which packages are meant.
    pub(crate) names: Names,
    /// Whether tarballs are read and compared.
    pub(crate) with_tarballs: bool,
    /// How much is asked for at a time.
    pub(crate) jobs: usize,
}

/// Hears what was done so far, and how many packages there are.
pub(crate) type WatchShadow<'w> = &'w (dyn Fn(&Shadowed, usize) + Sync);

/// Where the registry of the settings listens; `None` where it has no port.
pub(crate) fn own_address(config: &Config) -> Option<Url> {
    let listen = config.server.listen.iter();
    let mut addresses = listen.filter_map(|address| match address {
        ListenAddress::Tcp { host, port, tls } => Some((host, port, tls)),
        ListenAddress::Unix(_) => None,
    });
    let (host, port, tls) = addresses.next()?;
    let is_tls = tls.unwrap_or_else(|| config.server.tls.certificate.is_some());
    let scheme = if is_tls { "https" } else { "http" };
    let host = match host.trim_matches(['[', ']']) {
        "0.0.0.0" | "" => "127.0.0.1",
        "::" => "[::1]",
        _ => host,
    };
    let bare = format!("{scheme}://{host}:{port}").parse::<Url>();
    let bracketed = || format!("{scheme}://[{host}]:{port}").parse();
    bare.or_else(|_| bracketed()).ok()
}

/// Compares both.
pub(crate) async fn shadow(
    config: &Config,
    shadowing: Shadowing,
    watch: WatchShadow<'_>,
) -> Result<Shadowed, RegistryError> {
    let clock: SharedClock = Arc::new(SystemClock);
    let has_credentials = shadowing.theirs.1.is_some() && shadowing.ours.1.is_some();
    let open = |(url, auth): (Url, Option<UplinkAuth>)| {
        let anonymous = if has_credentials {
            let uplink = anonymous_uplink(config, &url, &clock)?;
            Some(Source::new(uplink, shadowing.jobs))
        } else {
            None
        };
        let uplink = direct_uplink(config, &url, auth, &clock)?;
        Ok::<_, RegistryError>(Registries {
            known: Source::new(uplink, shadowing.jobs),
            anonymous,
        })
    };
    let theirs = open(shadowing.theirs)?;
    let ours = open(shadowing.ours)?;
    let (names, bad) = theirs.known.names(&shadowing.names).await?;
    let shadow = Shadow {
        theirs: &theirs,
        ours: &ours,
        with_tarballs: shadowing.with_tarballs,
        jobs: shadowing.jobs,
        watch,
    };
    let mut shadowed = shadow.run(&names).await;
    let bad = bad.into_iter();
    let bad = bad.map(|name| format!("`{name}`, which no package can be named"));
    shadowed.failures.extend(bad);
    Ok(shadowed)
}
