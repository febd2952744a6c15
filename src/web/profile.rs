//! `/-/npm/v1/user`: what a user tells about herself, her password, and her second factor.

use axum::{extract::State, response::Response};
use http::{HeaderMap, StatusCode, header};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{
    error::Error,
    extract::{FullActor, Json, User},
    respond,
    state::WebState,
};
use crate::{
    auth::{SecondFactorAnswer, SecondFactorChange, Sender},
    error::RegistryError,
    events::Event,
    models::{SecondFactorMode, Username},
    storage::{Profile, SecondFactorRecord},
};

/// A change; of a field that is not there nothing changes. npm sends `null` for an empty one.
#[derive(Deserialize)]
pub(super) struct Change {
    password: Option<PasswordChange>,
    tfa: Option<TfaChange>,
    #[serde(flatten)]
    fields: Fields,
}

#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(deserialize_with = "sent")]
    email: Option<String>,
    #[serde(deserialize_with = "sent")]
    fullname: Option<String>,
    #[serde(deserialize_with = "sent")]
    homepage: Option<String>,
    #[serde(deserialize_with = "sent")]
    freenode: Option<String>,
    #[serde(deserialize_with = "sent")]
    twitter: Option<String>,
    #[serde(deserialize_with = "sent")]
    github: Option<String>,
}

fn sent<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Some(Option::deserialize(from)?.unwrap_or_default()))
}

#[derive(Deserialize)]
struct PasswordChange {
    old: Option<SecretString>,
    new: Option<SecretString>,
}

/// A wish for a second factor, its first code, or the wish to go without.
#[derive(Deserialize)]
#[serde(untagged)]
enum TfaChange {
    Codes(Vec<String>),
    Mode {
        password: Option<SecretString>,
        mode: TfaMode,
    },
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TfaMode {
    AuthOnly,
    AuthAndWrites,
    Disable,
}

impl TfaChange {
    fn into_change(self) -> Result<SecondFactorChange, RegistryError> {
        match self {
            Self::Codes(codes) => {
                let code = codes.into_iter().next();
                let missing = || RegistryError::bad_request("`tfa` has no code");
                let code = code.ok_or_else(missing)?;
                Ok(SecondFactorChange::Confirm { code })
            }
            Self::Mode { password, mode } => {
                let missing = || RegistryError::bad_request("`tfa.password` is required");
                let password = password.ok_or_else(missing)?;
                Ok(match mode {
                    TfaMode::Disable => SecondFactorChange::Disable { password },
                    TfaMode::AuthOnly => SecondFactorChange::Enable {
                        mode: SecondFactorMode::AuthOnly,
                        password,
                    },
                    TfaMode::AuthAndWrites => SecondFactorChange::Enable {
                        mode: SecondFactorMode::AuthAndWrites,
                        password,
                    },
                })
            }
        }
    }
}

pub(super) async fn show(State(state): State<WebState>, user: User) -> Result<Response, Error> {
    profile(&state, &user.name).await
}

pub(super) async fn change(
    State(state): State<WebState>,
    actor: FullActor,
    headers: HeaderMap,
    Json(change): Json<Change>,
) -> Result<Response, Error> {
    let (name, sender) = (&actor.name, Sender::from(&actor.caller));
    let tell = |event: Event| state.events.tell(&actor.caller, None, &event);
    let user = name.to_string();
    if let Some(tfa) = change.tfa {
        let change = tfa.into_change()?;
        let changed = state.auth.change_second_factor(name, change, &sender);
        let answer = changed.await?;
        let change = match &answer {
            SecondFactorAnswer::Seed(_) => "asked",
            SecondFactorAnswer::RecoveryCodes(_) => "enabled",
            SecondFactorAnswer::Off => "disabled",
            SecondFactorAnswer::ModeChanged => "mode",
        };
        tell(Event::SecondFactorChanged { user, change });
        let tfa = match answer {
            SecondFactorAnswer::Seed(url) => json!(url),
            SecondFactorAnswer::RecoveryCodes(codes) => json!(codes),
            SecondFactorAnswer::Off => Value::Null,
            SecondFactorAnswer::ModeChanged if wants_nothing(&headers) => Value::Null,
            SecondFactorAnswer::ModeChanged => return profile(&state, name).await,
        };
        return Ok(respond::secret_json(StatusCode::OK, &json!({ "tfa": tfa })));
    }
    if let Some(password) = change.password {
        let missing = |what| RegistryError::bad_request(format!("{what} password is required"));
        let old = password.old.ok_or_else(|| missing("old"))?;
        let new = password.new.ok_or_else(|| missing("new"))?;
        let changed = state.auth.change_password(name, &old, &new, &sender);
        changed.await?;
        tell(Event::PasswordChanged { user });
        return profile(&state, name).await;
    }
    if change.fields == Fields::default() {
        return Err(RegistryError::bad_request("the parameters are not valid").into());
    }
    let fields = change.fields;
    let edited = state
        .auth
        .edit_profile(name, |profile| fields.clone().write_into(profile));
    edited.await?;
    tell(Event::ProfileChanged { user });
    profile(&state, name).await
}

/// Of a change of what it protects, npm up to 10 only understands `null`, and later versions only
/// what it protects now.
fn wants_nothing(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT);
    let agent = agent.and_then(|agent| agent.to_str().ok());
    let version = agent.and_then(|agent| agent.strip_prefix("npm/"));
    let major = version.and_then(|version| version.split('.').next());
    major.is_some_and(|major| major.parse::<u32>().is_ok_and(|major| major <= 10))
}

impl Fields {
    /// What is not given stays as it is.
    fn write_into(self, profile: &mut Profile) {
        let write = |text: Option<String>, into: &mut String| {
            if let Some(text) = text {
                *into = text;
            }
        };
        write(self.email, &mut profile.email);
        write(self.fullname, &mut profile.fullname);
        write(self.homepage, &mut profile.homepage);
        write(self.freenode, &mut profile.freenode);
        write(self.twitter, &mut profile.twitter);
        write(self.github, &mut profile.github);
    }
}

/// `false`, or what it protects.
fn tfa(factor: Option<&SecondFactorRecord>) -> Value {
    factor.map_or(
        Value::Bool(false),
        |factor| json!({ "pending": factor.pending, "mode": factor.mode }),
    )
}

async fn profile(state: &WebState, name: &Username) -> Result<Response, Error> {
    let user = state.auth.user(name).await?;
    let profile = user.as_ref().map(|user| user.profile.clone());
    let profile = profile.unwrap_or_default();
    let time = |time: Option<String>| time.unwrap_or_default();
    let body = json!({
        "tfa": tfa(user.as_ref().and_then(|user| user.second_factor.as_ref())),
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
    Ok(respond::json(StatusCode::OK, &body))
}
