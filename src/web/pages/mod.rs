//! What people see in a browser. Pages are made here, work without scripts, and load nothing from elsewhere; who may
//! see what is decided by the same use cases as for clients.

mod admin;
mod assets;
mod cached;
mod home;
mod language;
mod package;
mod session;
mod settings;
mod sign_in;
mod text;
mod visit;

pub(super) use admin::{admin, reindex, storage_health};
pub(super) use assets::asset;
pub(super) use cached::cached;
pub(super) use home::home;
pub(super) use package::{latest, raw, version};
pub(super) use session::{is_page, path_of, token};
pub(super) use settings::{
    change_password, change_second_factor, create_token, revoke_token, settings,
};
pub(super) use sign_in::{set_theme, sign_in, sign_in_page, sign_out};
pub(super) use visit::{Shell, Visit};

use axum::response::Response;

use super::extract::{FileName, Package};

/// The version of this program.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `GET /-/web/tarball/:package/:file`: the tarball, for browsers that are signed in.
pub(super) async fn tarball(
    Package(name): Package,
    FileName(file): FileName,
    visit: Visit,
) -> Response {
    let (headers, caller) = (&visit.headers, &visit.caller);
    let has = |etag: &str| super::respond::has(headers, etag);
    let tarball = visit
        .state
        .registry
        .tarball(caller, &name, &file, has)
        .await;
    let response = tarball
        .and_then(|tarball| super::respond::tarball(headers, caller.is_anonymous(), tarball));
    response.unwrap_or_else(|error| visit.refuse(&error))
}
