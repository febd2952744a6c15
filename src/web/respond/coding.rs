//! [`choose_coding`]: which content coding a client wants (RFC 9110, section 12.5.3).

use http::{HeaderMap, header};

use crate::models::ContentCoding;

/// Best first among those that the client likes equally.
const PREFERRED: [(ContentCoding, &str); 3] = [
    (ContentCoding::Zstd, "zstd"),
    (ContentCoding::Brotli, "br"),
    (ContentCoding::Gzip, "gzip"),
];

/// The coding to answer with. What cannot be read in the header is passed over.
pub(in crate::web) fn choose_coding(request: &HeaderMap) -> ContentCoding {
    let mut any = None;
    let mut named = [None; PREFERRED.len()];
    let header = request.get_all(header::ACCEPT_ENCODING).into_iter();
    let texts = header.filter_map(|value| value.to_str().ok());
    for (name, quality) in texts.flat_map(|text| text.split(',')).filter_map(item) {
        let seen = PREFERRED.iter().zip(&mut named);
        for ((_, token), seen) in seen {
            if name.eq_ignore_ascii_case(token) {
                seen.get_or_insert(quality);
            }
        }
        if name == "*" {
            any.get_or_insert(quality);
        }
    }
    let mut best = (ContentCoding::Identity, 0);
    for ((coding, _), quality) in PREFERRED.into_iter().zip(named) {
        let quality = quality.or(any).unwrap_or(0);
        if quality > best.1 {
            best = (coding, quality);
        }
    }
    best.0
}

/// A name and its quality in thousandths.
fn item(text: &str) -> Option<(&str, u16)> {
    let (name, parameters) = text.split_once(';').unwrap_or((text, ""));
    let quality = parameters.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    let quality = match quality {
        None => 1000,
        Some(text) => thousandths(text)?,
    };
    Some((name.trim(), quality))
}

/// `0.125` as 125; at most three decimals count.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = decimals.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "1" => Some(1000),
        "0" if is_number => format!("{decimals:0<3}").get(..3)?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(header: &str, expected: ContentCoding) {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_str(header).unwrap(),
        );
        assert_eq!(choose_coding(&headers), expected, "{header}");
    }

    #[test]
    fn the_best_that_the_client_takes() {
        check("gzip,deflate", ContentCoding::Gzip);
        check("gzip, deflate, br", ContentCoding::Brotli);
        check("gzip, br, zstd", ContentCoding::Zstd);
        check("gzip;q=1.0, br;q=0.5", ContentCoding::Gzip);
        check("br;q=0, gzip;q=0.001", ContentCoding::Gzip);
        check("*", ContentCoding::Zstd);
        check("*;q=0", ContentCoding::Identity);
        check("zstd;q=0, *", ContentCoding::Brotli);
        check("identity", ContentCoding::Identity);
        check("gzip/deflate", ContentCoding::Identity);
        check("gzip;q=x", ContentCoding::Identity);
        assert_eq!(choose_coding(&HeaderMap::new()), ContentCoding::Identity);
    }

    proptest! {
        #[test]
        fn never_panics(header in "[ -~]{0,60}") {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(&header).unwrap());
            choose_coding(&headers);
        }
    }
}
