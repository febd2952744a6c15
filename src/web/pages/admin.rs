//! `/-/web/admin`: what an administrator sees of a registry that runs, and what she begins.

mod trail;
mod view;

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use super::{
    text::{line, moment, size},
    visit::{Sent, Shell, Visit},
};
use crate::{
    admin::{Overview, UsersPage},
    error::RegistryError,
    models::Caller,
    web::extract::Query,
};
use trail::TrailRow;
use view::{Bounds, Cache, ReindexView, StorageView, UplinkRow, Work};

/// A form without fields of its own.
#[derive(Deserialize)]
pub(in crate::web) struct Pressed {}

#[derive(Template)]
#[template(path = "admin.html")]
struct AdminPage<'a> {
    shell: &'a Shell,
    /// Why nothing was begun.
    problem: Option<String>,
    /// Whether she may begin something, and not only look.
    may_change: bool,
    storage: Result<(), String>,
    report: Work<StorageView>,
    reindexing: Work<ReindexView>,
    uplinks: Vec<UplinkRow>,
    bounds: Bounds,
    cache: Vec<Cache>,
    users: Result<Users, String>,
    are_users_elsewhere: bool,
    trail: Option<Result<Vec<TrailRow>, String>>,
}

/// Some users, and where there are more.
struct Users {
    rows: Vec<UserRow>,
    count: usize,
    more: Option<String>,
}

struct UserRow {
    name: String,
    created: String,
    has_second_factor: bool,
}

/// `GET /-/web/admin?users=…`
pub(in crate::web) async fn admin(visit: Visit, query: Query) -> Response {
    show(&visit, query.get("users"), None).await
}

/// `POST /-/web/admin/reindex`
pub(in crate::web) async fn reindex(Sent(visit, form): Sent<Pressed>) -> Response {
    let administration = &visit.state.administration;
    let begun = form.and_then(|Pressed {}| administration.reindex_in_background(&visit.caller));
    after(&visit, begun, "reindex").await
}

/// `POST /-/web/admin/storage-health`
pub(in crate::web) async fn storage_health(Sent(visit, form): Sent<Pressed>) -> Response {
    let administration = &visit.state.administration;
    let begun = form.and_then(|Pressed {}| administration.report_in_background(&visit.caller));
    after(&visit, begun, "storage").await
}

/// Shows how far what was begun is; or why it was not.
async fn after(visit: &Visit, begun: Result<(), RegistryError>, part: &str) -> Response {
    match begun {
        Ok(()) => visit.go_to(&format!("{}/-/web/admin#{part}", visit.shell.prefix)),
        // It is under way already, which the page shows.
        Err(error) if error.status() == StatusCode::CONFLICT => {
            show(visit, None, Some(error)).await
        }
        Err(error) => visit.refuse(&error),
    }
}

async fn show(
    visit: &Visit,
    users_after: Option<&str>,
    problem: Option<RegistryError>,
) -> Response {
    let administration = &visit.state.administration;
    // In a box: it is large.
    let overview = Box::pin(administration.overview(&visit.caller, users_after)).await;
    match overview {
        Ok(overview) => {
            let status = problem
                .as_ref()
                .map_or(StatusCode::OK, RegistryError::status);
            let may_change = may_change(visit, &visit.caller);
            let problem = problem.map(|error| error.to_string());
            visit.render(status, &page(&visit.shell, overview, may_change, problem))
        }
        Err(error) => visit.refuse(&error),
    }
}

fn may_change(visit: &Visit, caller: &Caller) -> bool {
    visit.state.administration.require(caller).is_ok()
}

fn page(
    shell: &Shell,
    overview: Overview,
    may_change: bool,
    problem: Option<String>,
) -> AdminPage<'_> {
    let Overview {
        storage,
        report,
        reindexing,
        uplinks,
        cache,
        users,
        are_users_elsewhere,
        trail,
    } = overview;
    let bounds = Bounds::of(&cache);
    AdminPage {
        shell,
        problem,
        may_change,
        storage: storage.map_err(|error| error.to_string()),
        report: Work::of(report),
        reindexing: Work::of(reindexing),
        uplinks: uplinks.iter().map(UplinkRow::of).collect(),
        bounds,
        cache: Cache::all(cache),
        users: users
            .map(|page| users_of(shell, page))
            .map_err(|error| error.to_string()),
        are_users_elsewhere,
        trail: trail.map(|lines| {
            let lines = lines?;
            Ok(lines.iter().map(|line| TrailRow::of(line)).collect())
        }),
    }
}

fn users_of(shell: &Shell, page: UsersPage) -> Users {
    let more = page.more.map(|last| {
        let last: String = url::form_urlencoded::byte_serialize(last.as_bytes()).collect();
        format!("{}/-/web/admin?users={last}#users", shell.prefix)
    });
    let rows = page.users.into_iter().map(|user| UserRow {
        name: line(&user.name, 214),
        created: user.created.day().to_string(),
        has_second_factor: user.has_second_factor,
    });
    Users {
        rows: rows.collect(),
        count: page.count,
        more,
    }
}
