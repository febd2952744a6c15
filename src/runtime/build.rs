//! From settings to a registry that is ready to serve.

use std::{sync::Arc, time::Duration};

use super::{
    Backends, connectivity, find_problems, governance, leases, unusable, verdaccio,
    warn_of_strangers, without_ourselves,
};
use crate::{
    admin::Administration,
    app::AppState,
    auth::{Auth, AuthHook, AuthOptions, HttpPlugin, Outside},
    config::{AuthBackend, Config, PolicyBackend, describe},
    error::RegistryError,
    events::{Events, EventsOptions},
    lifecycle::{Lifecycle, SharedClock, SystemClock, random_hex},
    policy::{Admins, Policy, PolicyService, Rules},
    registry::{Registry, RegistryOptions},
    storage::{CacheBounds, Leases, Secrets, SigningKeys, Store},
    telemetry::Metrics,
    uplink::Uplinks,
    web::{WebParts, WebSettings, WebState},
};

const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

/// Builds a registry from settings, with an embedder's own users and rules if there are any. Its
/// data folder belongs to it until all of the state is dropped.
pub async fn build_state(
    config: &Config,
    hook: Option<Arc<dyn AuthHook>>,
) -> Result<AppState, RegistryError> {
    // In a box, because it is large, and embedders await it anywhere.
    Box::pin(build_state_with_clock(config, hook, Arc::new(SystemClock))).await
}

/// Like [`build_state`], where it is as late as `clock` says.
pub async fn build_state_with_clock(
    config: &Config,
    hook: Option<Arc<dyn AuthHook>>,
    clock: SharedClock,
) -> Result<AppState, RegistryError> {
    Box::pin(check(config)).await?;
    let lifecycle = Lifecycle::new();
    let metrics = metrics(config, &clock);
    let governance = Box::pin(governance::open(config, &metrics, &clock)).await?;
    let rules = Rules::compile(&config.packages).map_err(unusable)?;
    let backends = Box::pin(Backends::open(config)).await?;
    let leases = Box::pin(leases::open(config, &lifecycle, &clock, &metrics)).await?;
    let store = Box::pin(backends.open_store(config, leases.are_strict)).await?;
    let store = store.counted(&metrics);
    let is_shared = store.is_shared();
    lifecycle.spawn(keep_in_bounds(config, &store, &lifecycle));
    let secrets = Box::pin(backends.open_secrets(config)).await?;
    let accounts = Box::pin(backends.open_accounts(config, &leases.leases)).await?;
    backends.listen(&lifecycle).await;
    let outside = outside(config, hook, &metrics)?;
    if outside.is_empty() {
        Box::pin(warn_of_strangers(config, &rules, &*accounts)).await?;
    }
    let auth = Arc::new(Auth::new(AuthOptions {
        config: config.auth.clone(),
        reserved_names: config.admin.groups.clone(),
        accounts,
        sessions: backends.sessions(),
        secrets: secrets.clone(),
        clock: Arc::clone(&clock),
        outside: outside.clone(),
        verdaccio: Box::pin(verdaccio::tokens(config)).await?,
    }));
    // Where there may be very many, it is done while others are served.
    if !is_shared {
        Box::pin(auth.prune()).await?;
    }
    let backend = policy_backend(config, &metrics)?;
    let second_factors = auth.second_factors().clone();
    let registration = config.auth.registration;
    let admins = Admins::new(
        config.admin.clone(),
        registration,
        outside.registers_by_itself(),
    );
    let policy = Policy::new(rules, backend, outside, second_factors);
    let events = Box::pin(open_events(config, &clock, &metrics, &lifecycle)).await?;
    let opened = Opened {
        admins: admins.clone(),
        store,
        policy,
        leases: leases.leases,
        events: events.clone(),
        clock: Arc::clone(&clock),
        metrics: metrics.clone(),
    };
    let registry = Box::pin(open_registry(
        config, opened, &backends, &secrets, &lifecycle,
    ))
    .await?;
    let administration = Administration::new(
        admins,
        Arc::clone(&auth),
        Arc::clone(&registry),
        events.clone(),
        lifecycle.clone(),
        clock,
    );
    Box::pin(begin_work(config, &registry, &auth, is_shared, &lifecycle)).await?;
    Ok(AppState {
        web: WebState::new(WebParts {
            registry,
            auth,
            administration: Arc::new(administration),
            governance,
            settings: web_settings(config),
            lifecycle,
            metrics,
            events,
        }),
    })
}

/// Who keeps accounts in our place.
pub(super) fn outside(
    config: &Config,
    hook: Option<Arc<dyn AuthHook>>,
    metrics: &Metrics,
) -> Result<Outside, RegistryError> {
    let auth = &config.auth;
    if auth.is_external
        && hook.is_none()
        && (auth.backend == AuthBackend::Local || auth.http.request_auth_endpoint.is_none())
    {
        tracing::warn!(
            "RUSTACCIO_AUTH_EXTERNAL_MODE is on and nobody knows tokens, so that nobody can sign in; set \
             RUSTACCIO_AUTH_BACKEND=http and RUSTACCIO_AUTH_HTTP_REQUEST_AUTH_ENDPOINT"
        );
    }
    let service = match auth.backend {
        AuthBackend::Http => {
            HttpPlugin::new(auth.http.clone(), metrics.clone()).map_err(unusable)?
        }
        AuthBackend::Local => None,
    };
    Ok(Outside::new(hook, service))
}

/// Who decides before all others.
fn policy_backend(
    config: &Config,
    metrics: &Metrics,
) -> Result<Option<PolicyService>, RegistryError> {
    match config.policy.backend {
        PolicyBackend::Http => {
            PolicyService::new(config.policy.clone(), metrics.clone()).map_err(unusable)
        }
        PolicyBackend::Local => Ok(None),
    }
}

/// What a registry is made of that is open already.
struct Opened {
    admins: Admins,
    store: Store,
    policy: Policy,
    leases: Leases,
    events: Events,
    clock: SharedClock,
    metrics: Metrics,
}

async fn open_registry(
    config: &Config,
    opened: Opened,
    backends: &Backends,
    secrets: &Secrets,
    lifecycle: &Lifecycle,
) -> Result<Arc<Registry>, RegistryError> {
    let Opened {
        admins,
        store,
        policy,
        leases,
        events,
        clock,
        metrics,
    } = opened;
    let uplinks = Box::pin(without_ourselves(config)).await;
    let uplinks = Uplinks::new(&uplinks, &clock, &metrics).map_err(unusable)?;
    let signing_keys = if config.publish.signing {
        let keys = backends.keys(config);
        Some(Box::pin(SigningKeys::open(&*keys, secrets)).await?)
    } else {
        None
    };
    Ok(Registry::new(RegistryOptions {
        admins,
        store,
        uplinks,
        searches_are_local: config.uplinks.searches_are_local,
        policy,
        publish: config.publish.clone(),
        hosted_ttl: config.storage.package_cache_ttl,
        has_other_nodes: config.storage.is_multi_node,
        discovery_refresh: config.storage.discovery_refresh,
        negative_cache_ttl: config.storage.negative_cache_ttl,
        leases,
        signing_keys,
        events,
        clock,
        lifecycle: lifecycle.clone(),
        metrics,
    }))
}

/// Opens whoever is told of what happens.
pub(super) async fn open_events(
    config: &Config,
    clock: &SharedClock,
    metrics: &Metrics,
    lifecycle: &Lifecycle,
) -> Result<Events, RegistryError> {
    let opened = Events::open(EventsOptions {
        events: &config.events,
        audit_log: &config.audit_log,
        clock: Arc::clone(clock),
        metrics: metrics.clone(),
        lifecycle: lifecycle.clone(),
    });
    opened.await.map_err(unusable)
}

/// Begins what goes on beside requests.
async fn begin_work(
    config: &Config,
    registry: &Arc<Registry>,
    auth: &Arc<Auth>,
    is_shared: bool,
    lifecycle: &Lifecycle,
) -> Result<(), RegistryError> {
    registry.follow_others();
    let surveyed = Arc::clone(registry);
    if is_shared {
        lifecycle.spawn(async move { surveyed.survey_in_background().await });
    } else {
        let is_whole = Box::pin(registry.recover()).await?;
        lifecycle.spawn(async move { surveyed.discover_in_background(is_whole).await });
    }
    if config.server.startup_connectivity_check {
        let uplinks = config.uplinks.clone();
        lifecycle.spawn(async move { connectivity::check_uplinks(&uplinks).await });
    }
    let pruned = (Arc::clone(auth), lifecycle.clone());
    lifecycle.spawn(async move { prune_regularly(&pruned.0, &pruned.1).await });
    Ok(())
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
        connectivity::check_backends(config).await;
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
        has_pages: config.web.enable,
        web_login: config.web.enable && config.web.web_login && !config.auth.is_external,
        has_local_logins: !config.auth.is_external,
        has_page_logins: config.web.sign_in && !config.auth.is_external,
        language: config.web.language,
        forwarded_proto: config.server.forwarded_proto.clone(),
        title: config.web.title.clone(),
        metrics: config.metrics.clone(),
        are_traced: config.traces.are_on,
        audit: config.audit,
    }
}

/// Where somebody reads them, they count.
fn metrics(config: &Config, clock: &SharedClock) -> Metrics {
    if !config.metrics.are_on {
        return Metrics::default();
    }
    let metrics = Metrics::counting();
    metrics.started(clock.now().unix_millis().div_euclid(1000));
    metrics
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
