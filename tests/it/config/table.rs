//! The table of settings: it has all that are promised, and the files made from it are current.

use std::{collections::BTreeSet, fs, path::Path};

use rustaccio::config::{Config, Sources, examples, settings};

use super::load_text;

/// All variables that are promised, without `RUSTACCIO_`; names of a group stand behind their
/// common beginning.
const PROMISED: &[(&str, &str)] = &[
    (
        "",
        "BIND DATA_DIR UPSTREAM WEB_LOGIN WEB_ENABLE WEB_TITLE PUBLISH_CHECK_OWNERS AUDIT_ENABLED",
    ),
    (
        "",
        "TRUST_PROXY PASSWORD_MIN LOGIN_SESSION_TTL_SECONDS AUTH_TOKEN_TTL_SECS MAX_BODY_SIZE",
    ),
    (
        "",
        "URL_PREFIX KEEP_ALIVE_TIMEOUT LOG_LEVEL LOG_FORMAT VERBOSE_DEP_LOGS NPM_TOKEN",
    ),
    (
        "",
        "REQUEST_TIMEOUT_SECS STARTUP_CONNECTIVITY_CHECK TARBALL_BACKEND METADATA_BACKEND",
    ),
    (
        "TOKIO_",
        "WORKER_THREADS MAX_BLOCKING_THREADS THREAD_STACK_SIZE",
    ),
    (
        "UPSTREAM_",
        "CONNECT_TIMEOUT_SECS TIMEOUT_SECS POOL_IDLE_TIMEOUT_SECS TCP_KEEPALIVE_SECS",
    ),
    ("UPSTREAM_", "POOL_MAX_IDLE_PER_HOST"),
    (
        "AUTH_",
        "BACKEND EXTERNAL_MODE HTPASSWD_FILE HTPASSWD_ROUNDS",
    ),
    (
        "",
        "PASSWORD_PATTERN FORWARDED_PROTO_HEADER UPSTREAM_SEARCH",
    ),
    ("WEB_", "LANGUAGE SIGN_IN"),
    (
        "AUTH_HTTP_",
        "BASE_URL ADDUSER_ENDPOINT LOGIN_ENDPOINT CHANGE_PASSWORD_ENDPOINT TIMEOUT_MS",
    ),
    (
        "AUTH_HTTP_",
        "REQUEST_AUTH_ENDPOINT ALLOW_ACCESS_ENDPOINT ALLOW_PUBLISH_ENDPOINT",
    ),
    (
        "AUTH_HTTP_",
        "ALLOW_UNPUBLISH_ENDPOINT CACHE_TTL_MS CACHE_MAX_ENTRIES CACHE_SCOPE",
    ),
    (
        "S3_",
        "BUCKET REGION ENDPOINT ACCESS_KEY_ID SECRET_ACCESS_KEY PREFIX FORCE_PATH_STYLE",
    ),
    ("S3_", "CA_BUNDLE"),
    (
        "",
        "PACKAGE_METADATA_AUTHORITY STRICT_REVISION_CHECK RUNTIME_PROFILE MANAGED_MODE",
    ),
    (
        "PACKAGE_",
        "DISCOVERY_MODE DISCOVERY_REFRESH_SECS CACHE_MAX_ENTRIES CACHE_TTL_SECS",
    ),
    (
        "PACKAGE_",
        "CACHE_PRUNE_INTERVAL_SECS NEGATIVE_CACHE_TTL_SECS",
    ),
    (
        "RATE_LIMIT_",
        "BACKEND REQUESTS_PER_WINDOW WINDOW_SECS REDIS_URL FAIL_OPEN MEMORY_MAX_KEYS",
    ),
    (
        "QUOTA_",
        "BACKEND REQUESTS_PER_DAY DOWNLOADS_PER_DAY PUBLISHES_PER_DAY POSTGRES_URL",
    ),
    ("QUOTA_", "FAIL_OPEN MEMORY_MAX_KEYS MEMORY_RETENTION_DAYS"),
    ("METRICS_", "BACKEND PATH REQUIRE_ADMIN"),
    ("OTEL_", "ENABLED EXPORTER_OTLP_ENDPOINT SERVICE_NAME"),
    ("POLICY_", "BACKEND"),
    (
        "POLICY_HTTP_",
        "BASE_URL DECISION_ENDPOINT TIMEOUT_MS CACHE_TTL_MS CACHE_MAX_ENTRIES",
    ),
    (
        "POLICY_HTTP_",
        "CACHE_PRUNE_INTERVAL_MS FAIL_OPEN BATCH_ENDPOINT",
    ),
    (
        "EVENT_",
        "SINK HTTP_BASE_URL HTTP_ENDPOINT HTTP_TIMEOUT_MS HTTP_SECRET",
    ),
    ("ADMIN_", "ALLOW_ANY_AUTHENTICATED USERS GROUPS"),
    (
        "STATE_COORDINATION_",
        "BACKEND REDIS_URL LOCK_KEY LEASE_MS ACQUIRE_TIMEOUT_MS",
    ),
    ("STATE_COORDINATION_", "POLL_INTERVAL_MS FAIL_OPEN"),
    (
        "STATE_COORDINATION_S3_",
        "BUCKET REGION ENDPOINT ACCESS_KEY_ID SECRET_ACCESS_KEY PREFIX",
    ),
    ("STATE_COORDINATION_S3_", "FORCE_PATH_STYLE"),
    (
        "",
        "PUBLIC_URL REGISTRATION METADATA_POSTGRES_URL AUDIT_LOG_FILE SECRET_KEY SIGNING",
    ),
    ("CACHE_", "DIR MAX_SIZE MAX_AGE SHARED"),
    ("TLS_", "CERT KEY"),
    ("PUBLISH_", "IMMUTABLE ALLOW_OFFLINE"),
];

/// Groups that are promised without their names, and settings of our own.
const MORE: &[&str] = &[
    "GCS_",
    "AZURE_",
    "AUDIT_LOG_MAX_",
    "MAX_USERS",
    "METADATA_POSTGRES_",
    "TARBALL_REDIRECT",
    "UPSTREAM_ALLOWED_ORIGINS",
];

#[test]
fn the_table_has_all_settings_that_are_promised_and_no_others() {
    let promised: BTreeSet<String> = PROMISED
        .iter()
        .flat_map(|(group, names)| names.split(' ').map(move |name| format!("{group}{name}")))
        .collect();
    let known: BTreeSet<String> = settings()
        .map(|setting| setting.variable.trim_start_matches("RUSTACCIO_").to_owned())
        .collect();
    let missing: Vec<&String> = promised.difference(&known).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
    let others: Vec<&String> = known.difference(&promised).collect();
    for name in &others {
        assert!(
            MORE.iter().any(|more| name.starts_with(more)),
            "promised by nobody: {name}"
        );
    }
    for more in MORE {
        assert!(others.iter().any(|name| name.starts_with(more)), "{more}");
    }
}

#[test]
fn each_path_means_one_setting() {
    let mut paths = BTreeSet::new();
    for setting in settings() {
        assert!(paths.insert(setting.path()), "{}", setting.path());
        for alias in setting.aliases {
            assert!(paths.insert((*alias).to_owned()), "{alias}");
        }
    }
}

#[test]
fn generated_files_have_not_drifted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for example in examples() {
        let text = fs::read_to_string(root.join(example.path)).unwrap_or_default();
        assert!(
            text == example.text,
            "run `cargo run --bin sync_examples`: {} has drifted",
            example.path
        );
    }
}

fn pairs_of(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect()
}

#[test]
fn examples_can_be_used_as_they_are() {
    for example in examples()
        .into_iter()
        .filter(|example| example.path.starts_with(".env"))
    {
        let pairs = pairs_of(&example.text);
        let config = Config::load(&Sources {
            env: pairs.clone().into_iter().collect(),
            ..Sources::default()
        });
        assert!(
            config.problems().is_empty(),
            "{}: {}",
            example.path,
            config.describe_problems()
        );
        assert!(config.warnings().is_empty(), "{}", example.path);
        for (name, _) in pairs {
            assert!(settings().any(|setting| setting.variable == name), "{name}");
        }
    }
    let file = examples()
        .into_iter()
        .find(|example| example.path.ends_with("yml"));
    let config = load_text(&file.unwrap().text);
    assert!(
        config.problems().is_empty() && config.warnings().is_empty(),
        "{}",
        config.describe_problems()
    );
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_variable_that_is_named_is_in_the_table() {
    let mut texts = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut texts,
    );
    let known: BTreeSet<&str> = settings().map(|setting| setting.variable).collect();
    let own = [
        "RUSTACCIO_CONFIG",
        "RUSTACCIO_CONFIG_BASE64",
        "RUSTACCIO_CRASH_AT",
        // Credentials for another registry, for one command.
        "RUSTACCIO_IMPORT_TOKEN",
        "RUSTACCIO_IMPORT_USERNAME",
        "RUSTACCIO_IMPORT_PASSWORD",
        "RUSTACCIO_SHADOW_TOKEN",
        "RUSTACCIO_SHADOW_USERNAME",
        "RUSTACCIO_SHADOW_PASSWORD",
        "RUSTACCIO_",
    ];
    for text in texts {
        for (at, _) in text.match_indices("RUSTACCIO_") {
            let name: String = text[at..]
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_')
                .collect();
            // Misspelt and unknown ones stand in tests only.
            let is_for_tests = name.contains("_IT_");
            let is_known = known.contains(&*name) || own.contains(&&*name);
            assert!(is_known || is_for_tests, "{name}");
        }
    }
}
