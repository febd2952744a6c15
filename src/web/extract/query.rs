//! [`Query`]: the query, leniently: what is not understood is passed over.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;

/// The pairs of a query; of a key that stands twice the last one counts.
#[derive(Debug, Default)]
pub(in crate::web) struct Query(Vec<(String, String)>);

impl Query {
    /// The value of `key`.
    pub(in crate::web) fn get(&self, key: &str) -> Option<&str> {
        let pair = self.0.iter().rev().find(|(name, _)| name == key);
        pair.map(|(_, value)| value.as_str())
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let text = parts.uri.query().unwrap_or_default();
        let pairs = url::form_urlencoded::parse(text.as_bytes());
        Ok(Self(pairs.into_owned().collect()))
    }
}
