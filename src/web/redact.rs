//! [`redacted`]: a path as it may stand in a log.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// What stands before the secrets in paths.
const BEFORE_A_SECRET: [&[&str]; 4] = [
    &["-", "user", "token"],
    &["-", "npm", "v1", "tokens", "token"],
    &["-", "v1", "done"],
    &["-", "v1", "login_cli"],
];

/// The segments that come right before a secret.
const LAST_BEFORE: [&str; 3] = ["token", "done", "login_cli"];

/// `path`, as a client sent it, without tokens and the names of logins. It need not be a path of
/// ours: whoever logs out below the wrong prefix has sent a token all the same.
pub(super) fn redacted(path: &str) -> Cow<'_, str> {
    // Nearly no path has one, and every request comes by here.
    let may_have_one = path.contains('%') || LAST_BEFORE.iter().any(|last| path.contains(last));
    if !may_have_one {
        return Cow::Borrowed(path);
    }
    let mut seen: Vec<String> = Vec::new();
    for (at, segment) in segments(path) {
        let is_secret = BEFORE_A_SECRET.iter().any(|before| {
            let start = seen.len().checked_sub(before.len());
            start
                .and_then(|start| seen.get(start..))
                .is_some_and(|last| last == *before)
        });
        if is_secret {
            return format!("{}***", path.get(..at).unwrap_or_default()).into();
        }
        seen.push(percent_decode_str(segment).decode_utf8_lossy().into_owned());
    }
    Cow::Borrowed(path)
}

/// The segments that are not empty, and where they begin.
fn segments(path: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    path.split('/')
        .map(move |segment| {
            let start = at;
            at += segment.len() + 1;
            (start, segment)
        })
        .filter(|(_, segment)| !segment.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        for (path, expected) in [
            ("/-/user/token/rca_1", "/-/user/token/***"),
            ("/npm/-/user/token/rca_1", "/npm/-/user/token/***"),
            ("//-//user/%74oken/rca_1/x", "//-//user/%74oken/***"),
            ("/-/npm/v1/tokens/token/rca_1", "/-/npm/v1/tokens/token/***"),
            ("/-/v1/done/abc", "/-/v1/done/***"),
            ("/-/v1/login_cli/abc", "/-/v1/login_cli/***"),
            ("/-/v1/done/", "/-/v1/done/"),
            ("/-/npm/v1/tokens", "/-/npm/v1/tokens"),
            ("/token/-/token-1.0.0.tgz", "/token/-/token-1.0.0.tgz"),
            ("/@s%2ftoken/done", "/@s%2ftoken/done"),
            ("", ""),
        ] {
            assert_eq!(redacted(path), expected);
        }
    }
}
