//! Composition: from settings to a running registry.

mod backends;
mod backup;
mod build;
mod connectivity;
mod end;
mod governance;
mod import;
mod leases;
mod marks;
mod migrate;
mod mirror;
mod operator;
mod problems;
mod reindex;
mod restore;
mod sealed;
mod shadow;
mod snapshots;
mod telemetry;
mod verdaccio;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

pub(crate) use backends::Backends;
pub(crate) use backup::{Accepted, BackedUp, Backup, back_up, restore};
pub use build::{build_state, build_state_with_clock};
pub(crate) use import::{ImportFrom, Importing, import};
pub(crate) use migrate::{Migrated, Route, migrate};
pub(crate) use mirror::{Mirroring, mirror};
pub(crate) use operator::{open_auth, recorded, require_folder};
pub use problems::find_problems;
pub(crate) use reindex::{Reindexing, reindex};
pub(crate) use shadow::{Shadowing, own_address, shadow};
pub(crate) use snapshots::choose;
pub use telemetry::Telemetry;

use crate::{
    app::AppState,
    auth::AuthHook,
    config::{AdminConfig, Config, ListenAddress, Registration, UplinkConfig, UplinksConfig},
    error::RegistryError,
    models::Username,
    net::is_of_this_machine,
    policy::Rules,
    server::{Listener, ServeOptions, Tls, bind, serve, stop_on_signals, survive_hangups},
    storage::{AccountStore, UpstreamCache},
    web,
};

/// How long requests may take to finish after the first signal.
const GRACE: Duration = Duration::from_secs(60);
const MAX_CONNECTIONS: usize = 10_000;

/// A registry with its sockets open.
#[derive(Debug)]
pub struct Bound {
    state: AppState,
    listeners: Vec<Listener>,
    options: ServeOptions,
}

impl Bound {
    /// Builds the registry and opens its sockets. From here on connections wait to be accepted, and
    /// signals ask it to stop.
    pub async fn open(
        config: &Config,
        hook: Option<Arc<dyn AuthHook>>,
    ) -> Result<Self, RegistryError> {
        let state = build_state(config, hook).await?;
        let lifecycle = state.lifecycle();
        stop_on_signals(lifecycle).map_err(RegistryError::internal)?;
        let tls = Tls::open(&config.server.tls).await.map_err(unusable)?;
        let hangups = match &tls {
            Some(tls) => tls.reload_on_hangup(lifecycle),
            None => survive_hangups(lifecycle),
        };
        hangups.map_err(RegistryError::internal)?;
        let listeners = bind(&config.server.listen, tls.as_ref()).await;
        let listeners = listeners.map_err(unusable)?;
        if listeners.is_empty() {
            let message = "there is no address to listen on; name one in RUSTACCIO_BIND";
            return Err(RegistryError::Settings {
                message: message.to_owned(),
            });
        }
        warn_of_openness(config, &listeners);
        let options = ServeOptions {
            keep_alive_timeout: config.server.keep_alive_timeout,
            stall_timeout: config.server.request_timeout,
            max_connections: MAX_CONNECTIONS,
            connections: state.metrics().connections(),
        };
        Ok(Self {
            state,
            listeners,
            options,
        })
    }

    /// Where it listens.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Serves until a signal asks to stop, then lets requests and background work finish.
    pub async fn serve(self) -> Result<(), RegistryError> {
        let Self {
            state,
            listeners,
            options,
        } = self;
        let lifecycle = state.lifecycle().clone();
        serve(listeners, web::service(state.web), options, &lifecycle).await;
        if lifecycle.drain(GRACE).await {
            tracing::info!("stopped");
        } else {
            tracing::warn!("stopped before everything was finished");
        }
        Ok(())
    }
}

/// Serves a registry until a signal asks to stop.
pub async fn run(config: Config, hook: Option<Arc<dyn AuthHook>>) -> Result<(), RegistryError> {
    Box::pin(Bound::open(&config, hook)).await?.serve().await
}

/// Serves a registry with its own users and rules until a signal asks to stop.
pub async fn run_standalone(config: Config) -> Result<(), RegistryError> {
    run(config, None).await
}

/// Serves the registry that the environment describes until a signal asks to stop.
pub async fn run_from_env() -> Result<(), RegistryError> {
    run_standalone(Config::from_env()).await
}

/// The cache of upstream alone, which a registry that runs may use too.
pub(crate) async fn open_cache(config: &Config) -> Result<UpstreamCache, RegistryError> {
    let folder = config.storage.cache.folder.clone();
    let folder = folder.unwrap_or_else(|| config.storage.data_dir.join("cache"));
    let cache = UpstreamCache::open_folder(folder).await?;
    #[cfg(feature = "object")]
    if config.storage.cache.is_shared
        && let Some(bucket) = Box::pin(backends::open_bucket(config)).await?
    {
        return Ok(cache.shared_in(bucket));
    }
    Ok(cache)
}

fn unusable(error: impl std::error::Error) -> RegistryError {
    RegistryError::Settings {
        message: error.to_string(),
    }
}

/// The uplinks without those that are this very registry, which would ask itself for ever. One that
/// is hidden behind another address is found out when it is asked, see [`crate::lifecycle::Hops`].
async fn without_ourselves(config: &Config) -> UplinksConfig {
    let mut uplinks = config.uplinks.clone();
    let mut others = Vec::new();
    for (name, uplink) in uplinks.uplinks {
        if is_our_address(config, &uplink.url) || leads_to_us(config, &uplink).await {
            tracing::warn!(uplink.name = %name, "is this registry itself, and is not asked; set RUSTACCIO_UPSTREAM to the registry behind it");
        } else {
            others.push((name, uplink));
        }
    }
    uplinks.uplinks = others;
    uplinks
}

/// Whether the uplink's host has an address that this registry listens on.
async fn leads_to_us(config: &Config, uplink: &UplinkConfig) -> bool {
    let uplink_port = uplink.url.port_or_known_default();
    let mut hosts = Vec::new();
    for address in &config.server.listen {
        if let ListenAddress::Tcp { host, port, .. } = address
            && *port != 0
            && uplink_port == Some(*port)
        {
            hosts.push(host.as_str());
        }
    }
    if hosts.is_empty() {
        return false;
    }
    let theirs = addresses_of(uplink.url.host_str().unwrap_or_default(), uplink).await;
    for host in hosts {
        let ours = addresses_of(host, uplink).await;
        let is_ours = |address: &IpAddr| {
            let is_any = |own: &IpAddr| own.is_unspecified() && is_of_this_machine(*address);
            ours.iter().any(|own| own == address || is_any(own))
        };
        if theirs.iter().any(is_ours) {
            return true;
        }
    }
    false
}

/// The addresses of `host`; none if they do not come in time.
async fn addresses_of(host: &str, uplink: &UplinkConfig) -> Vec<IpAddr> {
    let host = host.trim_matches(['[', ']']);
    let found = tokio::net::lookup_host((host, 0));
    match tokio::time::timeout(uplink.connect_timeout, found).await {
        Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
        _ => Vec::new(),
    }
}

fn is_our_address(config: &Config, url: &url::Url) -> bool {
    let public = config.server.public_url.as_ref();
    let is_public = public
        .and_then(|base| base.as_str().parse::<url::Url>().ok())
        .is_some_and(|base| base.origin() == url.origin() && url.path().starts_with(base.path()));
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback =
        |host: &str| host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    let is_any = |host: &str| host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
    is_public
        || config.server.listen.iter().any(|address| match address {
            ListenAddress::Tcp {
                host: own, port, ..
            } => {
                let is_same_host =
                    own == host || (is_loopback(host) && (is_loopback(own) || is_any(own)));
                *port != 0 && url.port_or_known_default() == Some(*port) && is_same_host
            }
            ListenAddress::Unix(_) => false,
        })
}

/// Names with rights that nobody has: a misspelt one, or whoever registers it first has them.
async fn warn_of_strangers(
    config: &Config,
    rules: &Rules,
    accounts: &dyn AccountStore,
) -> Result<(), RegistryError> {
    let AdminConfig { users, groups, .. } = &config.admin;
    let named = rules.named_principals();
    let named: BTreeSet<&str> = named
        .into_iter()
        // Nobody can register these.
        .filter(|name| !groups.iter().any(|group| group == name))
        .chain(users.iter().map(String::as_str))
        .collect();
    let mut strangers = Vec::new();
    for name in named {
        let is_known = match name.parse::<Username>() {
            Ok(user) => accounts.user(&user).await?.is_some(),
            Err(_) => false,
        };
        if !is_known {
            strangers.push(name);
        }
    }
    if strangers.is_empty() {
        return Ok(());
    }
    let names = strangers.join(", ");
    match config.auth.registration {
        Registration::Open => tracing::warn!(
            names,
            "rules or RUSTACCIO_ADMIN_USERS name users that nobody has registered; whoever registers one has its rights"
        ),
        Registration::Closed => tracing::warn!(
            names,
            "rules or RUSTACCIO_ADMIN_USERS name users that nobody has registered, and registration is closed"
        ),
    }
    Ok(())
}

fn warn_of_openness(config: &Config, listeners: &[Listener]) {
    let anyone_can_register = config.auth.anyone_can_register();
    let is_reachable = listeners
        .iter()
        .filter_map(Listener::tcp_address)
        .any(|address| !address.ip().is_loopback());
    if anyone_can_register && is_reachable {
        tracing::warn!(
            "everybody who can reach this registry may make an account; RUSTACCIO_REGISTRATION=closed ends that"
        );
    }
    warn_of_administrators(config, is_reachable);
}

/// Where anybody may sign in, "everybody who is signed in" is anybody.
fn warn_of_administrators(config: &Config, is_reachable: bool) {
    let is_open = config.auth.registration == Registration::Open;
    let AdminConfig {
        allow_any_authenticated,
        users,
        groups,
    } = &config.admin;
    match allow_any_authenticated {
        Some(true) if config.auth.anyone_can_register() => tracing::warn!(
            "everybody who makes an account is an administrator; RUSTACCIO_ADMIN_ALLOW_ANY_AUTHENTICATED=false ends that"
        ),
        None if is_open && is_reachable && users.is_empty() && groups.is_empty() => tracing::warn!(
            "nobody is an administrator: everybody who is signed in would be one, which holds only where RUSTACCIO_REGISTRATION=closed says who that is; name some in RUSTACCIO_ADMIN_USERS or RUSTACCIO_ADMIN_GROUPS"
        ),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_of_this_machine_is_seen_through() {
        let mut config = Config::default();
        let port = "127.0.0.1:4873".parse::<std::net::SocketAddr>().unwrap();
        let url = |host: &str| format!("http://{host}:{}", port.port()).parse().unwrap();
        let listen = |host: &str| ListenAddress::Tcp {
            host: host.to_owned(),
            port: port.port(),
            tls: None,
        };
        let own = UplinkConfig::new(url("127.0.0.2"));
        // Another name for an address that is listened on; only the port is the same elsewhere.
        config.server.listen = vec![listen("0.0.0.0")];
        assert!(leads_to_us(&config, &own).await);
        assert!(!leads_to_us(&config, &UplinkConfig::new(url("192.0.2.1"))).await);
        config.server.listen = vec![listen("127.0.0.1")];
        assert!(!leads_to_us(&config, &own).await);
        let by_name = UplinkConfig::new(url("localhost"));
        assert!(leads_to_us(&config, &by_name).await);
    }

    #[test]
    fn a_registry_knows_its_own_addresses() {
        let mut config = Config::default();
        let is_ours = |config: &Config, url: &str| is_our_address(config, &url.parse().unwrap());
        assert!(is_ours(&config, "http://localhost:4873/"));
        assert!(is_ours(&config, "http://127.0.0.1:4873"));
        assert!(!is_ours(&config, "http://127.0.0.1:4874"));
        assert!(!is_ours(&config, "https://registry.example/"));
        config.server.public_url = "https://npm.example/team".parse().ok();
        assert!(is_ours(&config, "https://npm.example/team"));
        assert!(!is_ours(&config, "https://npm.example/other"));
    }
}
