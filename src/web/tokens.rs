//! `/-/npm/v1/tokens`: listing, creating and revoking tokens, in the shapes of all npm versions.

use std::time::Duration;

use axum::{extract::State, response::Response};
use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    error::Error,
    extract::{FullActor, Json, PathText, User},
    respond,
    state::WebState,
};
use crate::{auth::TokenRequest, error::RegistryError, models::PackageName, storage::TokenRecord};

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
    packages_and_scopes_permission: Option<String>,
    /// Whether it shall work without the second factor of its user.
    #[serde(default)]
    bypass_2fa: bool,
}

pub(super) async fn list(State(state): State<WebState>, user: User) -> Result<Response, Error> {
    let tokens = state.auth.tokens(&user.name);
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
    let address = actor.caller.address;
    let (token, record) = state
        .auth
        .create_token(&actor.name, &password, request, address)
        .await?;
    let body = shown(&record, Some(token.expose_secret()));
    Ok(respond::secret_json(StatusCode::OK, &body))
}

pub(super) async fn revoke(
    State(state): State<WebState>,
    actor: FullActor,
    PathText(token): PathText,
) -> Result<Response, Error> {
    state.auth.revoke(&actor.name, &token).await?;
    Ok(respond::json(StatusCode::OK, &json!({})))
}

impl Wish {
    fn into_request(self) -> Result<TokenRequest, RegistryError> {
        let packages = self.packages.unwrap_or_default();
        let packages = packages
            .iter()
            .map(|name| name.parse::<PackageName>())
            .collect::<Result<_, _>>()
            .map_err(|error| RegistryError::unprocessable(format!("{error}")))?;
        let scopes = self.scopes.unwrap_or_default();
        let scopes = scopes
            .iter()
            .map(|scope| format!("@{}", scope.trim_start_matches('@')))
            .collect();
        let permission = self.packages_and_scopes_permission.as_deref();
        let readonly = match permission {
            None | Some("read-write") => self.readonly,
            Some("read-only") => true,
            // The token may do nothing with packages, which is not a thing we have.
            Some(_) => {
                return Err(RegistryError::unprocessable(
                    "`packages_and_scopes_permission` must be `read-only` or `read-write`",
                ));
            }
        };
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
}

/// A token as clients list it; the token itself only once, when it is made.
fn shown(record: &TokenRecord, token: Option<&str>) -> Value {
    let masked = format!("{}...", record.prefix);
    json!({
        "token": token.unwrap_or(&masked),
        "key": record.key,
        "name": record.name,
        "user": record.user,
        "readonly": record.readonly,
        "cidr": record.cidr,
        "cidr_whitelist": record.cidr,
        "packages": record.packages,
        "scopes": record.scopes,
        "created": record.created,
        "updated": record.created,
        "expires": record.expires,
    })
}
