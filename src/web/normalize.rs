//! [`canonical_path`]: every spelling of a path becomes one, before routing.
//!
//! Clients write a scoped name as `@s/n`, `@s%2fn`, `@s%2Fn` or `%40s%2fn`, and some repeat the
//! scope before a file name. Here a package is one segment, `@s%2Fn`, and nothing else is encoded
//! that need not be.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What a segment of a path may not contain (RFC 3986, section 3.3), and `/`.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The path cannot be one of ours, whatever it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid path: {0}")]
pub(super) struct InvalidPath(&'static str);

/// The canonical form of `path`, which is as the client sent it.
pub(super) fn canonical_path(path: &str) -> Result<Cow<'_, str>, InvalidPath> {
    if is_plain(path) {
        return Ok(Cow::Borrowed(path));
    }
    let segments = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(decode)
        .collect::<Result<Vec<_>, _>>()?;
    let mut canonical = String::with_capacity(path.len() + 1);
    for segment in join_names(segments) {
        canonical.push('/');
        canonical.extend(utf8_percent_encode(&segment, ENCODED));
    }
    if canonical.is_empty() {
        canonical.push('/');
    }
    Ok(Cow::Owned(canonical))
}

/// Whether a path certainly is canonical: no scope, nothing encoded, no empty or climbing segment.
/// Most are, and take no memory then.
fn is_plain(path: &str) -> bool {
    let Some(segments) = path.strip_prefix('/') else {
        return false;
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~:!*'()+,;=$&".contains(&byte);
    segments
        .split('/')
        .all(|segment| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain))
}

fn decode(segment: &str) -> Result<String, InvalidPath> {
    let bytes = segment.as_bytes();
    for (at, _) in segment.match_indices('%') {
        let digits = bytes.get(at + 1..at + 3).unwrap_or_default();
        if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(InvalidPath("a `%` is not followed by two digits"));
        }
    }
    let decoded = percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| InvalidPath("it is not UTF-8"))?;
    if decoded.chars().any(char::is_control) {
        return Err(InvalidPath("it contains a control character"));
    }
    let climbs = decoded
        .split(['/', '\\'])
        .any(|part| matches!(part, "." | ".."));
    if climbs {
        return Err(InvalidPath("it contains `.` or `..`"));
    }
    Ok(decoded.into_owned())
}

/// What stands before a package's name in paths of `/-/`.
const BEFORE_A_NAME: [&[&str]; 9] = [
    &["-", "package"],
    &["-", "npm", "v1", "attestations"],
    &["-", "user", "package"],
    &["-", "web", "detail"],
    &["-", "web", "raw"],
    &["-", "web", "tarball"],
    &["-", "verdaccio", "data", "package", "readme"],
    &["-", "verdaccio", "data", "sidebar"],
    // A scoped name is what people look for.
    &["-", "verdaccio", "data", "search"],
];

fn starts_with(segments: &[String], before: &[&str]) -> bool {
    segments.len() > before.len() && segments.iter().zip(before).all(|(one, other)| one == other)
}

/// Makes one segment of each scoped name, and takes the scope off a file name.
fn join_names(segments: Vec<String>) -> Vec<String> {
    let name_at = match segments.first().map(String::as_str) {
        Some("-") => match BEFORE_A_NAME
            .iter()
            .find(|before| starts_with(&segments, before))
        {
            Some(before) => before.len(),
            None => return segments,
        },
        _ => 0,
    };
    let mut rest = segments.into_iter().peekable();
    let mut joined: Vec<String> = rest.by_ref().take(name_at).collect();
    let name = next_name(&mut rest);
    let scope = name
        .as_deref()
        .and_then(|name| name.split_once('/'))
        .map(|(scope, _)| scope.to_owned());
    joined.extend(name);
    if name_at == 0 && rest.peek().is_some_and(|next| next == "-") {
        joined.extend(rest.next());
        joined.extend(file_name(&mut rest, scope.as_deref()));
    }
    joined.extend(rest);
    joined
}

/// The next segment without the scope that some clients put before a file's name, in the same
/// segment or in one of its own.
fn file_name(
    rest: &mut std::iter::Peekable<impl Iterator<Item = String>>,
    scope: Option<&str>,
) -> Option<String> {
    let first = rest.next()?;
    let is_file = |text: &str| !text.is_empty() && !text.starts_with('@') && !text.contains('/');
    let Some(scope) = scope else {
        return Some(first);
    };
    if first == scope && rest.peek().is_some_and(|next| is_file(next)) {
        return rest.next();
    }
    let own = first
        .strip_prefix(scope)
        .and_then(|own| own.strip_prefix('/'));
    match own.filter(|own| is_file(own)) {
        Some(own) => Some(own.to_owned()),
        None => Some(first),
    }
}

/// The next segment, with the one after it where it is a scope alone.
fn next_name(rest: &mut impl Iterator<Item = String>) -> Option<String> {
    let first = rest.next()?;
    if !first.starts_with('@') || first.contains('/') {
        return Some(first);
    }
    Some(match rest.next() {
        Some(second) => format!("{first}/{second}"),
        None => first,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(path: &str, expected: &str) {
        assert_eq!(canonical_path(path), Ok(expected.into()), "{path}");
    }

    #[test]
    fn a_scoped_name_is_one_segment() {
        for name in [
            "@s/n", "@s%2fn", "@s%2Fn", "%40s%2fn", "%40s/n", "/@s/n", "@s//n",
        ] {
            check(&format!("/{name}"), "/@s%2Fn");
            check(&format!("/{name}/"), "/@s%2Fn");
            check(&format!("/{name}/1.0.0"), "/@s%2Fn/1.0.0");
            check(&format!("/{name}/-rev/1-a"), "/@s%2Fn/-rev/1-a");
            check(&format!("/{name}/-/n-1.0.0.tgz"), "/@s%2Fn/-/n-1.0.0.tgz");
            check(
                &format!("/-/package/{name}/dist-tags/latest"),
                "/-/package/@s%2Fn/dist-tags/latest",
            );
            for before in ["package/readme", "sidebar", "search"] {
                let before = format!("/-/verdaccio/data/{before}");
                check(&format!("{before}/{name}"), &format!("{before}/@s%2Fn"));
                check(
                    &format!("{before}/{name}/1.0.0"),
                    &format!("{before}/@s%2Fn/1.0.0"),
                );
            }
        }
    }

    #[test]
    fn the_scope_of_a_file_is_dropped() {
        for file in ["@s/n-1.0.0.tgz", "@s%2fn-1.0.0.tgz", "n-1.0.0.tgz"] {
            check(
                &format!("/@s/n/-/{file}/-rev/1-a"),
                "/@s%2Fn/-/n-1.0.0.tgz/-rev/1-a",
            );
        }
    }

    #[test]
    fn other_paths_stay() {
        check("/", "/");
        check("", "/");
        check("//", "/");
        check("/-/ping", "/-/ping");
        check("/%2D/ping", "/-/ping");
        check("/lodash/%6catest", "/lodash/latest");
        check(
            "/-/user/org.couchdb.user:a%2Fb",
            "/-/user/org.couchdb.user:a%2Fb",
        );
        check("/a%3Fb/c%23d", "/a%3Fb/c%23d");
        check("/@s", "/@s");
        check("/__proto__/constructor", "/__proto__/constructor");
    }

    #[test]
    fn paths_that_climb_or_confuse_are_refused() {
        for path in [
            "/..",
            "/a/../b",
            "/%2e%2e/b",
            "/a/%2e%2e%2fetc",
            "/a/-/..%2f..%2fx.tgz",
            "/a/.",
            "/a%00",
            "/a%0d%0ab",
            "/%ff",
            "/%c0%ae",
            "/%",
            "/%4",
            "/%zz",
            "/a/..%5c..%5cx",
        ] {
            assert!(canonical_path(path).is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_a_second_time_changes_nothing(path in "(/|%2f|%40|@|-|[a-c.%]|\\PC){0,40}") {
            if let Ok(canonical) = canonical_path(&path) {
                prop_assert!(canonical.starts_with('/'));
                prop_assert_eq!(canonical_path(&canonical), Ok(canonical.clone()));
            }
        }
    }
}
