//! The same for keys that only files have: those that a reader knows, and no others.

use rustaccio::config::FILE_KEYS;

/// What only a file has: in which map, the keys, and the test that shows what they do.
const IN_FILES: &[(&str, &str, &str)] = &[
    ("", "packages", "reading::rules_decide_who_reads"),
    ("", "uplinks", "proxies::an_uplink_has_a_proxy_of_its_own"),
    ("", "notify", "notify::the_documented_examples_work"),
    (
        "",
        "notifications",
        "notify::one_hook_alone_is_told_of_the_packages_of_its_pattern",
    ),
    (
        "",
        "http_proxy no_proxy",
        "proxies::uplinks_without_a_proxy_have_the_files",
    ),
    ("", "https_proxy", "proxies::tls_goes_through_a_tunnel"),
    ("", "log logs", "config::keys::a_log_may_be_a_list"),
    (
        "",
        "auth store middlewares filters",
        "config::plugins_of_verdaccio_are_refused_by_name",
    ),
    (
        "uplinks",
        "url http_proxy no_proxy",
        "proxies::an_uplink_has_a_proxy_of_its_own",
    ),
    (
        "uplinks",
        "https_proxy",
        "proxies::tls_goes_through_a_tunnel",
    ),
    (
        "uplinks",
        "timeout",
        "patience::an_uplink_may_be_as_late_as_its_key_says",
    ),
    (
        "uplinks",
        "maxage",
        "upstream::an_old_document_is_asked_about_and_not_fetched_again",
    ),
    (
        "uplinks",
        "max_fails",
        "config::keys::an_uplink_may_fail_as_often_as_it_shall",
    ),
    (
        "uplinks",
        "fail_timeout",
        "config::keys::an_uplink_that_failed_is_asked_again_when_it_shall",
    ),
    (
        "uplinks",
        "cache",
        "cache::an_uplink_may_have_none_for_its_tarballs",
    ),
    (
        "uplinks",
        "strict_ssl ca",
        "upstream::certificates_are_checked_as_the_uplink_says",
    ),
    (
        "uplinks",
        "headers auth",
        "upstream::credentials_go_to_the_uplink_alone",
    ),
    (
        "uplinks",
        "agent_options retry publish",
        "config::uplinks::keys_of_uplinks_are_used_or_pointed_out",
    ),
    (
        "agent_options",
        "keep_alive max_free_sockets",
        "config::uplinks::keys_of_uplinks_are_used_or_pointed_out",
    ),
    (
        "auth",
        "type token token_env",
        "config::keys::tokens_of_uplinks_may_be_in_the_environment",
    ),
    (
        "packages",
        "access publish",
        "reading::rules_decide_who_reads",
    ),
    (
        "packages",
        "allow_access allow_publish proxy_access",
        "config::keys::rights_have_older_names_too",
    ),
    (
        "packages",
        "unpublish",
        "unpublishing::unpublishing_needs_its_own_permission",
    ),
    (
        "packages",
        "proxy",
        "upstream::uplinks_are_asked_in_order_and_a_failure_ends_the_search",
    ),
    (
        "packages",
        "merge",
        "upstream::a_rule_may_overrule_where_a_name_was_born",
    ),
    (
        "packages",
        "storage",
        "config::all_problems_are_told_at_once_with_their_source",
    ),
    (
        "notify",
        "endpoint method headers content package_pattern package_pattern_flags",
        "notify::one_hook_alone_is_told_of_the_packages_of_its_pattern",
    ),
];

/// Maps, keys and tests, a key a row.
pub(super) fn rows() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let rows = IN_FILES.iter();
    rows.flat_map(|&(map, keys, test)| keys.split(' ').map(move |key| (map, key, test)))
}

/// `packagePattern:` as it stands in files of Verdaccio.
pub(super) fn written(key: &str) -> String {
    let mut words = key.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    let key = words.fold(first, |text, word| {
        let (start, rest) = word.split_at(1);
        text + &start.to_uppercase() + rest
    });
    key + ":"
}

/// Each key that a reader knows, once.
#[test]
fn every_key_of_files_is_shown_by_a_test() {
    let mut shown: Vec<_> = rows().map(|(map, key, _)| (map, key)).collect();
    let maps = FILE_KEYS.iter();
    let known = maps.flat_map(|(map, keys)| keys.iter().map(|key| (*map, *key)));
    let mut known: Vec<_> = known.collect();
    shown.sort_unstable();
    known.sort_unstable();
    assert_eq!(shown, known);
}
