//! Bodies of answers: whole documents in memory, tarballs as they come; none without end.

use bytes::{Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};
use futures_core::Stream;
use futures_util::stream;
use http::header;
use reqwest::Response;

use super::{UplinkError, breaker::Trial};
use crate::{lifecycle::compute_on, models::ContentCoding};

const UNASKED: UplinkError =
    UplinkError::BadBody("it has a content encoding that was not asked for");
const NO_OBJECT: UplinkError = UplinkError::BadBody("it is not a JSON object");
const DAMAGED: UplinkError = UplinkError::BadBody("its gzip is damaged");
/// What RFC 1951 allows at most.
const WINDOW_BITS: u8 = 15;
/// DEFLATE cannot do better (RFC 1951: 258 bytes in two bits).
const MAX_RATIO: usize = 1032;

/// A body of at most `limit` bytes as it came, and its coding.
pub(super) async fn read_encoded(
    mut response: Response,
    limit: u64,
) -> Result<(Bytes, ContentCoding), UplinkError> {
    let coding = coding_of(&response)?;
    let too_large = UplinkError::TooLarge { limit };
    if response
        .content_length()
        .is_some_and(|length| length > limit)
    {
        return Err(too_large);
    }
    let announced = response.content_length().unwrap_or_default();
    let mut body = BytesMut::with_capacity(usize::try_from(announced).unwrap_or_default());
    while let Some(chunk) = response.chunk().await.map_err(UplinkError::from_reqwest)? {
        let is_first = body.is_empty();
        if is_first && coding == ContentCoding::Identity && !starts_an_object(&chunk) {
            return Err(NO_OBJECT);
        }
        body.extend_from_slice(&chunk);
        if length_of(&body) > limit {
            return Err(too_large);
        }
    }
    if body.is_empty() {
        return Err(UplinkError::BadBody("it is empty"));
    }
    Ok((body.freeze(), coding))
}

/// An object of at most `limit` bytes once it is decoded.
pub(super) async fn read_document(response: Response, limit: u64) -> Result<Bytes, UplinkError> {
    let (body, coding) = read_encoded(response, limit).await?;
    let length = decoded_length(&body, coding);
    let decoding = compute_on(length, move || decode(&body, coding, limit));
    decoding
        .await
        .map_err(|_| UplinkError::BadBody("nobody could decode it"))?
}

/// Decodes an object of at most `limit` bytes. Blocks for milliseconds where it is large.
pub(super) fn decode(
    body: &Bytes,
    coding: ContentCoding,
    limit: u64,
) -> Result<Bytes, UplinkError> {
    match coding {
        ContentCoding::Identity => return Ok(body.clone()),
        ContentCoding::Gzip => {}
        ContentCoding::Brotli | ContentCoding::Zstd => return Err(UNASKED),
    }
    // No more is decoded than the body says of itself: who calls has counted on that.
    let length = decoded_length(body, coding);
    if u64::try_from(length).unwrap_or(u64::MAX) > limit {
        return Err(UplinkError::TooLarge { limit });
    }
    // With a byte to spare, so that one that says too little is found out.
    let mut decoded = Vec::with_capacity(length.saturating_add(1));
    let mut decoder = Decompress::new_gzip(WINDOW_BITS);
    loop {
        let read_before = decoder.total_in();
        let read = usize::try_from(read_before).map_err(|_| DAMAGED)?;
        let rest = body.get(read..).unwrap_or_default();
        let before = decoded.len();
        let status = decoder.decompress_vec(rest, &mut decoded, FlushDecompress::None);
        let is_at_end = status.map_err(|_| DAMAGED)? == Status::StreamEnd;
        let has_moved = decoder.total_in() > read_before || decoded.len() > before;
        if decoded.len() > length || (!is_at_end && !has_moved) {
            return Err(DAMAGED);
        }
        if is_at_end {
            break;
        }
    }
    // Several members in a row (RFC 1952, section 2.2) are nothing that registries send.
    if decoder.total_in() != length_of(body) || decoded.len() != length {
        return Err(DAMAGED);
    }
    if !starts_an_object(&decoded) {
        return Err(NO_OBJECT);
    }
    Ok(decoded.into())
}

/// How long a body says it is once it is decoded, as far as that is possible: more is not decoded.
pub fn decoded_length(body: &[u8], coding: ContentCoding) -> usize {
    if coding == ContentCoding::Identity {
        return body.len();
    }
    // The last four bytes of a gzip member (RFC 1952, section 2.3.1).
    let tail = body.last_chunk::<4>().copied().unwrap_or_default();
    let length = usize::try_from(u32::from_le_bytes(tail)).unwrap_or(usize::MAX);
    length.min(body.len().saturating_mul(MAX_RATIO))
}

/// How the body is encoded; an error where nobody asked for that.
fn coding_of(response: &Response) -> Result<ContentCoding, UplinkError> {
    let mut codings = response.headers().get_all(header::CONTENT_ENCODING).iter();
    let coding = match codings.next() {
        None => ContentCoding::Identity,
        Some(coding) if coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            ContentCoding::Identity
        }
        Some(coding) if is_gzip(coding.as_bytes()) => ContentCoding::Gzip,
        Some(_) => return Err(UNASKED),
    };
    codings.next().map_or(Ok(coding), |_| Err(UNASKED))
}

/// Also by its older name (RFC 9110, section 8.4.1.3).
fn is_gzip(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip")
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
        trial.broke_off(&error);
        if error.is_trouble() {
            trial.failed();
        } else {
            trial.succeeded();
        }
        Some((Err(error), None))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decoded(body: Vec<u8>, limit: u64) -> Result<Bytes, UplinkError> {
        decode(&body.into(), ContentCoding::Gzip, limit)
    }

    #[test]
    fn what_says_less_than_it_is_costs_no_more_than_it_says() {
        let large = gzip(&[b"{".as_slice(), &vec![b' '; 1 << 20], b"}"].concat());
        let hidden = [large.clone(), gzip(b"")].concat();
        assert_eq!(decoded_length(&hidden, ContentCoding::Gzip), 0);
        let mut liar = large;
        let tail = liar.len() - 4;
        liar[tail..].copy_from_slice(&100_u32.to_le_bytes());
        for body in [hidden, liar] {
            assert!(matches!(
                decoded(body, 1 << 30),
                Err(UplinkError::BadBody(_))
            ));
        }
    }

    #[test]
    fn what_is_larger_than_allowed_is_refused_early() {
        let object = [b"{", &vec![b' '; 1 << 20][..]].concat();
        let body = gzip(&object);
        let exact = u64::try_from(object.len()).unwrap();
        assert_eq!(decoded(body.clone(), exact).unwrap(), object);
        // One that lies about its length is not believed, and neither is its neighbour.
        let mut liar = body.clone();
        let tail = liar.len() - 4;
        liar[tail..].fill(0xff);
        for (body, limit) in [(body.clone(), exact - 1), (liar, 1000)] {
            let refused = decoded(body, limit);
            assert!(matches!(refused, Err(UplinkError::TooLarge { limit: l }) if l == limit));
        }
    }

    proptest! {
        #[test]
        fn an_object_comes_back_and_nothing_less(
            text in ".{0,3000}",
            cut in any::<prop::sample::Index>(),
            flip in any::<(prop::sample::Index, u8)>(),
        ) {
            let object = format!("{{{text}}}");
            let body = gzip(object.as_bytes());
            prop_assert_eq!(&decoded(body.clone(), 100_000).unwrap()[..], object.as_bytes());
            let half = body[..cut.index(body.len())].to_vec();
            prop_assert!(decoded(half, 100_000).is_err());
            let mut other = body.clone();
            let (at, bits) = flip;
            other[at.index(body.len())] ^= bits;
            // A few bits of the head mean nothing; no other object comes out.
            if let Ok(same) = decoded(other, 100_000) {
                prop_assert_eq!(&same[..], object.as_bytes());
            }
        }

        #[test]
        fn rubbish_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let rubbish = [gzip(b"{}"), bytes].concat();
            prop_assume!(rubbish.len() > gzip(b"{}").len());
            prop_assert!(decoded(rubbish, 100_000).is_err());
        }
    }
}
