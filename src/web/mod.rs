//! Floor 8: HTTP. This file is the table of all routes.
//!
//! A request meets `layers::Around` first, which brings its path into one form, so that a
//! package is one segment here whatever the client wrote. Who may do what is decided by the use
//! cases; a handler asks for a `Visitor` (bad credentials make an anonymous caller), an `Actor`
//! (bad credentials are refused), a `User` (signed in) or a `FullActor` (signed in, without limits).

mod access;
mod admin;
mod audit;
#[doc(hidden)]
pub mod bench;
mod bootstrap;
mod dist_tags;
mod error;
mod extract;
#[doc(hidden)]
pub mod fuzz;
mod governed;
mod health;
mod layers;
mod login;
mod metrics;
mod normalize;
mod organisations;
mod packages;
mod pages;
mod profile;
mod recorded;
mod redact;
mod respond;
mod search;
mod signatures;
mod stars;
mod state;
mod tokens;
mod users;
mod verdaccio;
mod watched;

use axum::{
    Router,
    routing::{any, delete, get, post, put},
};

pub use layers::Around;
use metrics::{Counting, Table};
pub use state::{WebParts, WebSettings, WebState};

use crate::error::RegistryError;

/// All routes, to be served alone.
pub fn service(state: WebState) -> Around {
    // Paths must be canonical before they are matched, so this stands around the routing.
    let (routes, counting) = routes(state.clone());
    Around::new(state, routes, counting)
}

/// All routes, to be nested in another router.
pub fn router(state: WebState) -> Router {
    Router::new().fallback_service(service(state))
}

#[rustfmt::skip]
fn routes(state: WebState) -> (Router, Counting) {
    let (has_pages, has_logins) = (state.settings.has_pages, state.settings.has_local_logins);
    let has_page_logins = has_pages && state.settings.has_page_logins;
    let table = if has_logins { logins(Table::new()) } else { Table::new() };
    let table = if has_pages { data_of_pages(table) } else { table };
    let table = if has_page_logins { logins_of_pages(table) } else { table };
    let table = table
        .route("/", get(health::root))
        .route("/favicon.ico", get(not_found))
        .route("/-/ping", get(health::ping))
        .route("/-/health/live", get(health::live))
        .route("/-/health/ready", get(health::ready))
        // Accounts
        .route("/-/whoami", get(users::whoami))
        // Organisations and teams
        .route("/-/org/{organisation}/user", get(organisations::members).put(organisations::set_member).delete(organisations::remove_member))
        .route("/-/org/{organisation}/team", get(organisations::teams).put(organisations::create_team))
        .route("/-/org/{text}/package", get(access::packages_of_organisation))
        .route("/-/team/{organisation}/{team}", delete(organisations::destroy_team))
        .route("/-/team/{organisation}/{team}/user", get(organisations::team_members).put(organisations::add_to_team).delete(organisations::remove_from_team))
        .route("/-/team/{organisation}/{team}/package", get(access::packages_of_team).put(access::grant).delete(access::revoke))
        .route("/-/user/{text}/package", get(access::packages_of_user))
        .route("/-/-/package", get(access::own_packages))
        // Who may use a package
        .route("/-/package/{package}/access", get(access::show).post(access::change))
        .route("/-/package/{package}/visibility", get(access::visibility))
        .route("/-/package/{package}/collaborators", get(access::collaborators))
        .route("/-/package/{package}/owners", get(access::owners).put(access::add_owner))
        .route("/-/package/{package}/owners/{text}", delete(access::remove_owner))
        // Stars
        .route("/-/_view/starredByUser", get(stars::view))
        .route("/-/user/v1/star", get(stars::own).put(stars::add).delete(stars::remove))
        .route("/-/user/package/{package}/star", put(stars::add_to_package).delete(stars::remove_from_package))
        .route("/-/user/{text}/stars", get(stars::of_user))
        .route("/-/util/user/{text}/stars", get(stars::of_user))
        // Audits and signatures
        .route("/-/npm/v1/security/advisories/bulk", post(audit::bulk))
        .route("/-/npm/v1/security/audits/quick", post(audit::quick))
        .route("/-/npm/v1/security/audits", post(audit::full))
        .route("/-/npm/v1/keys", get(signatures::keys))
        .route("/-/npm/v1/attestations/{text}", get(signatures::attestations))
        // Setting clients up
        .route("/-/npm/v1/bootstrap", get(bootstrap::bootstrap))
        // Operating
        .route("/-/admin/package-cache/invalidate", post(admin::invalidate_package))
        .route("/-/admin/policy-cache/invalidate", post(admin::invalidate_policy))
        .route("/-/admin/reindex", post(admin::reindex))
        .route("/-/admin/storage-health", get(admin::storage_health))
        // Finding packages
        .route("/-/v1/search", get(search::search))
        .route("/-/all", get(search::all))
        .route("/-/all/since", get(search::all))
        // Dist-tags
        .route("/-/package/{package}/dist-tags", get(dist_tags::list).put(dist_tags::replace).post(dist_tags::merge))
        .route("/-/package/{package}/dist-tags/{text}", get(dist_tags::show).put(dist_tags::set).post(dist_tags::set).delete(dist_tags::remove))
        // Pages
        .route("/-/web", get(pages::home))
        .route("/-/web/cached", get(pages::cached))
        .route("/-/web/admin", get(pages::admin))
        .route("/-/web/admin/reindex", post(pages::reindex))
        .route("/-/web/admin/storage-health", post(pages::storage_health))
        .route("/-/web/static/{text}", get(pages::asset))
        .route("/-/web/theme", post(pages::set_theme))
        .route("/-/web/detail/{package}", get(pages::latest))
        .route("/-/web/detail/{package}/v/{version}", get(pages::version))
        .route("/-/web/raw/{package}/{version}", get(pages::raw))
        .route("/-/web/tarball/{package}/{file}", get(pages::tarball))
        .route("/-", any(not_found))
        .route("/-/{*rest}", any(not_found))
        // Packages
        .route("/{package}", get(packages::packument).put(packages::put))
        .route("/{package}/-rev/{text}", put(packages::put_revision).delete(packages::unpublish))
        .route("/{package}/-/{file}", get(packages::tarball))
        .route("/{package}/-/{file}/-rev/{text}", delete(packages::unpublish_tarball))
        .route("/{package}/{version}", get(packages::version).put(packages::set_tag));
    let (router, counting) = table.finish(&state);
    let router = router.method_not_allowed_fallback(not_allowed);
    let router = router.fallback(not_found);
    (router.with_state(state), counting)
}

/// What there is only while users sign in here.
#[rustfmt::skip]
fn logins(table: Table) -> Table {
    table
        .route("/-/user/{text}", get(users::show).put(users::sign_in))
        .route("/-/user/{text}/-rev/{rev}", put(users::sign_in))
        .route("/-/user/token/{text}", delete(users::sign_out))
        .route("/-/npm/v1/user", get(profile::show).post(profile::change))
        .route("/-/npm/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/-/npm/v1/tokens/token/{text}", delete(tokens::revoke))
        .route("/-/v1/login", post(login::begin))
        .route("/-/v1/login_cli/{text}", post(login::answer))
        .route("/-/v1/done/{text}", any(login::done))
        .route("/-/web/login", get(login::page).post(pages::sign_in))
        .route("/-/web/logout", post(pages::sign_out))
        .route("/-/web/settings", get(pages::settings))
        .route("/-/web/settings/password", post(pages::change_password))
        .route("/-/web/settings/tokens", post(pages::create_token))
        .route("/-/web/settings/tokens/revoke", post(pages::revoke_token))
        .route("/-/web/settings/second-factor", post(pages::change_second_factor))
}

/// What Verdaccio's pages read; as there, only while there are pages.
#[rustfmt::skip]
fn data_of_pages(table: Table) -> Table {
    table
        .route("/-/verdaccio/data/packages", get(verdaccio::packages))
        .route("/-/verdaccio/data/search/{text}", get(verdaccio::search))
        .route("/-/verdaccio/data/sidebar/{package}", get(verdaccio::sidebar))
        .route("/-/verdaccio/data/package/readme/{package}", get(verdaccio::readme))
        .route("/-/verdaccio/data/package/readme/{package}/{version}", get(verdaccio::readme_of_version))
}

/// What they send.
#[rustfmt::skip]
fn logins_of_pages(table: Table) -> Table {
    table
        .route("/-/verdaccio/sec/login", post(verdaccio::sign_in))
        .route("/-/verdaccio/sec/signup", put(verdaccio::sign_up))
        .route("/-/verdaccio/sec/reset_password", put(verdaccio::change_password))
}

async fn not_found() -> error::Error {
    RegistryError::not_found("not found").into()
}

async fn not_allowed() -> error::Error {
    RegistryError::MethodNotAllowed.into()
}
