//! Bodies of answers: whole documents in memory, tarballs as they come; none without end.

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use futures_util::stream;
use reqwest::Response;

use super::{UplinkError, breaker::Trial};

/// An object of at most `limit` decoded bytes.
pub(super) async fn read_document(
    mut response: Response,
    limit: u64,
) -> Result<Bytes, UplinkError> {
    let too_large = UplinkError::TooLarge { limit };
    if response
        .content_length()
        .is_some_and(|length| length > limit)
    {
        return Err(too_large);
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(UplinkError::from_reqwest)? {
        if body.is_empty() && !starts_an_object(&chunk) {
            return Err(UplinkError::BadBody("it is not a JSON object"));
        }
        body.extend_from_slice(&chunk);
        if length_of(&body) > limit {
            return Err(too_large);
        }
    }
    if body.is_empty() {
        return Err(UplinkError::BadBody("it is empty"));
    }
    Ok(body.freeze())
}

fn starts_an_object(chunk: &[u8]) -> bool {
    chunk
        .iter()
        .find(|byte| !byte.is_ascii_whitespace())
        .is_none_or(|&byte| byte == b'{')
}

fn length_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The body, with an error where it has another length than announced, or more than `limit` bytes.
/// How it ends is how `trial` ends.
pub(super) fn counted(
    response: Response,
    limit: u64,
    trial: Trial,
) -> impl Stream<Item = Result<Bytes, UplinkError>> + Send + 'static {
    let announced = response.content_length();
    let start = Some((response, 0_u64, trial));
    stream::unfold(start, move |coming| async move {
        let (mut response, received, trial) = coming?;
        let error = match response.chunk().await {
            Ok(Some(chunk)) => {
                let received = received.saturating_add(length_of(&chunk));
                if received <= limit {
                    return Some((Ok(chunk), Some((response, received, trial))));
                }
                UplinkError::TooLarge { limit }
            }
            Ok(None) => {
                let Some(announced) = announced.filter(|&announced| announced != received) else {
                    trial.succeeded();
                    return None;
                };
                UplinkError::Truncated {
                    received,
                    announced,
                }
            }
            Err(error) => UplinkError::from_reqwest(error),
        };
        if error.is_trouble() {
            trial.failed();
        } else {
            trial.succeeded();
        }
        Some((Err(error), None))
    })
}
