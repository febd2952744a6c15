//! `/-/npm/v1/user`: what a user tells about herself, and her password.

use axum::{extract::State, response::Response};
use http::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    error::Error,
    extract::{FullActor, Json, User},
    respond,
    state::WebState,
};
use crate::{error::RegistryError, models::Username, storage::Profile};

/// A change; of a field that is not there nothing changes.
#[derive(Deserialize)]
pub(super) struct Change {
    password: Option<PasswordChange>,
    tfa: Option<Value>,
    email: Option<String>,
    fullname: Option<String>,
    homepage: Option<String>,
    freenode: Option<String>,
    twitter: Option<String>,
    github: Option<String>,
}

#[derive(Deserialize)]
struct PasswordChange {
    old: Option<SecretString>,
    new: Option<SecretString>,
}

pub(super) async fn show(State(state): State<WebState>, user: User) -> Result<Response, Error> {
    Ok(profile(&state, &user.name))
}

pub(super) async fn change(
    State(state): State<WebState>,
    actor: FullActor,
    Json(change): Json<Change>,
) -> Result<Response, Error> {
    if change.tfa.as_ref().is_some_and(|tfa| !tfa.is_null()) {
        return Err(Error(RegistryError::Unavailable {
            message: "the two-factor authentication is not yet supported".to_owned(),
        }));
    }
    let name = &actor.name;
    if let Some(password) = change.password {
        let missing = |what| RegistryError::bad_request(format!("{what} password is required"));
        let old = password.old.ok_or_else(|| missing("old"))?;
        let new = password.new.ok_or_else(|| missing("new"))?;
        let address = actor.caller.address;
        state
            .auth
            .change_password(name, &old, &new, address)
            .await?;
        return Ok(profile(&state, name));
    }
    let before = state.auth.user(name).map(|user| user.profile.clone());
    let before = before.unwrap_or_default();
    let after = Profile {
        email: change.email.unwrap_or_else(|| before.email.clone()),
        fullname: change.fullname.unwrap_or_else(|| before.fullname.clone()),
        homepage: change.homepage.unwrap_or_else(|| before.homepage.clone()),
        freenode: change.freenode.unwrap_or_else(|| before.freenode.clone()),
        twitter: change.twitter.unwrap_or_else(|| before.twitter.clone()),
        github: change.github.unwrap_or_else(|| before.github.clone()),
    };
    if after == before {
        return Err(RegistryError::bad_request("the parameters are not valid").into());
    }
    state.auth.set_profile(name, after).await?;
    Ok(profile(&state, name))
}

fn profile(state: &WebState, name: &Username) -> Response {
    let user = state.auth.user(name);
    let profile = user.as_ref().map(|user| user.profile.clone());
    let profile = profile.unwrap_or_default();
    let time = |time: Option<String>| time.unwrap_or_default();
    let body = json!({
        "tfa": false,
        "name": name.as_str(),
        "email": profile.email,
        "email_verified": false,
        "created": time(user.as_ref().map(|user| user.created.to_string())),
        "updated": time(user.as_ref().map(|user| user.updated.unwrap_or(user.created).to_string())),
        "cidr_whitelist": null,
        "fullname": profile.fullname,
        "homepage": profile.homepage,
        "freenode": profile.freenode,
        "twitter": profile.twitter,
        "github": profile.github,
    });
    respond::json(StatusCode::OK, &body)
}
