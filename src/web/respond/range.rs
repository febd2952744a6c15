//! [`parse_range`]: one range of bytes (RFC 9110, section 14).

use std::ops::Range;

use http::{HeaderMap, header};

/// What of a body to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// Nothing that there is.
    Unsatisfiable,
}

/// What the `Range` header wants of a body of `length` bytes. Several ranges, other units and what
/// cannot be read ask for the whole, as the RFC allows.
pub(super) fn parse_range(request: &HeaderMap, length: u64) -> Wanted {
    let header = request.get(header::RANGE);
    let text = header.and_then(|value| value.to_str().ok());
    let spec = text
        .and_then(|text| text.trim().strip_prefix("bytes="))
        .filter(|spec| !spec.contains(','));
    let Some((first, last)) = spec.and_then(|spec| spec.trim().split_once('-')) else {
        return Wanted::Whole;
    };
    match (number(first), number(last)) {
        (Number::Some(first), Number::Some(last)) if first > last => Wanted::Whole,
        (Number::Some(first), last) if !matches!(last, Number::Bad) => {
            let end = match last {
                Number::Some(last) => length.min(last.saturating_add(1)),
                _ => length,
            };
            if first < end {
                Wanted::Part(first..end)
            } else {
                Wanted::Unsatisfiable
            }
        }
        (Number::None, Number::Some(0)) => Wanted::Unsatisfiable,
        (Number::None, Number::Some(_)) if length == 0 => Wanted::Unsatisfiable,
        (Number::None, Number::Some(count)) => Wanted::Part(length.saturating_sub(count)..length),
        _ => Wanted::Whole,
    }
}

enum Number {
    None,
    Some(u64),
    Bad,
}

fn number(text: &str) -> Number {
    let text = text.trim();
    if text.is_empty() {
        return Number::None;
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Number::Bad;
    }
    // More digits than fit mean "as far as there is".
    Number::Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn parse(header: &str, length: u64) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(header).unwrap());
        parse_range(&headers, length)
    }

    #[test]
    fn one_range() {
        assert_eq!(parse("bytes=0-3", 10), Wanted::Part(0..4));
        assert_eq!(parse("bytes=5-", 10), Wanted::Part(5..10));
        assert_eq!(parse("bytes=-3", 10), Wanted::Part(7..10));
        assert_eq!(parse("bytes=-30", 10), Wanted::Part(0..10));
        assert_eq!(parse("bytes=5-100", 10), Wanted::Part(5..10));
        assert_eq!(
            parse("bytes=5-99999999999999999999999", 10),
            Wanted::Part(5..10)
        );
    }

    #[test]
    fn nothing_there() {
        assert_eq!(parse("bytes=10-", 10), Wanted::Unsatisfiable);
        assert_eq!(parse("bytes=-0", 10), Wanted::Unsatisfiable);
        assert_eq!(parse("bytes=0-0", 0), Wanted::Unsatisfiable);
        assert_eq!(parse("bytes=-1", 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn what_is_not_understood_is_ignored() {
        for header in [
            "bytes=3-1",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=1-2,4-5",
            "lines=1-2",
            "bytes=+1-2",
        ] {
            assert_eq!(parse(header, 10), Wanted::Whole, "{header}");
        }
        assert_eq!(parse_range(&HeaderMap::new(), 10), Wanted::Whole);
    }

    proptest! {
        #[test]
        fn parts_are_inside(header in "bytes=[0-9]{0,22}-[0-9]{0,22}", length in any::<u64>()) {
            if let Wanted::Part(part) = parse(&header, length) {
                prop_assert!(part.start < part.end && part.end <= length);
            }
        }

        #[test]
        fn never_panics(header in "[ -~]{0,40}", length in any::<u64>()) {
            parse(&header, length);
        }
    }
}
