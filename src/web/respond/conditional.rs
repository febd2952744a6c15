//! [`is_unchanged`]: whether a client already has what it asks for (RFC 9110, section 13).

use http::{HeaderMap, header};

use crate::models::{Timestamp, parse_http_date};

/// Whether to answer 304. `If-None-Match` overrules `If-Modified-Since`.
pub(super) fn is_unchanged(
    request: &HeaderMap,
    etag: Option<&str>,
    modified: Option<Timestamp>,
) -> bool {
    if request.contains_key(header::IF_NONE_MATCH) {
        return etag.is_some_and(|etag| {
            let lists = request.get_all(header::IF_NONE_MATCH).into_iter();
            lists
                .filter_map(|value| value.to_str().ok())
                .any(|list| names(list, etag))
        });
    }
    let since = request
        .get(header::IF_MODIFIED_SINCE)
        .and_then(|value| parse_http_date(value.to_str().ok()?));
    let (Some(since), Some(modified)) = (since, modified) else {
        return false;
    };
    // The date on the wire has seconds only.
    modified.unix_millis() / 1000 <= since.unix_millis() / 1000
}

/// Whether the list has `etag`, by weak comparison. Our tags contain no comma.
fn names(list: &str, etag: &str) -> bool {
    list.split(',')
        .map(str::trim)
        .any(|item| item == "*" || item.strip_prefix("W/").unwrap_or(item) == etag)
}

/// Whether `If-Range`, if there is one, allows a part to be sent. Only a strong tag of ours does.
pub(super) fn allows_part(request: &HeaderMap, etag: Option<&str>) -> bool {
    match request.get(header::IF_RANGE) {
        None => true,
        Some(value) => value.to_str().ok().is_some_and(|sent| Some(sent) == etag),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[track_caller]
    fn check(header: HeaderName, value: &str, expected: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(header, HeaderValue::from_str(value).unwrap());
        let modified = Timestamp::parse_rfc3339("2026-01-02T03:04:05.678Z");
        assert_eq!(
            is_unchanged(&headers, Some("\"a-gzip\""), modified),
            expected,
            "{value}"
        );
    }

    #[test]
    fn tags_and_dates() {
        check(header::IF_NONE_MATCH, "\"a-gzip\"", true);
        check(header::IF_NONE_MATCH, "\"b\" , W/\"a-gzip\"", true);
        check(header::IF_NONE_MATCH, "*", true);
        check(header::IF_NONE_MATCH, "\"a\"", false);
        check(header::IF_NONE_MATCH, "a-gzip", false);
        let same = "Fri, 02 Jan 2026 03:04:05 GMT";
        check(header::IF_MODIFIED_SINCE, same, true);
        check(
            header::IF_MODIFIED_SINCE,
            "Fri, 02 Jan 2026 03:04:04 GMT",
            false,
        );
        check(header::IF_MODIFIED_SINCE, "yesterday", false);
    }

    #[test]
    fn a_wrong_tag_beats_a_right_date() {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"b\""));
        headers.insert(
            header::IF_MODIFIED_SINCE,
            HeaderValue::from_static("Fri, 02 Jan 2032 03:04:05 GMT"),
        );
        let modified = Timestamp::parse_rfc3339("2026-01-02T03:04:05.678Z");
        assert!(!is_unchanged(&headers, Some("\"a\""), modified));
    }
}
