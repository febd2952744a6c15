//! Typed parts of the path.

use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use http::{header, request::Parts};

use crate::{
    error::RegistryError,
    models::{Organisation, PackageName, Tag, TarballName, Team, VersionKey},
    web::{error::Error, state::WebState},
};

/// `{package}`.
pub(in crate::web) struct Package(pub(in crate::web) PackageName);
/// `{file}`.
pub(in crate::web) struct FileName(pub(in crate::web) TarballName);
/// `{version}`: a version or a dist-tag.
pub(in crate::web) struct VersionText(pub(in crate::web) VersionKey);
/// The last parameter, as a dist-tag that may be set.
pub(in crate::web) struct TagName(pub(in crate::web) Tag);
/// `{organisation}`, with or without its `@`.
pub(in crate::web) struct OrganisationName(pub(in crate::web) Organisation);
/// `{organisation}` and `{team}`.
pub(in crate::web) struct TeamName(pub(in crate::web) Team);
/// `{text}`, as it is.
pub(in crate::web) struct PathText(pub(in crate::web) String);

/// The parameter `key`, or the last one.
async fn text(parts: &mut Parts, state: &WebState, key: Option<&str>) -> Result<String, Error> {
    let parameters = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|_| RegistryError::bad_request("invalid path"))?;
    let found = parameters
        .iter()
        .filter(|(name, _)| key.is_none_or(|key| *name == key));
    let (_, value) = found
        .last()
        .ok_or_else(|| RegistryError::not_found("not found"))?;
    Ok(value.to_owned())
}

async fn parsed<T>(parts: &mut Parts, state: &WebState, key: Option<&str>) -> Result<T, Error>
where
    T: FromStr<Err: std::fmt::Display>,
{
    let text = text(parts, state, key).await?;
    text.parse()
        .map_err(|error| Error(RegistryError::bad_request(format!("{error}"))))
}

impl FromRequestParts<WebState> for Package {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Error> {
        parsed(parts, state, Some("package")).await.map(Self)
    }
}

impl FromRequestParts<WebState> for FileName {
    type Rejection = Error;

    /// What is no name of a tarball cannot be there.
    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Error> {
        let text = text(parts, state, Some("file")).await?;
        text.parse()
            .map(Self)
            .map_err(|_| Error(RegistryError::not_found("no such file available")))
    }
}

impl FromRequestParts<WebState> for VersionText {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Error> {
        parsed(parts, state, Some("version")).await.map(Self)
    }
}

impl FromRequestParts<WebState> for TagName {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Error> {
        parsed(parts, state, None).await.map(Self)
    }
}

impl FromRequestParts<WebState> for OrganisationName {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Error> {
        parsed(parts, state, Some("organisation")).await.map(Self)
    }
}

impl FromRequestParts<WebState> for TeamName {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Error> {
        let OrganisationName(organisation) =
            OrganisationName::from_request_parts(parts, state).await?;
        let name = text(parts, state, Some("team")).await?;
        let team = Team::new(organisation, &name);
        team.map(Self)
            .map_err(|error| Error(RegistryError::bad_request(error.to_string())))
    }
}

/// Which family of clients asks, where they want answers of different shapes or mean different
/// things by the same words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::web) enum Agent {
    /// pnpm, from the version on that does not call npm.
    Pnpm,
    /// npm, Yarn 1 and Bun.
    Npm,
    /// All others: Yarn from version 2 on, libraries, scripts.
    Other,
}

impl Agent {
    /// Whether an `access` in a document to publish is what the user asked for. Yarn from version
    /// 2 on and older versions of npm's library (Lerna) say `restricted` for every scoped package.
    pub(in crate::web) fn means_access(self) -> bool {
        self != Self::Other
    }
}

impl FromRequestParts<WebState> for Agent {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &WebState) -> Result<Self, Error> {
        let agent = parts.headers.get(header::USER_AGENT);
        let agent = agent.map(http::HeaderValue::as_bytes).unwrap_or_default();
        let is_one_of = |names: &[&[u8]]| names.iter().any(|name| agent.starts_with(name));
        Ok(if is_one_of(&[b"pnpm/"]) {
            Self::Pnpm
        } else if is_one_of(&[b"npm/", b"yarn/", b"Bun/"]) {
            Self::Npm
        } else {
            Self::Other
        })
    }
}

impl FromRequestParts<WebState> for PathText {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Error> {
        text(parts, state, Some("text")).await.map(Self)
    }
}
