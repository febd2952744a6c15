//! Registering, signing in and out, and who one is.

use axum::{extract::State, response::Response};
use http::{HeaderMap, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use super::{
    error::Error,
    extract::{Actor, Json, PathText, Visitor, one_time_pass},
    respond,
    state::WebState,
};
use crate::{
    auth::{LoggedIn, Sender},
    error::RegistryError,
    events::Event,
    models::{Caller, Username},
    storage::Profile,
};

/// What stands before a user's name in the paths that npm inherited from `CouchDB`.
const PREFIX: &str = "org.couchdb.user:";

/// The body of a `PUT` for a user. npm sends more, none of which counts.
#[derive(Deserialize)]
pub(super) struct SignIn {
    name: Option<String>,
    password: Option<SecretString>,
    #[serde(default)]
    email: Option<String>,
}

fn username(text: &str) -> Result<Username, RegistryError> {
    let name = text
        .strip_prefix(PREFIX)
        .ok_or_else(|| RegistryError::not_found("not found"))?;
    name.parse()
        .map_err(|error| RegistryError::bad_request(format!("{error}")))
}

/// `PUT /-/user/org.couchdb.user:NAME`: signs in, or registers whoever is not known.
pub(super) async fn sign_in(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    PathText(path): PathText,
    headers: HeaderMap,
    Json(body): Json<SignIn>,
) -> Result<Response, Error> {
    let user = username(&path)?;
    if body
        .name
        .as_deref()
        .is_some_and(|name| name != user.as_str())
    {
        let message = "username does not match logged in user";
        return Err(RegistryError::bad_request(message).into());
    }
    let password = body
        .password
        .ok_or_else(|| RegistryError::bad_request("user and password are required"))?;
    let profile = Profile {
        email: body.email.unwrap_or_default(),
        ..Profile::default()
    };
    let logged_in = state
        .auth
        .login_or_register(
            &user,
            &password,
            profile,
            &Sender::from(&caller),
            one_time_pass(&headers).as_ref(),
        )
        .await;
    let logged_in = told(&state, &caller, &user, logged_in)?;
    let ok = if logged_in.is_new {
        format!("user '{user}' created")
    } else {
        format!("you are authenticated as '{user}'")
    };
    let token = secrecy::ExposeSecret::expose_secret(&logged_in.token);
    let body = json!({ "ok": ok, "id": path, "token": token });
    Ok(respond::secret_json(StatusCode::CREATED, &body))
}

/// Tells how a sign-in ended.
fn told(
    state: &WebState,
    caller: &Caller,
    user: &Username,
    logged_in: Result<LoggedIn, RegistryError>,
) -> Result<LoggedIn, RegistryError> {
    let is_new = logged_in.as_ref().is_ok_and(|logged_in| logged_in.is_new);
    let failure = logged_in.as_ref().err();
    tell_of_login(state, caller, (Some(user), "password"), is_new, failure);
    logged_in
}

/// Tells that `user` has signed in by `method`, or what it failed with; a failure of ours, and a
/// challenge for a second factor, is no failure of hers.
pub(super) fn tell_of_login(
    state: &WebState,
    caller: &Caller,
    (user, method): (Option<&Username>, &'static str),
    is_new: bool,
    failure: Option<&RegistryError>,
) {
    let tell = |event: Event| state.events.tell(caller, None, &event);
    let user = user.map(|user| user.as_str().to_owned());
    match (failure, user) {
        (None, Some(user)) => {
            if is_new {
                tell(Event::UserRegistered { user: user.clone() });
            }
            tell(Event::LoggedIn { user, method });
        }
        // Of a login that was not even looked at nothing is told: they cost nothing, and may be many.
        (
            Some(RegistryError::OneTimePassRequired { .. } | RegistryError::RateLimited { .. })
            | None,
            _,
        ) => {}
        (Some(error), user) if error.status().is_client_error() => {
            let code = error.code();
            tell(Event::LoginFailed { user, code });
        }
        _ => {}
    }
}

/// `GET /-/user/org.couchdb.user:NAME`: what `npm owner add` wants to know of a user.
pub(super) async fn show(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    PathText(path): PathText,
) -> Result<Response, Error> {
    let user = username(&path)?;
    if caller.is_anonymous() {
        return Ok(respond::json(StatusCode::OK, &json!({ "ok": false })));
    }
    let record = state.auth.user(&user).await?;
    let is_caller = caller.display_name() == user.as_str();
    if record.is_none() && !is_caller && state.auth.knows_all_users() {
        let message = format!("there is no user `{user}`");
        return Err(RegistryError::not_found(message).into());
    }
    let body = json!({
        "_id": path,
        "name": user.as_str(),
        "email": record.map_or_else(String::new, |record| record.profile.email.clone()),
        "ok": format!("you are authenticated as '{}'", caller.display_name()),
    });
    Ok(respond::json(StatusCode::OK, &body))
}

/// `DELETE /-/user/token/TOKEN`: who shows a token may end it.
pub(super) async fn sign_out(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    PathText(token): PathText,
) -> Result<Response, Error> {
    let prefix = token.chars().take(8).collect();
    let token = SecretString::from(token);
    let is_ended = state.auth.logout(&token).await?
        || state
            .auth
            .end_old_token(&token, &Sender::from(&caller))
            .await?;
    if is_ended {
        let event = Event::LoggedOut { token: prefix };
        state.events.tell(&caller, None, &event);
    }
    let body = json!({ "ok": "Logged out" });
    Ok(respond::json(StatusCode::OK, &body))
}

pub(super) async fn whoami(Actor(caller): Actor) -> Result<Response, Error> {
    if caller.is_anonymous() {
        return Err(RegistryError::unauthorized("Unauthorized").into());
    }
    let body = json!({ "username": caller.display_name() });
    Ok(respond::json(StatusCode::OK, &body))
}
