//! [`OnlyJson`]: a body that says that it is JSON. No form of another site can say so.

use axum::extract::{FromRequest, Request};
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use crate::{
    error::RegistryError,
    web::{error::Error, extract::Json, state::WebState},
};

/// A small body as JSON, which says so.
pub(in crate::web) struct OnlyJson<T>(pub(in crate::web) T);

impl<T: DeserializeOwned> FromRequest<WebState> for OnlyJson<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &WebState) -> Result<Self, Error> {
        if !is_json(request.headers()) {
            let message = "send the body as JSON, with `content-type: application/json`";
            return Err(RegistryError::bad_request(message).into());
        }
        let Json(body) = Json::from_request(request, state).await?;
        Ok(Self(body))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok());
    let kind = text.and_then(|text| text.split(';').next());
    kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
