//! Who is calling: found out once a request, asked for by handlers in the strength they need.

use std::{net::IpAddr, sync::Arc};

use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderName, Method, header, request::Parts};
use secrecy::{ExposeSecret, SecretString};

use super::{base_url::peer, forwarded};
use crate::{
    auth::{CredentialProblem, Presented},
    error::RegistryError,
    models::{Caller, PackageName, RequestInfo, Tenant, Username},
    web::{error::Error, pages, state::WebState},
};

const NPM_OTP: HeaderName = HeaderName::from_static("npm-otp");
const NPM_SESSION: HeaderName = HeaderName::from_static("npm-session");

/// What the credentials of a request turned out to be.
#[derive(Clone, Debug)]
pub(in crate::web) struct Credentials {
    /// The caller; anonymous where the credentials do not count.
    pub(in crate::web) caller: Caller,
    /// Why they do not count.
    pub(in crate::web) problem: Option<CredentialProblem>,
}

/// A caller whose credentials need not be good: one with a bad token may do what anonymous
/// callers may.
pub(in crate::web) struct Visitor {
    pub(in crate::web) caller: Caller,
    /// Why the credentials that were sent do not count.
    pub(in crate::web) problem: Option<CredentialProblem>,
}
/// A caller whose credentials are good or who sent none: for everything that changes something.
pub(in crate::web) struct Actor(pub(in crate::web) Caller);
/// A caller who is signed in.
pub(in crate::web) struct User {
    pub(in crate::web) caller: Caller,
    pub(in crate::web) name: Username,
}
/// A signed-in caller whose credentials have no limits, with her second factor if she has one: for
/// changes of the account itself.
pub(in crate::web) struct FullActor {
    pub(in crate::web) caller: Caller,
    pub(in crate::web) name: Username,
}

/// Finds out who is calling. `path` is the one that embedders' hooks see.
pub(in crate::web) async fn identify(
    parts: &Parts,
    state: &WebState,
    path: &str,
    request_id: Arc<str>,
) -> Result<Credentials, RegistryError> {
    let cookie = page_session(parts);
    let header = match parts.headers.get(header::AUTHORIZATION) {
        // Bytes that are no text are credentials that cannot be read.
        Some(value) => Some(value.to_str().unwrap_or("unreadable")),
        None => cookie.as_ref().map(ExposeSecret::expose_secret),
    };
    // A login has its password in the body. The same in a header, as pnpm sends it, would be looked
    // at twice, and use up the one-time pass beside it.
    let header = header.filter(|header| !(is_login(parts) && is_basic(header)));
    let address = client_address(parts, state);
    let pass = one_time_pass(&parts.headers);
    let request = Arc::new(RequestInfo {
        id: request_id,
        method: parts.method.clone(),
        path: path.into(),
        tenant: tenant(parts, state)?,
        ..RequestInfo::default()
    });
    let found = state.auth.authenticate(Presented {
        authorization: header,
        pass: pass.as_ref(),
        address,
        request: &request,
    });
    let found = found.await?;
    let caller = Caller {
        identity: found.identity,
        token: found.token,
        limits: found.limits,
        second_factor: found.second_factor,
        address,
        request,
        session: session(&parts.headers),
    };
    Ok(Credentials {
        caller,
        problem: found.problem,
    })
}

/// What a browser that is signed in shows where it asks for a page, as a header would.
fn page_session(parts: &Parts) -> Option<SecretString> {
    if !pages::is_page(parts.uri.path()) {
        return None;
    }
    let token = pages::token(&parts.headers)?;
    Some(format!("Bearer {}", token.expose_secret()).into())
}

/// Who is calling where nobody could be asked: no more than the address and the request is known.
pub(in crate::web) fn unidentified(
    parts: &Parts,
    state: &WebState,
    path: &str,
    request_id: Arc<str>,
) -> Caller {
    Caller {
        address: client_address(parts, state),
        request: Arc::new(RequestInfo {
            id: request_id,
            method: parts.method.clone(),
            path: path.into(),
            tenant: tenant(parts, state).unwrap_or_default(),
            ..RequestInfo::default()
        }),
        ..Caller::default()
    }
}

/// `PUT /-/user/org.couchdb.user:NAME`, with or without a revision.
fn is_login(parts: &Parts) -> bool {
    let user = parts.uri.path().strip_prefix("/-/user/");
    parts.method == Method::PUT && user.is_some_and(|user| user.starts_with("org.couchdb.user"))
}

fn is_basic(header: &str) -> bool {
    let scheme = header.trim().split(' ').next();
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic"))
}

/// `npm-otp`: a code, a recovery code, or what a browser fetched.
pub(in crate::web) fn one_time_pass(headers: &HeaderMap) -> Option<SecretString> {
    let text = headers.get(NPM_OTP)?.to_str().ok()?.trim();
    (!text.is_empty() && text.len() <= 256).then(|| text.to_owned().into())
}

/// The address of the client.
fn client_address(parts: &Parts, state: &WebState) -> Option<IpAddr> {
    forwarded::client_address(&parts.headers, peer(parts), &state.settings.trust_proxy)
}

/// For whom the request is.
fn tenant(parts: &Parts, state: &WebState) -> Result<Tenant, RegistryError> {
    forwarded::tenant(&parts.headers, peer(parts), &state.settings.trust_proxy)
}

fn session(headers: &HeaderMap) -> Option<Arc<str>> {
    let text = headers.get(NPM_SESSION)?.to_str().ok()?;
    (!text.is_empty() && text.len() <= 128).then(|| text.into())
}

/// What a caller hears whose read of `name` failed with `error`. Credentials that do not count might
/// have shown her a package that is hidden from others, so a missing one is no news to her; and
/// since a hidden one must not differ from a missing one, all that could be hidden are told alike.
pub(in crate::web) fn unless_hidden(
    problem: Option<CredentialProblem>,
    name: &PackageName,
    error: RegistryError,
) -> RegistryError {
    let can_be_hidden = name.scope().is_some();
    match (problem, &error) {
        (Some(problem), RegistryError::NotFound { .. }) if can_be_hidden => {
            RegistryError::unauthorized(problem.to_string())
        }
        _ => error,
    }
}

fn credentials(parts: &Parts) -> Result<Credentials, Error> {
    let found = parts.extensions.get::<Credentials>().cloned();
    Ok(found.ok_or_else(|| RegistryError::internal("the caller was not identified"))?)
}

fn user(caller: Caller) -> Result<User, Error> {
    match caller.username() {
        Some(name) => Ok(User { caller, name }),
        None => Err(RegistryError::unauthorized("You must be logged in").into()),
    }
}

impl FromRequestParts<WebState> for Visitor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &WebState) -> Result<Self, Error> {
        let Credentials { caller, problem } = credentials(parts)?;
        Ok(Self { caller, problem })
    }
}

impl FromRequestParts<WebState> for Actor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &WebState) -> Result<Self, Error> {
        let Credentials { caller, problem } = credentials(parts)?;
        match problem {
            None => Ok(Self(caller)),
            Some(problem) => Err(RegistryError::unauthorized(problem.to_string()).into()),
        }
    }
}

impl FromRequestParts<WebState> for User {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Error> {
        let Actor(caller) = Actor::from_request_parts(parts, state).await?;
        user(caller)
    }
}

impl FromRequestParts<WebState> for FullActor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Error> {
        let User { caller, name } = User::from_request_parts(parts, state).await?;
        if !caller.limits.are_none() {
            let message = "this token is limited and cannot change the account; run `npm login`";
            return Err(RegistryError::forbidden(message).into());
        }
        let second_factors = state.auth.second_factors();
        second_factors.require_for_account(&caller).await?;
        Ok(Self { caller, name })
    }
}
