//! What users meet is the same wherever it is stored: tests of other files, run once more on each
//! backend.

use std::{fs, path::Path};

use reqwest::Method;

use crate::support::{
    Package, Registry,
    backend::{Backend, on},
    registry::Start,
};

/// Those that look into the folder, or change something there by hand; long ones that are about
/// upstream alone; and one that `nodes.rs` does with processes.
const ONLY_IN_A_FOLDER: &[&str] = &[
    "protocol_reads::a_document_of_thousands_of_versions_is_right_in_every_form",
    "search::equal_searches_are_one_question_which_outlives_those_who_wait",
    "search::a_search_that_fails_late_counts_as_a_failure",
    "concurrency::fifty_clients_follow_one_download_and_most_hang_up",
    "concurrency::writers_of_one_package_never_lose_each_others_versions",
    "publishing::a_lost_manifest_is_rebuilt_at_start",
    "reading::with_a_ttl_an_edit_from_outside_waits_and_one_of_ours_does_not",
    "reading::an_edit_from_outside_shows_at_once",
    "access::whoever_has_the_key_locks_and_unlocks",
    "access::a_token_without_second_factor_does_not_unlock",
    "fsck::damage_is_found_and_repaired",
    "fsck::every_manifest_that_is_rebuilt_is_counted",
    "administration::what_another_node_published_is_there_when_it_is_asked_for",
    "administration::whoever_is_signed_in_administers_only_where_that_is_said",
    "administration::closed_registration_makes_everybody_an_administrator_unless_told",
    "administration::groups_administer_where_they_are_named",
    "downloads::a_short_one_is_read_once",
    "downloads::whoever_has_it_is_told_so_without_a_look_at_it",
    "downloads::damage_of_a_hosted_one_is_a_failure",
    "downloads::a_long_one_that_shrinks_while_it_is_read_breaks_off",
    "web_login::a_second_factor_is_shown_in_the_browser",
    "second_factor::seeds_without_their_key_stop_the_start",
    "signatures::a_key_that_was_replaced_stays_among_the_keys",
];

macro_rules! on_every_backend {
    ($($module:ident: $($test:ident),+;)+) => {
        const CHOSEN: &[&str] = &[$($(concat!(stringify!($module), "::", stringify!($test))),+),+];

        on_every_backend!(@ bucket, Bucket, $($module: $($test),+;)+);
        on_every_backend!(@ bucket_and_database, BucketAndDatabase, $($module: $($test),+;)+);
        on_every_backend!(@ folder_and_database, FolderAndDatabase, $($module: $($test),+;)+);
    };
    (@ $name:ident, $backend:ident, $($module:ident: $($test:ident),+;)+) => {
        mod $name {
            $(mod $module {
                $(#[test]
                fn $test() {
                    crate::backends::on(crate::backends::Backend::$backend, crate::$module::$test);
                })+
            })+
        }
    };
}

// Other clouds differ in how objects are read and written, so a few are enough for them.
on_every_backend!(@ azure, Azure,
    accounts: accounts_survive_a_restart_and_keep_no_secret;
    concurrency: one_of_many_publishers_of_one_version_wins;
    publishing: a_version_is_published_once, dist_tags_are_set_and_removed_on_both_routes,
        what_was_published_comes_back_byte_for_byte;
    reading: a_client_that_has_it_gets_nothing, search_pages_and_counts, tarballs_come_in_parts;
    tokens: tokens_are_made_listed_and_revoked;
    unpublishing: unpublishing_a_package_leaves_only_its_name, unpublishing_a_version_as_npm_does;
);

on_every_backend!(@ gcs, Gcs,
    accounts: accounts_survive_a_restart_and_keep_no_secret;
    concurrency: one_of_many_publishers_of_one_version_wins;
    publishing: a_version_is_published_once, dist_tags_are_set_and_removed_on_both_routes,
        what_was_published_comes_back_byte_for_byte;
    reading: a_client_that_has_it_gets_nothing, search_pages_and_counts, tarballs_come_in_parts;
    tokens: tokens_are_made_listed_and_revoked;
    unpublishing: unpublishing_a_package_leaves_only_its_name, unpublishing_a_version_as_npm_does;
);

on_every_backend! {
    publishing:
        what_was_published_comes_back_byte_for_byte,
        a_version_is_published_once,
        a_retry_of_the_same_client_is_no_conflict,
        tags_go_where_they_were_sent,
        dist_tags_are_set_and_removed_on_both_routes,
        deprecation_changes_nothing_else,
        metadata_alone_makes_no_version_and_removes_none,
        stars_are_personal_and_owners_are_many,
        only_owners_change_a_package_where_that_is_wanted,
        strict_revisions_are_compared_on_every_change,
        a_publish_that_does_not_add_up_is_refused_and_leaves_nothing,
        a_compressed_body_is_a_body,
        bodies_have_a_limit,
        nobody_publishes_without_permission;
    unpublishing:
        unpublishing_a_version_as_npm_does,
        a_partial_unpublish_needs_the_current_revision,
        unpublishing_a_package_leaves_only_its_name,
        unpublished_versions_stay_away_where_they_must,
        unpublishing_needs_its_own_permission;
    protocol_writes:
        older_clients_merge_their_version_into_what_is_there,
        what_is_stored_of_a_version_is_ours,
        editors_see_what_they_edit,
        a_deprecation_shows_and_goes_in_the_abbreviated_form_too,
        what_comes_from_upstream_is_changed_there,
        a_name_that_was_ours_is_not_looked_for_upstream,
        new_names_are_not_those_of_nodes_own_modules,
        build_metadata_makes_no_other_version,
        all_dist_tags_are_set_at_once,
        a_refused_body_is_read_before_the_answer,
        a_body_that_is_not_sent_yet_is_not_waited_for;
    protocol_reads:
        four_spellings_of_a_name_give_one_document,
        the_abbreviated_form_has_all_that_an_install_reads,
        install_scripts_are_marked_where_there_are_any,
        version_documents_are_signed,
        deprecations_show_in_every_form,
        legacy_names_are_read_and_kept_apart,
        time_is_complete,
        one_dist_tag_is_shown_alone,
        a_publish_shows_at_once_in_every_form;
    protocol_http:
        documents_for_two_addresses_do_not_mix,
        tarballs_have_no_coding_and_an_exact_length,
        every_representation_has_its_own_validators,
        head_is_get_without_a_body_on_every_route,
        every_answer_says_how_long_it_may_be_kept,
        no_accept_header_is_unacceptable,
        small_addresses_answer_as_tools_expect,
        what_is_not_built_is_not_found_in_json,
        nobody_writes_into_the_notice_of_others;
    reading:
        every_spelling_of_a_scoped_name_is_the_same,
        both_forms_have_their_exact_types,
        a_client_that_has_it_gets_nothing,
        bodies_come_in_the_coding_that_was_asked_for,
        what_many_ask_for_is_compressed_better,
        head_is_get_without_its_body,
        tarballs_come_in_parts,
        what_is_not_there_says_so_in_json,
        tarball_addresses_are_those_that_the_client_uses,
        a_visitor_cannot_put_words_into_documents,
        a_public_url_overrules_everything,
        rules_decide_who_reads,
        search_pages_and_counts,
        requests_have_names_and_answers_have_guards;
    search:
        pages_of_all_sources_add_up,
        qualifiers_that_are_not_known_here_change_nothing,
        hits_of_upstream_have_maintainers;
    stars:
        pnpm_says_the_name_twice,
        all_listings_of_stars_agree;
    tokens:
        tokens_are_made_listed_and_revoked,
        a_token_is_revoked_by_its_key_its_beginning_and_itself,
        a_token_ends_when_it_shall,
        a_wish_for_limits_never_makes_a_token_without,
        a_limited_token_reads_what_anybody_may,
        a_limited_token_finds_nothing_restricted,
        a_limited_token_changes_no_organisation,
        limits_of_tokens_hold;
    accounts:
        an_account_is_made_once_and_signed_in_to_at_once,
        names_that_mean_something_cannot_be_registered,
        registration_can_be_closed,
        whoami_and_logout,
        a_stale_token_reads_what_anybody_may_and_is_told_why,
        basic_credentials_work_everywhere,
        a_new_password_ends_all_logins,
        a_login_that_a_new_password_overtakes_is_none,
        accounts_survive_a_restart_and_keep_no_secret,
        failed_logins_are_slowed_down_and_the_right_one_passes_afterwards,
        guesses_at_once_count_one_by_one_and_right_passwords_do_not,
        logins_end_in_time_and_are_forgotten,
        logins_last_for_ever_where_they_may_and_very_long_where_they_are_told,
        a_new_password_counts_at_once_for_basic_credentials,
        there_are_no_more_users_than_allowed,
        couch_s_second_request_says_what_the_first_one_said,
        clients_go_on_without_a_browser_where_that_is_off,
        an_embedder_s_users_are_in_teams_too,
        changes_of_a_profile_at_once_are_all_there;
    access:
        a_publish_changes_access_where_its_user_asked_for_it,
        a_grant_outlives_a_publish,
        the_two_encodings_are_one_package,
        collaborators_have_the_shape_that_each_client_reads,
        what_is_no_organisation_may_be_a_user,
        nobody_locks_a_package_without_a_key,
        a_hidden_package_and_a_missing_one_sound_alike;
    operators:
        an_operator_makes_accounts_and_lists_them,
        what_cannot_be_an_account_is_refused_with_what_to_do,
        a_disabled_user_is_nobody_until_she_is_enabled,
        another_password_ends_logins_and_no_other_tokens,
        tokens_are_made_listed_and_revoked_without_a_password,
        all_tokens_of_a_user_are_revoked_at_once,
        what_can_be_no_token_is_refused_with_what_to_do;
    organisations:
        nobody_lets_herself_in,
        roles_say_who_changes_whom,
        limited_tokens_change_no_organisation,
        everybody_being_an_administrator_is_not_enough,
        the_last_member_may_leave;
    concurrency:
        one_of_many_publishers_of_one_version_wins,
        two_hundred_register_at_once,
        publishing_unpublishing_and_reading_at_once_never_shows_half_of_it,
        twenty_who_ask_for_a_cold_document_cost_one_question,
        twenty_who_ask_after_a_restart_cost_one_reading;
    administration:
        what_is_remembered_of_a_package_can_be_forgotten;
    downloads:
        one_that_is_read_from_disk_stays_in_memory,
        what_is_unpublished_is_gone_from_memory_too,
        a_damaged_one_of_upstream_is_fetched_again,
        who_comes_late_catches_up_with_those_who_follow;
    web_login:
        a_client_waits_until_somebody_has_signed_in,
        done_is_asked_by_any_method,
        the_page_is_not_enough_to_fetch_a_token,
        a_login_ends_in_time,
        the_page_says_who_asks_and_a_client_cannot_hide_it,
        strangers_cannot_use_up_the_room_and_write_nothing,
        the_page_makes_accounts_where_visitors_may,
        the_page_makes_no_accounts_where_visitors_may_not,
        without_web_login_clients_ask_in_the_terminal;
    second_factor:
        a_second_factor_is_turned_on_changed_and_turned_off,
        whoever_shows_a_code_first_may_show_it_again,
        a_login_takes_a_code_whatever_else_the_request_shows,
        a_recovery_code_lasts_for_one_command,
        a_recovery_code_serves_requests_at_once,
        a_stale_pass_is_in_nobody_s_way,
        passes_that_are_guessed_at_once_count_one_by_one,
        a_long_upload_does_not_make_a_code_too_late,
        a_token_may_do_without_for_packages_alone,
        a_password_alone_is_not_enough,
        a_change_of_the_account_wants_it_in_both_modes,
        the_first_code_cannot_be_guessed;
    signatures:
        readers_do_not_wait_for_keys,
        an_uplink_whose_keys_cannot_be_had_is_not_asked_by_every_reader,
        the_keys_are_ours_and_those_of_all_uplinks,
        keys_outlive_the_uplink_that_had_them,
        what_a_mirror_without_keys_passes_on_stays_as_it_is,
        provenance_is_kept_and_served,
        attestations_of_upstream_pass_through,
        attestations_do_not_tell_what_is_restricted;
    errors:
        every_error_has_its_shape,
        errors_of_upstream_name_nothing_of_ours;
}

/// A package with a small and a large tarball is there after a restart, in every cloud, and can be
/// taken away then.
async fn outlives_the_process() {
    let registry = Registry::alone().await;
    let alice = registry.user("alice").await;
    let small = Package::new("@team/app", "1.0.0");
    let large = Package::heavy("@team/app", "2.0.0", 11 * 1024 * 1024);
    for package in [&small, &large] {
        registry.publish(&alice, package).await.assert(201);
    }
    let registry = Registry::with(Start {
        folder: Some(registry.stop().await),
        ..Start::default()
    })
    .await;
    let shown = registry.get("/@team%2fapp").await.assert(200).json();
    assert_eq!(shown["versions"].as_object().unwrap().len(), 2);
    for package in [&small, &large] {
        let tarball = registry.tarball(package).await.assert(200);
        assert!(tarball.body == package.tarball, "other bytes");
    }
    let path = format!("/@team/app/-/{}", large.file());
    let part = registry.request(Method::GET, &path);
    let part = part.header("range", "bytes=6000000-6000999");
    let part = registry.send(part).await.assert(206);
    assert_eq!(part.body, large.tarball[6_000_000..6_001_000]);
    let removed = registry.delete(&alice, "/@team%2fapp/-rev/any").await;
    removed.assert(201);
    let registry = Registry::with(Start {
        folder: Some(registry.stop().await),
        ..Start::default()
    })
    .await;
    registry.get("/@team%2fapp").await.assert(404);
    registry.tarball(&large).await.assert(404);
    registry.publish(&alice, &large).await.assert(201);
    let tarball = registry.tarball(&large).await.assert(200);
    assert!(tarball.body == large.tarball, "other bytes");
}

#[test]
fn what_is_stored_outlives_the_process() {
    for backend in [
        Backend::Bucket,
        Backend::Azure,
        Backend::Gcs,
        Backend::BucketAndDatabase,
        Backend::FolderAndDatabase,
    ] {
        on(backend, || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(outlives_the_process());
        });
    }
}

/// A test that is new is run on every backend too, unless somebody has said why not.
#[test]
fn no_test_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let mut modules: Vec<&str> = CHOSEN
        .iter()
        .filter_map(|test| Some(test.split_once("::")?.0))
        .collect();
    modules.dedup();
    for module in modules {
        let text = fs::read_to_string(folder.join(format!("{module}.rs"))).unwrap();
        for part in text.split("\n#[tokio::test").skip(1) {
            let name = part
                .split_once(" fn ")
                .unwrap()
                .1
                .split_once('(')
                .unwrap()
                .0;
            let test = format!("{module}::{name}");
            let is_known = |list: &[&str]| list.contains(&test.as_str());
            assert!(is_known(CHOSEN) != is_known(ONLY_IN_A_FOLDER), "{test}");
        }
    }
}
