//! Request bodies: bounded in size, in time without progress, and in what they decompress to.

use std::{io::Write as _, pin::Pin, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use bytes::Bytes;
use flate2::write::{GzDecoder, ZlibDecoder};
use futures_core::Stream;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use crate::{
    error::RegistryError,
    web::{error::Error, state::WebState},
};

/// Largest body of anything but a package, in bytes.
const MAX_JSON: u64 = 1024 * 1024;
/// Compressed bytes that are decoded at once; a thousand times as much may come out.
const SLICE: usize = 256;
/// Decoded bytes that are handed on together, give or take what one slice becomes.
const PIECE: usize = 64 * 1024;

/// Decoded pieces of a body, or why there are no more.
type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, RegistryError>> + Send>>;

/// The body as it comes, decoded.
pub(in crate::web) struct BodyReader(pub(in crate::web) Pieces);

/// A small body as JSON.
pub(in crate::web) struct Json<T>(pub(in crate::web) T);

impl FromRequest<WebState> for BodyReader {
    type Rejection = Error;

    async fn from_request(request: Request, state: &WebState) -> Result<Self, Error> {
        let limit = state.settings.max_body_size;
        Ok(Self(pieces(
            request,
            limit,
            state.settings.request_timeout,
        )?))
    }
}

impl<T: DeserializeOwned> FromRequest<WebState> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &WebState) -> Result<Self, Error> {
        let body = small_body(request, state).await?;
        let parsed = serde_json::from_slice(&body);
        parsed.map(Self).map_err(|error| {
            let message = match error.classify() {
                serde_json::error::Category::Data => {
                    format!("the parameters are not valid: {error}")
                }
                _ => "the body is not valid JSON".to_owned(),
            };
            Error(RegistryError::bad_request(message))
        })
    }
}

/// The whole of a small body, decoded.
pub(in crate::web) async fn small_body(
    request: Request,
    state: &WebState,
) -> Result<Vec<u8>, RegistryError> {
    let limit = state.settings.max_body_size.min(MAX_JSON);
    let mut pieces = pieces(request, limit, state.settings.request_timeout)?;
    let mut body = Vec::new();
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece?);
    }
    Ok(body)
}

fn pieces(request: Request, limit: u64, timeout: Duration) -> Result<Pieces, RegistryError> {
    let (parts, body) = request.into_parts();
    let length = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let decoder = Decoder::of(&parts.headers)?;
    let start = Reading {
        body,
        decoder,
        timeout,
        undecoded: Bytes::new(),
        is_too_large: length.is_some_and(|length| length > limit),
        received: 0,
        decoded: 0,
        limit,
    };
    let pieces = stream::try_unfold(Some(start), |reading| async move {
        match reading {
            Some(reading) => reading.next().await,
            None => Ok(None),
        }
    });
    Ok(Box::pin(pieces))
}

struct Reading {
    body: Body,
    decoder: Decoder,
    timeout: Duration,
    /// What has come and is not decoded yet.
    undecoded: Bytes,
    /// Whether its length says so. An error only to who reads it: whether the caller may send
    /// anything comes first.
    is_too_large: bool,
    received: u64,
    decoded: u64,
    limit: u64,
}

impl Reading {
    /// The next decoded piece; the state is `None` after the last one. Memory is one frame as it
    /// was sent, and one piece, whatever the frame decodes to.
    async fn next(mut self) -> Result<Option<(Bytes, Option<Self>)>, RegistryError> {
        if self.is_too_large {
            return Err(RegistryError::PayloadTooLarge { limit: self.limit });
        }
        loop {
            let decoded = self.decoder.decode(&mut self.undecoded)?;
            self.count(0, decoded.len())?;
            if !decoded.is_empty() {
                return Ok(Some((decoded, Some(self))));
            }
            let frame = http_body_util::BodyExt::frame(&mut self.body);
            let frame = tokio::time::timeout(self.timeout, frame)
                .await
                .map_err(|_| RegistryError::RequestTimeout)?;
            let Some(frame) = frame else {
                let rest = self.decoder.finish()?;
                self.count(0, rest.len())?;
                return Ok((!rest.is_empty()).then_some((rest, None)));
            };
            let frame = frame.map_err(|_| {
                RegistryError::bad_request("the connection ended before the request did")
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            self.count(data.len(), 0)?;
            self.undecoded = data;
        }
    }

    fn count(&mut self, received: usize, decoded: usize) -> Result<(), RegistryError> {
        let add =
            |sum: u64, count: usize| sum.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        self.received = add(self.received, received);
        self.decoded = add(self.decoded, decoded);
        if self.received.max(self.decoded) > self.limit {
            return Err(RegistryError::PayloadTooLarge { limit: self.limit });
        }
        Ok(())
    }
}

enum Decoder {
    Identity,
    Gzip(GzDecoder<Vec<u8>>),
    Deflate(ZlibDecoder<Vec<u8>>),
}

impl Decoder {
    fn of(headers: &HeaderMap) -> Result<Self, RegistryError> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else {
            return Ok(Self::Identity);
        };
        match value.to_str().map(str::trim).unwrap_or_default() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip(GzDecoder::new(Vec::new()))),
            "deflate" => Ok(Self::Deflate(ZlibDecoder::new(Vec::new()))),
            _ => Err(RegistryError::bad_request(
                "unsupported content encoding: send gzip, deflate, or none",
            )),
        }
    }

    /// Decodes from the start of `data` what makes a piece, and takes it off. Nothing comes out
    /// only when `data` is used up.
    fn decode(&mut self, data: &mut Bytes) -> Result<Bytes, RegistryError> {
        let mut decoded = Vec::new();
        while !data.is_empty() && decoded.len() < PIECE {
            if matches!(self, Self::Identity) {
                return Ok(std::mem::take(data));
            }
            let slice = data.split_to(data.len().min(SLICE));
            let out = match self {
                Self::Identity => Ok(Vec::new()),
                Self::Gzip(decoder) => decoder
                    .write_all(&slice)
                    .map(|()| std::mem::take(decoder.get_mut())),
                Self::Deflate(decoder) => decoder
                    .write_all(&slice)
                    .map(|()| std::mem::take(decoder.get_mut())),
            };
            decoded.append(&mut out.map_err(undecodable)?);
        }
        Ok(decoded.into())
    }

    fn finish(&mut self) -> Result<Bytes, RegistryError> {
        let rest = match self {
            Self::Identity => return Ok(Bytes::new()),
            Self::Gzip(decoder) => decoder
                .try_finish()
                .map(|()| std::mem::take(decoder.get_mut())),
            Self::Deflate(decoder) => decoder
                .try_finish()
                .map(|()| std::mem::take(decoder.get_mut())),
        };
        Ok(rest.map_err(undecodable)?.into())
    }
}

fn undecodable(_: std::io::Error) -> RegistryError {
    RegistryError::bad_request("the body does not have the content encoding that it claims")
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};
    use http::HeaderValue;

    use super::*;

    async fn read(
        body: Vec<Vec<u8>>,
        encoding: Option<&str>,
        limit: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let chunks = body.into_iter().map(Ok::<_, std::io::Error>);
        let mut request = Request::new(Body::from_stream(stream::iter(chunks)));
        if let Some(encoding) = encoding {
            let value = HeaderValue::from_str(encoding).unwrap();
            request
                .headers_mut()
                .insert(header::CONTENT_ENCODING, value);
        }
        let mut pieces = pieces(request, limit, Duration::from_secs(5))?;
        let mut whole = Vec::new();
        while let Some(piece) = pieces.next().await {
            whole.extend_from_slice(&piece?);
        }
        Ok(whole)
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn compressed_bodies_are_decoded() {
        let text = b"hello ".repeat(10_000);
        let pieces: Vec<Vec<u8>> = gzip(&text).chunks(7).map(<[u8]>::to_vec).collect();
        assert_eq!(read(pieces, Some("gzip"), 1 << 20).await.unwrap(), text);
        assert_eq!(read(vec![text.clone()], None, 1 << 20).await.unwrap(), text);
        let rubbish = read(vec![text.clone()], Some("gzip"), 1 << 20).await;
        assert_eq!(rubbish.unwrap_err().status(), 400);
        let unknown = read(vec![text], Some("br"), 1 << 20).await;
        assert_eq!(unknown.unwrap_err().status(), 400);
    }

    #[tokio::test]
    async fn limits_count_what_comes_out() {
        let bomb = gzip(&vec![0; 8 << 20]);
        let refused = read(vec![bomb], Some("gzip"), 1 << 20).await;
        assert_eq!(refused.unwrap_err().status(), 413);
        let refused = read(vec![vec![0; 10], vec![0; 10]], None, 16).await;
        assert_eq!(refused.unwrap_err().status(), 413);
    }

    #[tokio::test]
    async fn what_comes_out_of_one_frame_comes_in_small_pieces() {
        let mut request = Request::new(Body::from(gzip(&vec![0; 64 << 20])));
        let gzip = HeaderValue::from_static("gzip");
        request.headers_mut().insert(header::CONTENT_ENCODING, gzip);
        let mut pieces = pieces(request, 1 << 30, Duration::from_secs(5)).unwrap();
        let (mut largest, mut sum) = (0, 0);
        while let Some(piece) = pieces.next().await {
            let length = piece.unwrap().len();
            largest = largest.max(length);
            sum += length;
        }
        assert_eq!(sum, 64 << 20);
        assert!(largest <= PIECE + SLICE * 1100, "{largest}");
    }

    #[tokio::test]
    async fn a_body_that_stands_still_is_given_up() {
        let still = stream::iter([Ok::<_, std::io::Error>("x")]).chain(stream::pending());
        let request = Request::new(Body::from_stream(still));
        let mut pieces = pieces(request, 100, Duration::from_millis(50)).unwrap();
        assert_eq!(pieces.next().await.unwrap().unwrap(), "x");
        let given_up = pieces.next().await.unwrap();
        assert_eq!(given_up.unwrap_err().status(), 408);
    }
}
