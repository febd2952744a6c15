//! Every setting does something: for each there is a test that changes it and sees the difference.
//!
//! The table is checked: a setting without a row fails, and so does a row whose test is not there,
//! or is in a file that does not name the setting.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use rustaccio::config::settings;

use crate::protocol_table::tests_in;

/// Settings, without `RUSTACCIO_`, and the test that shows what they do.
const SHOWN: &[(&str, &str)] = &[
    // Profile
    (
        "RUNTIME_PROFILE",
        "config::profiles::profiles_say_all_that_does_not_go_together",
    ),
    (
        "MANAGED_MODE",
        "config::managed::managed_registries_compare_revisions_unless_they_are_told_not_to",
    ),
    // Server
    ("BIND", "config::what_keeps_a_server_from_starting_is_said"),
    (
        "TLS_CERT TLS_KEY",
        "tls::files_that_cannot_be_used_are_named",
    ),
    ("PUBLIC_URL", "reading::a_public_url_overrules_everything"),
    (
        "URL_PREFIX TRUST_PROXY",
        "reading::tarball_addresses_are_those_that_the_client_uses",
    ),
    ("MAX_BODY_SIZE", "publishing::bodies_have_a_limit"),
    (
        "REQUEST_TIMEOUT_SECS",
        "hostile::a_body_may_be_slow_and_may_not_stand_still",
    ),
    (
        "KEEP_ALIVE_TIMEOUT",
        "config::effects::idle_connections_are_kept_as_long_as_they_shall",
    ),
    (
        "TOKIO_WORKER_THREADS TOKIO_THREAD_STACK_SIZE",
        "config::effects::threads_are_as_many_and_as_large_as_they_shall",
    ),
    (
        "TOKIO_MAX_BLOCKING_THREADS",
        "cli::serve::tests::as_much_may_block_at_once_as_the_settings_say",
    ),
    (
        "STARTUP_CONNECTIVITY_CHECK",
        "config::effects::a_start_tries_what_it_needs_where_that_is_wanted",
    ),
    (
        "LOG_LEVEL",
        "config::effects::as_much_is_logged_as_it_shall_be",
    ),
    ("LOG_FORMAT", "config::effects::lines_look_as_they_shall"),
    (
        "VERBOSE_DEP_LOGS",
        "config::effects::libraries_speak_where_they_may",
    ),
    (
        "AUTH_HTPASSWD_FILE AUTH_HTPASSWD_ROUNDS",
        "verdaccio_accounts::passwords::a_file_that_is_named_has_the_users",
    ),
    (
        "FORWARDED_PROTO_HEADER",
        "config::verdaccio::a_proxy_may_say_https_in_a_header_of_its_own",
    ),
    (
        "WEB_LANGUAGE",
        "config::verdaccio::pages_have_the_language_of_the_file_for_who_asks_for_none",
    ),
    (
        "WEB_SIGN_IN",
        "config::verdaccio::nobody_signs_in_on_pages_where_the_file_says_so",
    ),
    (
        "UPSTREAM_SEARCH",
        "config::verdaccio::uplinks_are_not_searched_where_the_file_says_so",
    ),
    (
        "PASSWORD_PATTERN",
        "config::verdaccio::new_passwords_match_what_the_file_wants",
    ),
    (
        "WEB_ENABLE WEB_TITLE WEB_LOGIN",
        "config::effects::pages_can_be_left_out_and_have_a_title",
    ),
    ("AUDIT_ENABLED", "audit::nobody_to_ask_means_nothing_found"),
    // Storage and upstream
    ("DATA_DIR", "config::effects::data_lie_where_they_shall"),
    (
        "PACKAGE_METADATA_AUTHORITY",
        "config::settings_shown::what_changes_nothing_is_taken",
    ),
    (
        "UPSTREAM",
        "config::uplinks::an_upstream_can_be_chosen_or_left_out",
    ),
    (
        "UPSTREAM_ALLOWED_ORIGINS",
        "config::uplinks::tarballs_come_from_origins_that_the_settings_name",
    ),
    (
        "UPSTREAM_CONNECT_TIMEOUT_SECS",
        "config::connections::one_that_cannot_be_made_is_given_up_in_time",
    ),
    (
        "UPSTREAM_TIMEOUT_SECS",
        "upstream::the_built_in_uplink_has_its_patience_from_variables",
    ),
    (
        "UPSTREAM_POOL_IDLE_TIMEOUT_SECS",
        "config::connections::idle_ones_are_closed_in_time",
    ),
    (
        "UPSTREAM_POOL_MAX_IDLE_PER_HOST",
        "config::connections::no_more_are_kept_than_allowed",
    ),
    (
        "UPSTREAM_TCP_KEEPALIVE_SECS",
        "config::connections::they_are_looked_after_as_often_as_it_shall_be",
    ),
    // The cache of upstream
    ("CACHE_DIR", "cache::two_registries_may_share_one"),
    (
        "CACHE_MAX_SIZE",
        "cache_bounds::what_was_used_longest_ago_goes_when_it_is_too_large",
    ),
    (
        "CACHE_MAX_AGE",
        "cache_bounds::what_nobody_uses_goes_when_it_is_too_old",
    ),
    (
        "CACHE_SHARED",
        "cache_shared::what_one_node_has_fetched_the_others_do_not_ask_for",
    ),
    // What is remembered
    (
        "PACKAGE_DISCOVERY_MODE",
        "buckets::discovery::searches_find_what_another_process_changes",
    ),
    (
        "PACKAGE_CACHE_TTL_SECS",
        "reading::with_a_ttl_an_edit_from_outside_waits_and_one_of_ours_does_not",
    ),
    (
        "PACKAGE_NEGATIVE_CACHE_TTL_SECS",
        "config::effects::what_upstream_lacks_is_remembered_as_long_as_it_shall",
    ),
    (
        "PACKAGE_DISCOVERY_REFRESH_SECS",
        "storage_reports::a_folder_that_changes_under_a_node_is_searched_again",
    ),
    (
        "PACKAGE_CACHE_MAX_ENTRIES PACKAGE_CACHE_PRUNE_INTERVAL_SECS",
        "config::settings_shown::what_changes_nothing_is_taken",
    ),
    // Buckets
    (
        "TARBALL_BACKEND",
        "config::buckets::s3_is_asked_as_the_settings_say",
    ),
    (
        "TARBALL_REDIRECT",
        "buckets::clients_may_be_sent_to_the_bucket",
    ),
    (
        "S3_BUCKET S3_REGION S3_ENDPOINT S3_ACCESS_KEY_ID",
        "config::buckets::s3_is_asked_as_the_settings_say",
    ),
    (
        "S3_SECRET_ACCESS_KEY S3_PREFIX S3_FORCE_PATH_STYLE",
        "config::buckets::s3_is_asked_as_the_settings_say",
    ),
    (
        "S3_CA_BUNDLE",
        "buckets::a_store_behind_an_authority_of_ones_own",
    ),
    (
        "GCS_BUCKET GCS_SERVICE_ACCOUNT GCS_PREFIX GCS_ENDPOINT",
        "config::buckets::gcs_is_asked_as_the_settings_say",
    ),
    (
        "AZURE_ACCOUNT AZURE_ACCESS_KEY AZURE_CONTAINER AZURE_PREFIX AZURE_ENDPOINT",
        "config::buckets::azure_is_asked_as_the_settings_say",
    ),
    // Postgres
    (
        "METADATA_BACKEND METADATA_POSTGRES_URL",
        "postgres::a_database_that_is_not_there_stops_the_start",
    ),
    (
        "METADATA_POSTGRES_MAX_CONNECTIONS",
        "postgres::there_are_no_more_connections_than_allowed",
    ),
    (
        "METADATA_POSTGRES_TIMEOUT_SECS",
        "postgres::a_database_may_be_as_late_as_the_setting_says",
    ),
    // Many nodes
    (
        "STATE_COORDINATION_BACKEND STATE_COORDINATION_REDIS_URL STATE_COORDINATION_FAIL_OPEN",
        "leases::a_backend_that_is_gone_is_put_up_with_or_not",
    ),
    (
        "STATE_COORDINATION_LOCK_KEY STATE_COORDINATION_ACQUIRE_TIMEOUT_MS",
        "leases::a_writer_waits_for_his_turn_in_redis",
    ),
    (
        "STATE_COORDINATION_LEASE_MS",
        "leases::redis_that_is_frozen_or_killed_in_mid_lease_costs_no_write",
    ),
    (
        "STATE_COORDINATION_POLL_INTERVAL_MS",
        "leases::a_writer_looks_again_as_often_as_it_shall",
    ),
    (
        "STATE_COORDINATION_S3_BUCKET STATE_COORDINATION_S3_ENDPOINT STATE_COORDINATION_S3_PREFIX",
        "leases::leases_may_have_a_place_of_their_own",
    ),
    (
        "STATE_COORDINATION_S3_ACCESS_KEY_ID STATE_COORDINATION_S3_SECRET_ACCESS_KEY",
        "leases::leases_may_have_a_place_of_their_own",
    ),
    (
        "STATE_COORDINATION_S3_FORCE_PATH_STYLE",
        "leases::leases_may_have_a_place_of_their_own",
    ),
    (
        "STATE_COORDINATION_S3_REGION",
        "config::buckets::leases_are_in_their_own_region",
    ),
    // Limits
    (
        "RATE_LIMIT_BACKEND RATE_LIMIT_REQUESTS_PER_WINDOW",
        "limits::so_many_requests_in_a_window_and_no_more",
    ),
    (
        "RATE_LIMIT_WINDOW_SECS",
        "limits::a_window_is_as_long_as_it_shall",
    ),
    (
        "RATE_LIMIT_REDIS_URL",
        "limits::shared::a_rate_limit_in_redis_is_one_for_all_nodes",
    ),
    ("RATE_LIMIT_FAIL_OPEN", "limits::shared::redis_may_fail"),
    (
        "RATE_LIMIT_MEMORY_MAX_KEYS",
        "limits::the_oldest_window_makes_room",
    ),
    (
        "QUOTA_BACKEND QUOTA_REQUESTS_PER_DAY",
        "limits::other_requests_have_a_quota",
    ),
    ("QUOTA_DOWNLOADS_PER_DAY", "limits::downloads_have_a_quota"),
    ("QUOTA_PUBLISHES_PER_DAY", "limits::publishes_have_a_quota"),
    (
        "QUOTA_POSTGRES_URL",
        "limits::shared::a_quota_in_postgres_is_one_for_all_nodes",
    ),
    ("QUOTA_FAIL_OPEN", "limits::shared::postgres_may_fail"),
    (
        "QUOTA_MEMORY_MAX_KEYS",
        "limits::the_oldest_count_makes_room",
    ),
    (
        "QUOTA_MEMORY_RETENTION_DAYS",
        "limits::counts_are_kept_for_as_many_days_as_they_shall",
    ),
    // Accounts, rules and publishing
    ("REGISTRATION", "accounts::registration_can_be_closed"),
    (
        "MAX_USERS",
        "accounts::there_are_no_more_users_than_allowed",
    ),
    (
        "PASSWORD_MIN",
        "config::effects::passwords_are_as_long_as_they_must_be",
    ),
    (
        "AUTH_TOKEN_TTL_SECS",
        "accounts::logins_last_for_ever_where_they_may_and_very_long_where_they_are_told",
    ),
    (
        "LOGIN_SESSION_TTL_SECONDS",
        "web_login::a_login_ends_in_time",
    ),
    (
        "ADMIN_ALLOW_ANY_AUTHENTICATED ADMIN_USERS",
        "administration::whoever_is_signed_in_administers_only_where_that_is_said",
    ),
    (
        "ADMIN_GROUPS",
        "administration::groups_administer_where_they_are_named",
    ),
    (
        "PUBLISH_CHECK_OWNERS",
        "publishing::only_owners_change_a_package_where_that_is_wanted",
    ),
    (
        "PUBLISH_ALLOW_OFFLINE",
        "upstream::a_new_name_waits_until_upstream_can_be_asked",
    ),
    (
        "PUBLISH_IMMUTABLE",
        "unpublishing::unpublished_versions_stay_away_where_they_must",
    ),
    (
        "STRICT_REVISION_CHECK",
        "publishing::strict_revisions_are_compared_on_every_change",
    ),
    (
        "SIGNING",
        "config::effects::versions_are_signed_unless_that_is_off",
    ),
    ("SECRET_KEY", "signatures::the_command_line_spoils_no_keys"),
    // Accounts and decisions elsewhere
    (
        "AUTH_BACKEND AUTH_HTTP_BASE_URL",
        "http_accounts::users_sign_in_with_what_the_service_knows",
    ),
    (
        "AUTH_EXTERNAL_MODE",
        "http_accounts::outside_tokens_alone_count_in_external_mode",
    ),
    (
        "AUTH_HTTP_ADDUSER_ENDPOINT AUTH_HTTP_CHANGE_PASSWORD_ENDPOINT",
        "config::effects::the_service_of_accounts_is_asked_where_it_listens",
    ),
    (
        "AUTH_HTTP_LOGIN_ENDPOINT",
        "http_accounts::who_is_not_known_is_made_there_or_hears_why_not",
    ),
    (
        "AUTH_HTTP_REQUEST_AUTH_ENDPOINT",
        "http_accounts::the_service_knows_whose_tokens_they_are",
    ),
    (
        "AUTH_HTTP_ALLOW_ACCESS_ENDPOINT AUTH_HTTP_ALLOW_PUBLISH_ENDPOINT AUTH_HTTP_ALLOW_UNPUBLISH_ENDPOINT",
        "http_accounts::rights_are_decided_by_the_service_where_it_has_an_endpoint",
    ),
    (
        "AUTH_HTTP_TIMEOUT_MS",
        "patience::an_account_service_may_be_as_late_as_the_setting_says",
    ),
    (
        "AUTH_HTTP_CACHE_TTL_MS AUTH_HTTP_CACHE_SCOPE AUTH_HTTP_CACHE_MAX_ENTRIES",
        "http_accounts::an_answer_about_a_token_counts_for_what_was_asked",
    ),
    (
        "POLICY_BACKEND POLICY_HTTP_BASE_URL",
        "http_policy::the_service_decides_before_the_rules",
    ),
    (
        "POLICY_HTTP_DECISION_ENDPOINT POLICY_HTTP_CACHE_TTL_MS POLICY_HTTP_CACHE_MAX_ENTRIES",
        "http_policy::how_much_is_remembered_is_a_setting",
    ),
    (
        "POLICY_HTTP_BATCH_ENDPOINT",
        "http_policy::lists_ask_once_about_many_where_the_service_can",
    ),
    (
        "POLICY_HTTP_TIMEOUT_MS",
        "patience::a_policy_service_may_be_as_late_as_the_setting_says",
    ),
    (
        "POLICY_HTTP_FAIL_OPEN",
        "http_policy::the_rules_decide_without_the_service_where_that_is_wanted",
    ),
    (
        "POLICY_HTTP_CACHE_PRUNE_INTERVAL_MS",
        "policy::service::tests::decisions_that_ended_are_thrown_away_as_often_as_they_shall",
    ),
    // Metrics and traces
    ("METRICS_BACKEND", "metrics::what_happens_is_counted"),
    (
        "METRICS_PATH METRICS_REQUIRE_ADMIN",
        "metrics::they_are_read_by_whoever_may",
    ),
    (
        "OTEL_ENABLED OTEL_EXPORTER_OTLP_ENDPOINT OTEL_SERVICE_NAME",
        "traces::a_collector_gets_the_spans_of_a_request_and_the_last_one_at_the_end",
    ),
    // Events and the trail of audit
    (
        "EVENT_SINK EVENT_HTTP_BASE_URL",
        "events::all_that_happens_is_told_as_the_contract_says",
    ),
    (
        "EVENT_HTTP_ENDPOINT EVENT_HTTP_SECRET",
        "events::events_are_signed_with_the_secret",
    ),
    (
        "EVENT_HTTP_TIMEOUT_MS",
        "patience::a_sink_of_events_may_be_as_late_as_the_setting_says",
    ),
    (
        "AUDIT_LOG_FILE",
        "audit_log::a_line_says_who_did_what_from_where_and_what_came_of_it",
    ),
    (
        "AUDIT_LOG_MAX_SIZE AUDIT_LOG_MAX_FILES",
        "audit_log::full_files_are_put_aside_and_moved_ones_are_followed",
    ),
    (
        "NPM_TOKEN",
        "bootstrap::clients::npmrc_alone_is_enough_for_npm_12",
    ),
];

fn words(rows: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let rows = rows.iter();
    rows.flat_map(|(names, test)| names.split(' ').map(|name| (name, *test)))
        .collect()
}

/// Each setting of the table once.
#[test]
fn every_setting_is_shown_by_a_test() {
    let mut shown = BTreeMap::new();
    for (name, test) in words(SHOWN) {
        let before = shown.insert(name, test);
        assert!(before.is_none(), "{name} has two rows");
    }
    let mut known = BTreeSet::new();
    for setting in settings() {
        let name = setting.variable.trim_start_matches("RUSTACCIO_");
        known.insert(name);
        assert!(
            shown.contains_key(name),
            "{name}: no test shows what it does"
        );
    }
    for name in shown.keys() {
        assert!(known.contains(name), "{name} is no setting");
    }
}

/// The file that a test is in; the longest path of modules that is one.
fn file_of(test: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules: Vec<&str> = test.split("::").collect();
    let texts = (1..modules.len()).rev().flat_map(|count| {
        let path = modules[..count].join("/");
        ["tests/it", "src"]
            .map(|folder| fs::read_to_string(root.join(format!("{folder}/{path}.rs"))))
    });
    texts.flatten().next()
}

#[test]
fn tests_that_are_named_exist_and_name_the_setting() {
    let tests: BTreeSet<String> = tests_in("tests/it")
        .into_iter()
        .chain(tests_in("src"))
        .collect();
    let mut wrong = Vec::new();
    let variables = words(SHOWN).into_iter();
    let variables = variables.map(|(name, test)| (format!("RUSTACCIO_{name}"), name, test));
    let keys = in_files::rows().map(|(_, key, test)| (in_files::written(key), key, test));
    for (whole, name, test) in variables.chain(keys) {
        if !tests.contains(test) {
            wrong.push(format!("{name}: there is no test `{test}`"));
            continue;
        }
        let text = file_of(test).unwrap_or_default();
        let short = format!("\"{name}\"");
        let quoted = [format!("\"{whole}\""), short, whole.clone()];
        // `upstream_allowed_origins` in a file.
        let in_file = format!("{}:", name.to_ascii_lowercase());
        if !quoted
            .iter()
            .chain([&in_file])
            .any(|named| text.contains(named))
        {
            wrong.push(format!("{name}: the file of `{test}` does not name it"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

mod both_ways;
mod in_files;

/// Names that older versions had, which mean nothing here: they are taken, with a warning where they are
/// set to something, and wrong values are not.
#[test]
fn what_changes_nothing_is_taken() {
    for (name, default) in [
        ("RUSTACCIO_PACKAGE_CACHE_MAX_ENTRIES", "5000"),
        ("RUSTACCIO_PACKAGE_CACHE_PRUNE_INTERVAL_SECS", "30"),
    ] {
        let config = super::load(&[(name, default)]);
        super::check_fine(&config);
        super::check_warnings(&config, &[]);
        let config = super::load(&[(name, "7")]);
        super::check_fine(&config);
        super::check_warnings(&config, &["does nothing any more"]);
        super::check_problem(&super::load(&[(name, "many")]), &[name, "whole number"]);
    }
    let authority = "RUSTACCIO_PACKAGE_METADATA_AUTHORITY";
    let config = super::load(&[(authority, "sidecar-authoritative")]);
    super::check_fine(&config);
    super::check_warnings(&config, &[]);
    super::check_problem(
        &super::load(&[(authority, "both")]),
        &[authority, "sidecar"],
    );
}
