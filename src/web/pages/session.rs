//! Browsers that are signed in: a login token in a cookie that scripts cannot read and other sites cannot send.

use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue, Method, header};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Digest as _;
use subtle::ConstantTimeEq as _;

use crate::{error::RegistryError, models::BaseUrl};

const NAME: &str = "rustaccio_session";
const THEME: &str = "rustaccio_theme";
const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Whether requests for `path` may come with the cookie: pages alone. Clients send tokens in headers, which no
/// site can make a browser do.
pub(in crate::web) fn is_page(path: &str) -> bool {
    path == "/" || path == "/-/web" || path.starts_with("/-/web/")
}

/// The login token of a browser.
pub(in crate::web) fn token(headers: &HeaderMap) -> Option<SecretString> {
    let token = value(headers, NAME)?;
    (!token.is_empty() && token.len() <= 256).then(|| token.into())
}

fn value(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).into_iter();
    let mut all = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(Cookie::split_parse)
        .filter_map(Result::ok);
    let found = all.find(|cookie| cookie.name() == name)?;
    Some(found.value().to_owned())
}

/// `Set-Cookie` that keeps `token`, or with none forgets what there is.
pub(in crate::web) fn keep(token: Option<&SecretString>, base: &BaseUrl) -> Option<HeaderValue> {
    let text = token.map_or("", |token| token.expose_secret());
    set(NAME, text, base, token.is_some())
}

fn set(name: &'static str, text: &str, base: &BaseUrl, is_kept: bool) -> Option<HeaderValue> {
    let mut cookie = Cookie::build((name, text.to_owned()))
        .http_only(true)
        .same_site(SameSite::Strict)
        .path(format!("{}/", path_of(base)))
        .secure(base.as_str().starts_with("https:"));
    if !is_kept {
        cookie = cookie.removal();
    }
    HeaderValue::try_from(cookie.build().to_string()).ok()
}

/// The path of the registry's address, without a slash at its end.
pub(in crate::web) fn path_of(base: &BaseUrl) -> String {
    let url: Option<url::Url> = base.as_str().parse().ok();
    url.map(|url| url.path().trim_end_matches('/').to_owned())
        .unwrap_or_default()
}

/// The host of an address, with its port if it says one.
fn host_of(address: &str) -> Option<String> {
    let url: url::Url = address.parse().ok()?;
    let host = url.host_str()?;
    Some(format!("{host}:{}", url.port().unwrap_or_default()))
}

/// Light or dark, as somebody chose; as the machine is, where nobody did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::web) enum Theme {
    #[default]
    Auto,
    Light,
    Dark,
}

impl Theme {
    pub(in crate::web) fn of(headers: &HeaderMap) -> Self {
        value(headers, THEME).map_or(Self::Auto, |text| Self::parse(&text))
    }

    pub(in crate::web) fn parse(text: &str) -> Self {
        match text {
            "light" => Self::Light,
            "dark" => Self::Dark,
            _ => Self::Auto,
        }
    }

    pub(in crate::web) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    /// `Set-Cookie` that keeps it.
    pub(in crate::web) fn keep(self, base: &BaseUrl) -> Option<HeaderValue> {
        set(THEME, self.as_str(), base, self != Self::Auto)
    }
}

/// What forms have to send along, which nobody knows who does not know the session.
pub(in crate::web) fn form_token(session: &SecretString) -> String {
    let mut digest = sha2::Sha256::new();
    digest.update(b"form:");
    digest.update(session.expose_secret());
    hex::encode(digest.finalize())
}

/// Succeeds for a form that comes from one of our pages: browsers say so themselves, and whoever is signed in
/// proves it with `sent`.
pub(in crate::web) fn require_own_form(
    headers: &HeaderMap,
    method: &Method,
    base: &BaseUrl,
    sent: &str,
) -> Result<(), RegistryError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_own = match (text(SEC_FETCH_SITE), text("origin")) {
        (Some(site), _) => site == "same-origin",
        // Browsers that do not say it, and addresses without TLS.
        (None, Some(origin)) => host_of(origin) == host_of(base.as_str()),
        (None, None) => true,
    };
    let is_proved = match token(headers) {
        Some(session) => form_token(&session)
            .as_bytes()
            .ct_eq(sent.as_bytes())
            .into(),
        None => true,
    };
    if method == Method::POST && is_own && is_proved {
        Ok(())
    } else {
        Err(RegistryError::forbidden(
            "this form does not come from a page of this registry, or the page is too old; open it again",
        ))
    }
}
