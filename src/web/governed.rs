//! [`admit`]: rate limits and quotas before a request meets its route.

use std::{fmt::Write as _, time::Duration};

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};

use super::{error::Error, extract::Credentials, state::WebState};
use crate::{
    error::RegistryError,
    governance::{Class, Standing},
};

/// The limits, and what is left of them, as the IETF's draft of these headers writes them.
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// How far the limits of a caller are used up.
#[derive(Default)]
pub(super) struct Standings(Vec<Standing>);

/// The limits of one who may go on; the answer for one who may not.
///
/// A refused body is read to its end all the same, see `watched`.
pub(super) async fn admit(state: &WebState, parts: &Parts) -> Result<Standings, Box<Response>> {
    if !state.governance.is_asked() {
        return Ok(Standings::default());
    }
    // In a box: room for it would be made where nobody is asked too.
    Box::pin(ask(state, parts)).await
}

async fn ask(state: &WebState, parts: &Parts) -> Result<Standings, Box<Response>> {
    let Some(Credentials { caller, .. }) = parts.extensions.get() else {
        let error = RegistryError::internal("the caller was not identified");
        return Err(Box::new(Error(error).into_response()));
    };
    let class = Class::of(&parts.method, parts.uri.path());
    let admission = state.governance.admit(caller, class).await;
    let standings = Standings(admission.standings);
    match admission.refusal {
        None => Ok(standings),
        Some(refusal) => {
            let mut response = Error(refusal).into_response();
            standings.tell(response.headers_mut());
            Err(Box::new(response))
        }
    }
}

impl Standings {
    /// Says so in an answer.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        if self.0.is_empty() {
            return;
        }
        let (mut policies, mut standings) = (String::new(), String::new());
        for (number, standing) in self.0.iter().enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            let Standing { policy, limit, .. } = standing;
            let window = whole_seconds(standing.window);
            let (left, reset) = (standing.remaining, whole_seconds(standing.resets_in));
            let written = write!(policies, "{comma}\"{policy}\";q={limit};w={window}")
                .and_then(|()| write!(standings, "{comma}\"{policy}\";r={left};t={reset}"));
            debug_assert!(written.is_ok(), "a String takes all");
        }
        for (name, text) in [(RATELIMIT_POLICY, policies), (RATELIMIT, standings)] {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        }
    }
}

/// Rounded up: nobody shall come back too early.
fn whole_seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}
