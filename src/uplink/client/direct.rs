//! Questions of commands that ask one registry directly, and want to know its very answer.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{MAX_REDIRECTS, Uplink, UplinkError, text_of};
use crate::lifecycle::elsewhere;

/// What was answered, whatever it was.
#[derive(Clone, Debug)]
pub struct DirectAnswer {
    /// The status.
    pub status: StatusCode,
    /// The `Retry-After` of the answer in seconds, where it has one in seconds.
    pub retry_after: Option<u64>,
    /// The body.
    pub body: Bytes,
}

impl Uplink {
    /// Asks once for `path` with this `Accept`, and reads at most `limit` bytes. Redirects are followed;
    /// credentials go to the registry itself only.
    pub async fn direct(
        &self,
        path: &str,
        accept: &'static str,
        limit: u64,
    ) -> Result<DirectAnswer, UplinkError> {
        let mut url = self.url_of(path)?;
        for _ in 0..=MAX_REDIRECTS {
            let client = self.client_for(&url).await?;
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            let identity = HeaderValue::from_static("identity");
            headers.insert(header::ACCEPT_ENCODING, identity);
            if url.origin() == self.base.origin() {
                headers.extend(self.own_headers.clone());
            }
            let request = client.get(url.clone()).headers(headers);
            let mut response = elsewhere(request.send())
                .await
                .map_err(UplinkError::from_reqwest)?;
            let status = response.status();
            if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
                let location = text_of(&response, &header::LOCATION);
                let location = location.ok_or(UplinkError::BadRedirect)?;
                url = url.join(&location).map_err(|_| UplinkError::BadRedirect)?;
                continue;
            }
            if response.headers().contains_key(header::CONTENT_ENCODING) {
                let message = "it has a content encoding that was not asked for";
                return Err(UplinkError::BadBody(message));
            }
            let retry_after = text_of(&response, &header::RETRY_AFTER);
            let mut body = BytesMut::new();
            while let Some(chunk) = response.chunk().await.map_err(UplinkError::from_reqwest)? {
                body.extend_from_slice(&chunk);
                if u64::try_from(body.len()).unwrap_or(u64::MAX) > limit {
                    return Err(UplinkError::TooLarge { limit });
                }
            }
            return Ok(DirectAnswer {
                status,
                retry_after: retry_after.and_then(|text| text.trim().parse().ok()),
                body: body.freeze(),
            });
        }
        Err(UplinkError::BadRedirect)
    }
}
