//! `/-/verdaccio/sec/…`: signing in and up, and changing a password. They end as the same wishes of npm do.

use axum::{
    extract::{FromRequest as _, Request, State},
    response::Response,
};
use http::{HeaderMap, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::only_json::OnlyJson;
use crate::{
    auth::{LoggedIn, Sender},
    error::RegistryError,
    events::Event,
    models::{Caller, Username},
    storage::Profile,
    web::{
        error::Error,
        extract::{FullActor, Visitor, one_time_pass},
        respond,
        state::WebState,
        users::tell_of_login,
    },
};

/// Where somebody signs in.
pub(in crate::web) const LOGIN: &str = "/-/verdaccio/sec/login";

/// The longest one-time pass that is looked at.
const MAX_PASS: usize = 256;

/// What is said to whoever needs a second factor, and to whoever showed a wrong one. Their programs are not npm, which
/// would ask for it.
struct Words {
    missing: &'static str,
    wrong: &'static str,
}

const AT_LOGIN: Words = Words {
    missing: "You must provide a one-time pass: send the code of your authenticator app, or a recovery code, as \
              `otp` beside the password or in the header `npm-otp`.",
    wrong: "The one-time pass is wrong or was used already: send a new one as `otp` beside the password or in the \
            header `npm-otp`.",
};
const AT_CHANGE: Words = Words {
    missing: "You must provide a one-time pass: send the code of your authenticator app, or a recovery code, in the \
              header `npm-otp`.",
    wrong: "The one-time pass is wrong or was used already: send a new one in the header `npm-otp`.",
};

impl Words {
    /// `error`, which says how to show a second factor if that is what is missing.
    fn explain(&self, error: RegistryError, was_shown: bool) -> RegistryError {
        match error {
            RegistryError::OneTimePassRequired { user, .. } => RegistryError::OneTimePassRequired {
                message: if was_shown { self.wrong } else { self.missing },
                user,
            },
            error => error,
        }
    }
}

/// Who signs in.
#[derive(Deserialize)]
pub(in crate::web) struct SignIn {
    username: Option<String>,
    password: Option<SecretString>,
    otp: Option<SecretString>,
}

/// `POST /-/verdaccio/sec/login`
pub(in crate::web) async fn sign_in(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    headers: HeaderMap,
    OnlyJson(body): OnlyJson<SignIn>,
) -> Result<Response, Error> {
    let (user, password) = required(body.username, body.password)?;
    let own = body.otp.filter(|pass| {
        let pass = pass.expose_secret().trim();
        !pass.is_empty() && pass.len() <= MAX_PASS
    });
    let own = own.map(|pass| SecretString::from(pass.expose_secret().trim()));
    let pass = own.or_else(|| one_time_pass(&headers));
    let sender = Sender::from(&caller);
    let login = state.auth.login(&user, &password, &sender, pass.as_ref());
    let logged_in = login
        .await
        .map_err(|error| AT_LOGIN.explain(error, pass.is_some()));
    answer(&state, &caller, &user, StatusCode::OK, logged_in)
}

/// Who wants an account.
#[derive(Deserialize)]
pub(in crate::web) struct SignUp {
    name: Option<String>,
    password: Option<SecretString>,
    #[serde(default)]
    email: Option<String>,
}

/// `PUT /-/verdaccio/sec/signup`: an account, where visitors may make one.
pub(in crate::web) async fn sign_up(
    State(state): State<WebState>,
    Visitor { caller, .. }: Visitor,
    OnlyJson(body): OnlyJson<SignUp>,
) -> Result<Response, Error> {
    let (user, password) = required(body.name, body.password)?;
    let profile = Profile {
        email: body.email.unwrap_or_default(),
        ..Profile::default()
    };
    let sender = Sender::from(&caller);
    let registered = state.auth.register(&user, &password, profile, &sender);
    answer(
        &state,
        &caller,
        &user,
        StatusCode::CREATED,
        registered.await,
    )
}

fn required(
    name: Option<String>,
    password: Option<SecretString>,
) -> Result<(Username, SecretString), RegistryError> {
    let missing = || RegistryError::bad_request("user and password are required");
    let (name, password) = name.zip(password).ok_or_else(missing)?;
    let user: Username = name
        .parse()
        .map_err(|error| RegistryError::bad_request(format!("{error}")))?;
    Ok((user, password))
}

/// Tells how it ended, and answers.
fn answer(
    state: &WebState,
    caller: &Caller,
    user: &Username,
    status: StatusCode,
    logged_in: Result<LoggedIn, RegistryError>,
) -> Result<Response, Error> {
    let is_new = logged_in.as_ref().is_ok_and(|logged_in| logged_in.is_new);
    let failure = logged_in.as_ref().err();
    tell_of_login(state, caller, (Some(user), "password"), is_new, failure);
    let token = logged_in?.token;
    let body = json!({ "token": token.expose_secret(), "username": user.as_str() });
    Ok(respond::secret_json(status, &body))
}

/// A new password.
#[derive(Deserialize)]
pub(in crate::web) struct Change {
    password: Passwords,
}

#[derive(Deserialize)]
struct Passwords {
    old: Option<SecretString>,
    new: Option<SecretString>,
}

/// `PUT /-/verdaccio/sec/reset_password`
pub(in crate::web) async fn change_password(
    State(state): State<WebState>,
    actor: Result<FullActor, Error>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Error> {
    let explained = |Error(error)| {
        let was_shown = one_time_pass(&headers).is_some();
        Error(AT_CHANGE.explain(error, was_shown))
    };
    let FullActor { caller, name } = actor.map_err(explained)?;
    // Whoever may not change it hears that first.
    let OnlyJson(Change { password }) = OnlyJson::from_request(request, &state).await?;
    let missing = |what| RegistryError::bad_request(format!("{what} password is required"));
    let old = password.old.ok_or_else(|| missing("old"))?;
    let new = password.new.ok_or_else(|| missing("new"))?;
    let sender = Sender::from(&caller);
    let changed = state.auth.change_password(&name, &old, &new, &sender).await;
    changed.map_err(|error| match error {
        // The new one is too short. npm hears 401 of that; here it would be taken for a session that has ended.
        RegistryError::Unauthorized { message } if state.auth.knows_all_users() => {
            RegistryError::BadRequest { message }
        }
        error => error,
    })?;
    let user = name.to_string();
    state
        .events
        .tell(&caller, None, &Event::PasswordChanged { user });
    Ok(respond::secret_json(StatusCode::OK, &json!({ "ok": true })))
}
