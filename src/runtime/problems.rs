//! [`find_problems`]: everything that keeps a registry from starting, as far as settings tell.

use crate::{
    config::{
        AuthBackend, Config, CoordinationBackend, FEATURES, MetadataBackend, PolicyBackend,
        Problem, TarballBackend,
    },
    models::Pattern,
    net::read_authorities,
    server::Tls,
};

/// The problems of the settings themselves, and of the patterns and files that they name: whoever
/// mends one should know of the others.
pub async fn find_problems(config: &Config) -> Vec<Problem> {
    let mut problems = config.problems().to_vec();
    for rule in &config.packages.rules {
        if let Err(error) = Pattern::compile(&rule.pattern) {
            let setting = format!("packages.{}", rule.pattern);
            problems.push(config.problem(&setting, "", error.problem()));
        }
    }
    problems.extend(config.missing_features(&FEATURES));
    problems.extend(super::leases::problem(config));
    problems.extend(super::governance::problems(config));
    for (name, uplink) in &config.uplinks.uplinks {
        if let Some(path) = &uplink.ca
            && let Err(error) = read_authorities(path)
        {
            let (setting, shown) = (format!("uplinks.{name}.ca"), path.display().to_string());
            problems.push(config.problem(&setting, &shown, &error.to_string()));
        }
    }
    if let Some(variable) = config.storage.missing_bucket() {
        let message = "must be set where RUSTACCIO_TARBALL_BACKEND names a bucket's store";
        problems.push(config.problem(variable, "", message));
    }
    let s3 = &config.storage.s3;
    if let Some(path) = &s3.ca_bundle
        && (config.storage.tarballs == TarballBackend::S3
            || config.coordination.backend == CoordinationBackend::S3)
        && let Err(error) = read_authorities(path)
    {
        let shown = path.display().to_string();
        problems.push(config.problem("RUSTACCIO_S3_CA_BUNDLE", &shown, &error.to_string()));
    }
    if config.storage.tarballs == TarballBackend::S3
        && s3.access_key_id.is_some() != s3.secret_access_key.is_some()
    {
        let message = "and RUSTACCIO_S3_SECRET_ACCESS_KEY are set together, or neither is";
        problems.push(config.problem("RUSTACCIO_S3_ACCESS_KEY_ID", "", message));
    }
    for error in Tls::check(&config.server.tls).await {
        let path = error.path().display().to_string();
        problems.push(config.problem(error.variable(), &path, error.reason()));
    }
    problems.extend(metadata_problem(config));
    problems.extend(service_problems(config));
    problems
}

/// Services that are to be asked and have no address.
fn service_problems(config: &Config) -> Vec<Problem> {
    let (auth, policy) = (&config.auth, &config.policy);
    let is_missing = [
        (
            auth.backend == AuthBackend::Http && auth.http.base_url.is_none(),
            "RUSTACCIO_AUTH_HTTP_BASE_URL",
            "RUSTACCIO_AUTH_BACKEND=http",
        ),
        (
            policy.backend == PolicyBackend::Http && policy.base_url.is_none(),
            "RUSTACCIO_POLICY_HTTP_BASE_URL",
            "RUSTACCIO_POLICY_BACKEND=http",
        ),
    ];
    let missing = is_missing
        .into_iter()
        .filter(|(is_missing, ..)| *is_missing);
    missing
        .map(|(_, variable, by)| {
            let message = format!("must be the address of the service that {by} asks");
            config.problem(variable, "", &message)
        })
        .collect()
}

fn metadata_problem(config: &Config) -> Option<Problem> {
    let storage = &config.storage;
    let is_missing =
        storage.metadata == MetadataBackend::Transactional && storage.postgres.url.is_none();
    is_missing.then(|| {
        let message = "keeps manifests in a database, and RUSTACCIO_METADATA_POSTGRES_URL names \
                       none; set it to postgres://user:password@host/database";
        config.problem("RUSTACCIO_METADATA_BACKEND", "transactional", message)
    })
}
