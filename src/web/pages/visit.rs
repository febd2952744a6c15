//! [`Visit`]: who looks at a page, in which language, and what every page says of itself.

use askama::Template;
use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use serde::de::DeserializeOwned;

use super::{
    assets,
    language::Language,
    session::{self, Theme},
};
use crate::{
    error::RegistryError,
    models::{BaseUrl, Caller},
    web::{
        error::Error,
        extract::{Base, Visitor, small_body},
        state::WebState,
    },
};

/// What a page may load: files of ours, and nothing of anybody else's.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);
/// Forms say where they come from; others hear nothing.
const REFERRER: HeaderValue = HeaderValue::from_static("same-origin");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");
const SECRET: HeaderValue = HeaderValue::from_static("no-store");

/// A browser that asks for a page.
pub(in crate::web) struct Visit {
    pub(in crate::web) state: WebState,
    pub(in crate::web) caller: Caller,
    pub(in crate::web) base: BaseUrl,
    pub(in crate::web) headers: HeaderMap,
    pub(in crate::web) shell: Shell,
}

/// What every page says of itself.
#[derive(Clone, Debug)]
pub(in crate::web) struct Shell {
    /// The title of the registry.
    pub(in crate::web) title: String,
    /// The address under which clients see it.
    pub(in crate::web) registry: String,
    /// What paths begin with, without a slash at its end.
    pub(in crate::web) prefix: String,
    /// The path of this page, with its prefix and query.
    pub(in crate::web) here: String,
    pub(in crate::web) language: &'static Language,
    pub(in crate::web) theme: Theme,
    /// Who is signed in.
    pub(in crate::web) user: Option<String>,
    pub(in crate::web) is_admin: bool,
    /// Whether somebody can sign in here.
    pub(in crate::web) has_sign_in: bool,
    /// What its forms send along.
    pub(in crate::web) form_token: String,
}

impl Shell {
    /// The words of `key`.
    pub(in crate::web) fn say(&self, key: &str) -> &str {
        self.language.say(key)
    }

    /// Where a file of ours is.
    pub(in crate::web) fn asset(&self, name: &'static str) -> String {
        format!("{}/-/web/static/{}", self.prefix, assets::address_of(name))
    }

    /// Where the page of a package is.
    pub(in crate::web) fn package(&self, name: &str) -> String {
        format!("{}/-/web/detail/{name}", self.prefix)
    }

    /// Where to sign in, and come back from.
    pub(in crate::web) fn sign_in(&self) -> String {
        let here: String = url::form_urlencoded::byte_serialize(self.here.as_bytes()).collect();
        format!("{}/-/web/login?back={here}", self.prefix)
    }
}

impl FromRequestParts<WebState> for Visit {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &WebState) -> Result<Self, Error> {
        if !state.settings.has_pages {
            return Err(RegistryError::not_found("not found").into());
        }
        let Visitor { caller, .. } = Visitor::from_request_parts(parts, state).await?;
        let Base(base) = Base::from_request_parts(parts, state).await?;
        let prefix = session::path_of(&base);
        let cookie = session::token(&parts.headers);
        let path = parts.uri.path_and_query();
        let path = path.map_or("/", http::uri::PathAndQuery::as_str);
        let shell = Shell {
            title: state.settings.title.clone(),
            registry: format!("{}/", base.as_str().trim_end_matches('/')),
            here: format!("{prefix}{path}"),
            prefix,
            language: Language::of(&parts.headers, state.settings.language),
            theme: Theme::of(&parts.headers),
            user: caller.username().map(|user| user.to_string()),
            is_admin: state.administration.require_to_look(&caller).is_ok(),
            has_sign_in: state.settings.has_page_logins,
            form_token: cookie.as_ref().map(session::form_token).unwrap_or_default(),
        };
        Ok(Self {
            state: state.clone(),
            caller,
            base,
            headers: parts.headers.clone(),
            shell,
        })
    }
}

impl Visit {
    /// The page, or one that says why there is none.
    pub(in crate::web) fn answer<T: Template>(&self, page: Result<T, RegistryError>) -> Response {
        match page {
            Ok(page) => self.render(StatusCode::OK, &page),
            Err(error) => self.refuse(&error),
        }
    }

    /// A page.
    pub(in crate::web) fn render(&self, status: StatusCode, page: &impl Template) -> Response {
        match page.render() {
            Ok(html) => {
                let is_public = self.caller.is_anonymous() && self.shell.form_token.is_empty();
                let headers = [
                    (header::CONTENT_TYPE, HTML),
                    (
                        header::CACHE_CONTROL,
                        if is_public { PRIVATE } else { SECRET },
                    ),
                    (header::CONTENT_SECURITY_POLICY, POLICY),
                    (header::REFERRER_POLICY, REFERRER),
                ];
                (status, headers, html).into_response()
            }
            Err(error) => Error(RegistryError::internal(error)).into_response(),
        }
    }

    /// The page of a failure.
    pub(in crate::web) fn refuse(&self, error: &RegistryError) -> Response {
        if error.status().is_server_error() {
            tracing::error!(error = error as &dyn std::error::Error, "a page failed");
        }
        let page = Refusal {
            shell: &self.shell,
            status: error.status().as_u16(),
            message: error.to_string(),
            may_sign_in: self.caller.is_anonymous() && self.shell.has_sign_in,
        };
        self.render(error.status(), &page)
    }

    /// Sends the browser to `path`, which begins with the prefix.
    pub(in crate::web) fn go_to(&self, path: &str) -> Response {
        let Ok(location) = HeaderValue::try_from(path) else {
            return self.refuse(&RegistryError::bad_request("the address is not valid"));
        };
        let headers = [
            (header::LOCATION, location),
            (header::CACHE_CONTROL, SECRET),
        ];
        (StatusCode::SEE_OTHER, headers).into_response()
    }

    /// A path below this registry that a page was asked to go back to; the first page otherwise.
    pub(in crate::web) fn way_back(&self, asked: Option<&str>) -> String {
        let home = format!("{}/", self.shell.prefix);
        let is_own = |path: &&str| {
            path.starts_with(&home)
                && !path.starts_with("//")
                && path
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        };
        asked.filter(is_own).map_or(home.clone(), str::to_owned)
    }
}

/// A form that a page of ours has sent.
pub(in crate::web) struct Sent<T>(
    pub(in crate::web) Visit,
    pub(in crate::web) Result<T, RegistryError>,
);

impl<T: DeserializeOwned> FromRequest<WebState> for Sent<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &WebState) -> Result<Self, Error> {
        let (mut parts, body) = request.into_parts();
        let mut visit = Visit::from_request_parts(&mut parts, state).await?;
        let method = parts.method.clone();
        let read = read_form(&mut visit, &method, Request::from_parts(parts, body), state).await;
        Ok(Self(visit, read))
    }
}

async fn read_form<T: DeserializeOwned>(
    visit: &mut Visit,
    method: &Method,
    request: Request,
    state: &WebState,
) -> Result<T, RegistryError> {
    let body = small_body(request, state).await?;
    let proof = url::form_urlencoded::parse(&body).find(|(key, _)| key == "proof");
    let proof = proof.map(|(_, value)| value).unwrap_or_default();
    session::require_own_form(&visit.headers, method, &visit.base, &proof)?;
    let pass = url::form_urlencoded::parse(&body).find(|(key, _)| key == "otp");
    let pass = pass
        .map(|(_, pass)| pass.trim().to_owned())
        .unwrap_or_default();
    if !pass.is_empty() {
        let second_factors = state.auth.second_factors();
        second_factors.show(&mut visit.caller, pass.into(), &proof);
    }
    serde_html_form::from_bytes(&body)
        .map_err(|error| RegistryError::bad_request(format!("the form is not valid: {error}")))
}

#[derive(Template)]
#[template(path = "refusal.html")]
struct Refusal<'a> {
    shell: &'a Shell,
    status: u16,
    message: String,
    may_sign_in: bool,
}
