//! [`Error`]: how a failure looks to a client.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::Serialize;

use super::{recorded::Refusal, respond::json};
use crate::error::RegistryError;

/// A [`RegistryError`] on its way out.
#[derive(Debug)]
pub(super) struct Error(pub(super) RegistryError);

impl<E: Into<RegistryError>> From<E> for Error {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// The only challenge that is ever sent: npm hides our text behind any other. pnpm looks for the
/// word in lower case, older clients in upper case.
const ONE_TIME_PASS: HeaderValue = HeaderValue::from_static("OTP, otp");

/// Marks an answer that asks for a second factor.
#[derive(Clone, Debug)]
pub(super) struct Challenge {
    /// Whose second factor.
    pub(super) user: String,
    /// What is wrong.
    pub(super) message: &'static str,
}

/// The body of every error.
#[derive(Serialize)]
struct Body<'a> {
    error: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let Self(error) = self;
        if error.status().is_server_error() {
            // The only place where the cause is written down; clients never see it.
            tracing::error!(error = &error as &dyn std::error::Error, "request failed");
        }
        let text = error.to_string();
        let body = Body {
            error: &text,
            code: error.code(),
            hint: error.hint(),
        };
        let mut response = json(error.status(), &body);
        response.extensions_mut().insert(Refusal {
            code: error.code(),
            reason: text,
        });
        let headers = response.headers_mut();
        if let Some(wait) = error.retry_after() {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if matches!(error, RegistryError::OneTimePassRequired { .. }) {
            headers.insert(header::WWW_AUTHENTICATE, ONE_TIME_PASS);
        }
        if let RegistryError::RangeNotSatisfiable { length } = error
            && let Ok(range) = HeaderValue::try_from(format!("bytes */{length}"))
        {
            headers.insert(header::CONTENT_RANGE, range);
        }
        if let RegistryError::OneTimePassRequired { user, message } = error {
            response
                .extensions_mut()
                .insert(Challenge { user, message });
        }
        response
    }
}
