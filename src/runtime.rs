//! Composition: from settings to a running registry.

mod backends;
mod connectivity;
mod leases;
mod marks;
mod migrate;
mod problems;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

pub(crate) use backends::Backends;
pub(crate) use migrate::{Migrated, Route, back_up, migrate, restore};
pub use problems::find_problems;

use crate::{
    admin::Administration,
    app::AppState,
    auth::{Auth, AuthHook, AuthOptions},
    config::{
        AdminConfig, Config, ListenAddress, Registration, UplinkConfig, UplinksConfig, describe,
    },
    error::RegistryError,
    lifecycle::{Lifecycle, SharedClock, SystemClock, random_hex},
    models::Username,
    net::is_of_this_machine,
    policy::{Admins, Policy, Rules},
    registry::{Registry, RegistryOptions},
    server::{Listener, ServeOptions, Tls, bind, serve, stop_on_signals},
    storage::{AccountStore, CacheBounds, SigningKeys, Store, UpstreamCache},
    uplink::Uplinks,
    web::{self, WebSettings, WebState},
};

/// How long requests may take to finish after the first signal.
const GRACE: Duration = Duration::from_secs(60);
const MAX_CONNECTIONS: usize = 10_000;
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

/// Builds a registry from settings, with an embedder's own users and rules if there are any. Its
/// data folder belongs to it until all of the state is dropped.
pub async fn build_state(
    config: &Config,
    hook: Option<Arc<dyn AuthHook>>,
) -> Result<AppState, RegistryError> {
    build_state_with_clock(config, hook, Arc::new(SystemClock)).await
}

/// Like [`build_state`], where it is as late as `clock` says.
pub async fn build_state_with_clock(
    config: &Config,
    hook: Option<Arc<dyn AuthHook>>,
    clock: SharedClock,
) -> Result<AppState, RegistryError> {
    Box::pin(check(config)).await?;
    let lifecycle = Lifecycle::new();
    let rules = Rules::compile(&config.packages).map_err(unusable)?;
    let backends = Box::pin(Backends::open(config)).await?;
    let leases = Box::pin(leases::open(config, &lifecycle, &clock)).await?;
    let store = Box::pin(backends.open_store(config, leases.are_strict)).await?;
    let is_shared = store.is_shared();
    lifecycle.spawn(keep_in_bounds(config, &store, &lifecycle));
    let secrets = Box::pin(backends.open_secrets(config)).await?;
    let accounts = Box::pin(backends.open_accounts(config, &leases.leases)).await?;
    backends.listen(&lifecycle).await;
    if hook.is_none() {
        Box::pin(warn_of_strangers(config, &rules, &*accounts)).await?;
    }
    let auth = Arc::new(Auth::new(AuthOptions {
        config: config.auth.clone(),
        reserved_names: config.admin.groups.clone(),
        accounts,
        sessions: backends.sessions(),
        secrets: secrets.clone(),
        clock: Arc::clone(&clock),
        hook: hook.clone(),
    }));
    // Where there may be very many, it is done while others are served.
    if !is_shared {
        Box::pin(auth.prune()).await?;
    }
    let uplinks = Box::pin(without_ourselves(config)).await;
    let uplinks = Uplinks::new(&uplinks, &clock).map_err(unusable)?;
    let signing_keys = if config.publish.signing {
        let keys = backends.keys(config);
        Some(Box::pin(SigningKeys::open(&*keys, &secrets)).await?)
    } else {
        None
    };
    let registry = Registry::new(RegistryOptions {
        admins: admins(config),
        store,
        uplinks,
        policy: Policy::new(rules, hook, auth.second_factors().clone()),
        publish: config.publish.clone(),
        hosted_ttl: config.storage.package_cache_ttl,
        has_other_nodes: config.storage.is_multi_node,
        discovery_refresh: config.storage.discovery_refresh,
        negative_cache_ttl: config.storage.negative_cache_ttl,
        leases: leases.leases,
        signing_keys,
        clock,
        lifecycle: lifecycle.clone(),
    });
    let administration = Administration::new(
        admins(config),
        Arc::clone(&auth),
        Arc::clone(&registry),
        lifecycle.clone(),
    );
    registry.follow_others();
    let surveyed = Arc::clone(&registry);
    if is_shared {
        lifecycle.spawn(async move { surveyed.survey_in_background().await });
    } else {
        Box::pin(registry.recover()).await?;
        lifecycle.spawn(async move { surveyed.discover_in_background().await });
    }
    if config.server.startup_connectivity_check {
        let uplinks = config.uplinks.clone();
        lifecycle.spawn(async move { connectivity::check_uplinks(&uplinks).await });
    }
    let pruned = (Arc::clone(&auth), lifecycle.clone());
    lifecycle.spawn(async move { prune_regularly(&pruned.0, &pruned.1).await });
    Ok(AppState {
        web: WebState::new(
            registry,
            auth,
            Arc::new(administration),
            web_settings(config),
            lifecycle,
        ),
    })
}

fn admins(config: &Config) -> Admins {
    Admins::new(config.admin.clone(), config.auth.registration)
}

/// Whether these settings can be started with; says what might be meant otherwise.
async fn check(config: &Config) -> Result<(), RegistryError> {
    let problems = find_problems(config).await;
    if !problems.is_empty() {
        return Err(RegistryError::Settings {
            message: describe(&problems),
        });
    }
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    if config.server.startup_connectivity_check {
        // Before they are opened: it says why that fails.
        connectivity::check_stores(config).await;
    }
    Ok(())
}

/// Keeps the cache as large as the settings say, until `lifecycle` ends.
fn keep_in_bounds(
    config: &Config,
    store: &Store,
    lifecycle: &Lifecycle,
) -> impl Future<Output = ()> + Send + 'static {
    let bounds = CacheBounds {
        max_size: config.storage.cache.max_size,
        max_age: config.storage.cache.max_age,
    };
    let cache = store.cache().clone();
    cache.keep_in_bounds(bounds, lifecycle.clone())
}

fn web_settings(config: &Config) -> WebSettings {
    WebSettings {
        instance: random_hex::<8>().into(),
        url_prefix: config.url_prefix.trim_end_matches('/').to_owned(),
        public_url: config.server.public_url.clone(),
        trust_proxy: config.server.trust_proxy.clone(),
        max_body_size: config.server.max_body_size,
        request_timeout: config.server.request_timeout,
        web_login: config.web.enable && config.web.web_login,
        title: config.web.title.clone(),
        audit: config.audit,
    }
}

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
        if let Some(tls) = &tls {
            let reloads = tls.reload_on_hangup(lifecycle);
            reloads.map_err(RegistryError::internal)?;
        }
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
        && let Some((bucket, _)) = Box::pin(backends::open_bucket(config)).await?
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
    let is_open = config.auth.registration == Registration::Open;
    let is_reachable = listeners
        .iter()
        .filter_map(Listener::tcp_address)
        .any(|address| !address.ip().is_loopback());
    if is_open && is_reachable {
        tracing::warn!(
            "everybody who can reach this registry may make an account; RUSTACCIO_REGISTRATION=closed ends that"
        );
    }
}

async fn prune_regularly(auth: &Auth, lifecycle: &Lifecycle) {
    loop {
        tokio::select! {
            () = lifecycle.shutdown_begun() => return,
            () = tokio::time::sleep(PRUNE_INTERVAL) => {}
        }
        if let Err(error) = auth.prune().await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot remove expired tokens"
            );
        }
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
