//! [`admit`]: rate limits and quotas before a request meets its route.

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, request::Parts};

use super::{error::Error, extract::Credentials, state::WebState};
use crate::{
    error::RegistryError,
    governance::{Class, Told},
};

/// The limits, and what is left of them.
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// What the answer of one who may go on says of limits; the answer for one who may not.
///
/// A refused body is read to its end all the same, see `watched`.
pub(super) async fn admit(
    state: &WebState,
    parts: &Parts,
) -> Result<Option<Box<Told>>, Box<Response>> {
    if !state.governance.is_asked() {
        return Ok(None);
    }
    // In a box: room for it would be made where nobody is asked too.
    Box::pin(ask(state, parts)).await
}

async fn ask(state: &WebState, parts: &Parts) -> Result<Option<Box<Told>>, Box<Response>> {
    let Some(Credentials { caller, .. }) = parts.extensions.get() else {
        let error = RegistryError::internal("the caller was not identified");
        return Err(Box::new(Error(error).into_response()));
    };
    let class = Class::of(&parts.method, parts.uri.path());
    let admission = state.governance.admit(caller, class).await;
    match admission.refusal {
        None => Ok(admission.told),
        Some(refusal) => {
            let mut response = Error(*refusal).into_response();
            tell(admission.told, response.headers_mut());
            Err(Box::new(response))
        }
    }
}

/// Says so in an answer.
pub(super) fn tell(told: Option<Box<Told>>, headers: &mut HeaderMap) {
    if let Some(told) = told {
        let Told { policy, standing } = *told;
        headers.insert(RATELIMIT_POLICY, policy);
        headers.insert(RATELIMIT, standing);
    }
}
