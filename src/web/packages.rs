//! Packuments, versions, tarballs, and what changes them.

use axum::{extract::State, response::Response};
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use serde_json::json;

use super::{
    dist_tags::{tagged, version_in},
    error::Error,
    extract::{
        Actor, Agent, Base, BodyReader, FileName, Json, Package, PathText, Query, TagName,
        VersionText, Visitor, unless_hidden,
    },
    respond::{self, choose_coding},
    state::WebState,
};
use crate::{
    auth::CredentialProblem,
    error::RegistryError,
    models::{BaseUrl, Caller, PackageName},
    registry::{Asked, Sent, packument::Form},
};

const NPM_COMMAND: HeaderName = HeaderName::from_static("npm-command");

/// What a reader sends besides the path.
pub(super) struct Reader {
    caller: Caller,
    /// Why the credentials that were sent do not count.
    problem: Option<CredentialProblem>,
    /// All of them: whoever else wants some asks before.
    headers: HeaderMap,
    base: BaseUrl,
}

impl axum::extract::FromRequestParts<WebState> for Reader {
    type Rejection = Error;

    async fn from_request_parts(
        parts: &mut http::request::Parts,
        state: &WebState,
    ) -> Result<Self, Error> {
        let Visitor { caller, problem } = Visitor::from_request_parts(parts, state).await?;
        let Base(base) = Base::from_request_parts(parts, state).await?;
        Ok(Self {
            caller,
            problem,
            base,
            headers: std::mem::take(&mut parts.headers),
        })
    }
}

/// All headers, taken from the request.
pub(super) struct Headers(HeaderMap);

impl axum::extract::FromRequestParts<WebState> for Headers {
    type Rejection = Error;

    async fn from_request_parts(
        parts: &mut http::request::Parts,
        _: &WebState,
    ) -> Result<Self, Error> {
        Ok(Self(std::mem::take(&mut parts.headers)))
    }
}

/// `GET /:package`; with `?write=true` as its editors need it.
pub(super) async fn packument(
    State(state): State<WebState>,
    reader: Reader,
    Package(name): Package,
    query: Query,
) -> Result<Response, Error> {
    if query.get("write") == Some("true") {
        return Box::pin(for_writing(&state, &reader, &name)).await;
    }
    let Reader {
        caller,
        problem,
        headers,
        base,
    } = reader;
    let asked = Asked {
        form: form_of(&headers),
        base: &base,
        coding: choose_coding(&headers),
        checks_signatures: checks_signatures(&headers),
    };
    let document = state
        .registry
        .packument(&caller, &name, asked)
        .await
        .map_err(|error| unless_hidden(problem, &name, error))?;
    Ok(respond::document(&headers, caller.is_anonymous(), document))
}

async fn for_writing(
    state: &WebState,
    reader: &Reader,
    name: &PackageName,
) -> Result<Response, Error> {
    if let Some(problem) = reader.problem {
        return Err(RegistryError::unauthorized(problem.to_string()).into());
    }
    if reader.caller.is_anonymous() {
        let message = "sign in to change a package";
        return Err(RegistryError::bad_request(message).into());
    }
    let document = state
        .registry
        .packument_for_writing(&reader.caller, name, &reader.base)
        .await?;
    Ok(respond::document(&reader.headers, false, document))
}

/// `GET /:package/:version`, also by dist-tag.
pub(super) async fn version(
    State(state): State<WebState>,
    reader: Reader,
    Package(name): Package,
    VersionText(key): VersionText,
) -> Result<Response, Error> {
    let registry = &state.registry;
    let document = registry
        .version(&reader.caller, &name, &key, &reader.base)
        .await
        .map_err(|error| unless_hidden(reader.problem, &name, error))?;
    let is_anonymous = reader.caller.is_anonymous();
    Ok(respond::document(&reader.headers, is_anonymous, document))
}

/// `GET /:package/-/:file`.
pub(super) async fn tarball(
    State(state): State<WebState>,
    Visitor { caller, problem }: Visitor,
    Package(name): Package,
    FileName(file): FileName,
    method: Method,
    Headers(headers): Headers,
) -> Result<Response, Error> {
    let has = |etag: &str| respond::has(&headers, etag);
    let tarball = state.registry.tarball(&caller, &name, &file, has).await;
    let tarball = tarball.map_err(|error| unless_hidden(problem, &name, error))?;
    let is_hosted = tarball.is_hosted;
    let response = respond::tarball(&headers, caller.is_anonymous(), tarball)?;
    if method == Method::GET && begins_a_download(&response) {
        state.metrics.downloaded(is_hosted);
    }
    Ok(response)
}

/// Whether a client gets a tarball by this, or the first of its parts.
fn begins_a_download(response: &Response) -> bool {
    match response.status() {
        StatusCode::OK | StatusCode::FOUND => true,
        StatusCode::PARTIAL_CONTENT => {
            let range = response.headers().get(header::CONTENT_RANGE);
            range.is_some_and(|range| range.as_bytes().starts_with(b"bytes 0-"))
        }
        _ => false,
    }
}

/// `PUT /:package`: publish, deprecate, star.
pub(super) async fn put(
    State(state): State<WebState>,
    Actor(caller): Actor,
    Package(name): Package,
    agent: Agent,
    BodyReader(body): BodyReader,
) -> Result<Response, Error> {
    let sent = Sent {
        revision: None,
        means_access: agent.means_access(),
        body,
    };
    let done = state.registry.put(&caller, &name, sent).await?;
    Ok(success(done.message()))
}

/// `PUT /:package/-rev/:revision`: unpublish a version, change owners.
pub(super) async fn put_revision(
    State(state): State<WebState>,
    Actor(caller): Actor,
    Package(name): Package,
    PathText(revision): PathText,
    agent: Agent,
    BodyReader(body): BodyReader,
) -> Result<Response, Error> {
    let sent = Sent {
        revision: Some(revision),
        means_access: agent.means_access(),
        body,
    };
    let done = state.registry.put(&caller, &name, sent).await?;
    Ok(success(done.message()))
}

/// `PUT /:package/:tag`: the older way to tag.
pub(super) async fn set_tag(
    State(state): State<WebState>,
    Actor(caller): Actor,
    Package(name): Package,
    TagName(tag): TagName,
    Json(version): Json<serde_json::Value>,
) -> Result<Response, Error> {
    let version = version_in(&version)?;
    let registry = &state.registry;
    registry.set_dist_tag(&caller, &name, tag, version).await?;
    Ok(tagged())
}

/// `DELETE /:package/-rev/:revision`.
pub(super) async fn unpublish(
    State(state): State<WebState>,
    Actor(caller): Actor,
    Package(name): Package,
    PathText(revision): PathText,
) -> Result<Response, Error> {
    state.registry.unpublish(&caller, &name, revision).await?;
    Ok(success("package removed"))
}

/// `DELETE /:package/-/:file/-rev/:revision`.
pub(super) async fn unpublish_tarball(
    State(state): State<WebState>,
    Actor(caller): Actor,
    Package(name): Package,
    FileName(file): FileName,
    PathText(revision): PathText,
) -> Result<Response, Error> {
    let registry = &state.registry;
    registry
        .unpublish_tarball(&caller, &name, file, revision)
        .await?;
    Ok(success("tarball removed"))
}

/// Yarn reads the body; `success` and `ok` are what it and npm's tools look at.
fn success(message: &str) -> Response {
    let body = json!({ "success": true, "ok": message });
    respond::json(StatusCode::CREATED, &body)
}

/// Whether a client is about to check signatures: npm says which command it runs, and pnpm does
/// not say.
fn checks_signatures(headers: &HeaderMap) -> bool {
    let is_audit = headers
        .get(NPM_COMMAND)
        .is_some_and(|command| command == "audit");
    let agent = headers.get(header::USER_AGENT);
    let is_pnpm = agent.is_some_and(|agent| agent.as_bytes().starts_with(b"pnpm"));
    is_audit || is_pnpm
}

fn form_of(headers: &HeaderMap) -> Form {
    let wanted = Form::Abbreviated.content_type();
    let accepts = headers.get_all(header::ACCEPT).into_iter();
    let is_abbreviated = accepts
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(wanted));
    if is_abbreviated {
        Form::Abbreviated
    } else {
        Form::Full
    }
}
