//! `/-/npm/v1/tokens`: listing, creating and revoking tokens, in the shapes of all npm versions.

use std::time::Duration;

use axum::{extract::State, response::Response};
use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    error::Error,
    extract::{Actor, FullActor, Json, PathText},
    respond,
    state::WebState,
};
use crate::{
    auth::{Sender, TokenRequest, token_created},
    error::RegistryError,
    events::Event,
    models::PackageName,
    storage::TokenRecord,
};

const DAY: Duration = Duration::from_secs(86_400);

/// A wish for a token: `readonly` and `cidr_whitelist` from npm up to 10, the rest since 11.
#[derive(Deserialize)]
pub(super) struct Wish {
    password: Option<SecretString>,
    #[serde(default)]
    readonly: bool,
    #[serde(default, alias = "cidr")]
    cidr_whitelist: Option<Vec<String>>,
    name: Option<String>,
    #[serde(alias = "description")]
    token_description: Option<String>,
    /// Days.
    expires: Option<u32>,
    #[serde(default)]
    packages: Option<Vec<String>>,
    #[serde(default)]
    scopes: Option<Vec<String>>,
    packages_all: Option<bool>,
    packages_and_scopes_permission: Option<String>,
    #[serde(default)]
    orgs: Option<Vec<String>>,
    orgs_permission: Option<String>,
    /// Whether it shall work without the second factor of its user.
    #[serde(default)]
    bypass_2fa: bool,
}

pub(super) async fn list(
    State(state): State<WebState>,
    Actor(caller): Actor,
) -> Result<Response, Error> {
    let name = caller.username();
    let name = name.ok_or_else(|| RegistryError::unauthorized("no credentials provided"))?;
    let tokens = state.auth.tokens(&name).await?;
    let objects: Vec<Value> = tokens.iter().map(|record| shown(record, None)).collect();
    let body = json!({ "objects": objects, "total": objects.len(), "urls": {} });
    Ok(respond::secret_json(StatusCode::OK, &body))
}

pub(super) async fn create(
    State(state): State<WebState>,
    actor: FullActor,
    Json(wish): Json<Wish>,
) -> Result<Response, Error> {
    let password = wish.password.clone().ok_or_else(|| {
        RegistryError::unprocessable("the parameters are not valid: `password` is missing")
    })?;
    let request = wish.into_request()?;
    let sender = Sender::from(&actor.caller);
    let (token, record) = state
        .auth
        .create_token(&actor.name, &password, request, &sender)
        .await?;
    state
        .events
        .tell(&actor.caller, None, &token_created(&record));
    let body = shown(&record, Some(token.expose_secret()));
    Ok(respond::secret_json(StatusCode::OK, &body))
}

pub(super) async fn revoke(
    State(state): State<WebState>,
    actor: FullActor,
    PathText(token): PathText,
) -> Result<Response, Error> {
    if state.auth.revoke(&actor.name, &token).await? {
        let event = Event::TokenRevoked {
            user: actor.name.to_string(),
            token: token.chars().take(8).collect(),
        };
        state.events.tell(&actor.caller, None, &event);
    }
    Ok(respond::json(StatusCode::OK, &json!({})))
}

impl Wish {
    fn into_request(self) -> Result<TokenRequest, RegistryError> {
        let readonly = self.is_readonly()?;
        let packages = self.packages.unwrap_or_default();
        let packages: Vec<PackageName> = packages
            .iter()
            .map(|name| name.parse::<PackageName>())
            .collect::<Result<_, _>>()
            .map_err(|error| RegistryError::unprocessable(format!("{error}")))?;
        let scopes = self.scopes.unwrap_or_default();
        let scopes: Vec<String> = scopes
            .iter()
            .map(|scope| format!("@{}", scope.trim_start_matches('@')))
            .collect();
        let is_for_some = !packages.is_empty() || !scopes.is_empty();
        // A wish for limits that we do not know must never make a token without any.
        if self.packages_all == Some(is_for_some) {
            return Err(RegistryError::unprocessable(
                "a token is either for all packages or for those of `packages` and `scopes`",
            ));
        }
        let is_limited = is_for_some || readonly;
        let is_without_orgs = self.orgs.is_none_or(|orgs| orgs.is_empty())
            && match self.orgs_permission.as_deref() {
                None => true,
                Some("no-access") => is_limited,
                Some(_) => false,
            };
        if !is_without_orgs {
            return Err(RegistryError::unprocessable(
                "tokens cannot be limited to organisations here: leave `orgs` and \
                 `orgs_permission` out, and name packages or scopes; a limited token cannot change \
                 organisations anyway",
            ));
        }
        Ok(TokenRequest {
            bypass_second_factor: self.bypass_2fa,
            name: self.name.or(self.token_description),
            readonly,
            cidr: self.cidr_whitelist.unwrap_or_default(),
            lifetime: self.expires.map(|days| DAY * days),
            packages,
            scopes,
        })
    }

    fn is_readonly(&self) -> Result<bool, RegistryError> {
        let refused = match self.packages_and_scopes_permission.as_deref() {
            None | Some("read-write") => return Ok(self.readonly),
            Some("read-only") => return Ok(true),
            Some("no-access") => "a token that may do nothing with packages would be of no use",
            Some("read-write-stage-only") => "there is no staging of releases here",
            Some(_) => "the permission is not known",
        };
        Err(RegistryError::unprocessable(format!(
            "{refused}: `packages_and_scopes_permission` must be `read-only` or `read-write`"
        )))
    }
}

/// A token as clients list it: how it begins, by which they find the one that somebody types. The
/// token itself only once, when it is made.
fn shown(record: &TokenRecord, token: Option<&str>) -> Value {
    // npm 12 prints a list that is there, though nothing is in it.
    let networks = Some(&record.cidr).filter(|networks| !networks.is_empty());
    json!({
        "token": token.unwrap_or(&record.prefix),
        "key": record.key,
        "name": record.name,
        "user": record.user,
        "readonly": record.readonly,
        "cidr": record.cidr,
        "cidr_whitelist": networks,
        "packages": record.packages,
        "scopes": record.scopes,
        "created": record.created,
        "updated": record.created,
        "expires": record.expires,
    })
}
