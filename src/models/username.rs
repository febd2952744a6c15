//! [`Username`]: the name of a local user.

use std::{fmt, str::FromStr, sync::Arc};

const MAX_LENGTH: usize = 214;

/// A user name that survives a URL: not empty, no control or white space, no separator, no colon
/// (Basic credentials end the name there).
///
/// Which names may be *registered* is a question of policy and asked at registration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Username(Arc<str>);

/// The text cannot be a user name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("username should not contain non-uri-safe characters")]
pub struct InvalidUsername(String);

impl Username {
    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is one that no user may register: it begins with `$` or `@`, or rules
    /// give it a meaning of their own.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(['$', '@']) || matches!(&*self.0, "all" | "anonymous" | "undefined")
    }
}

impl FromStr for Username {
    type Err = InvalidUsername;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The characters that `encodeURIComponent` leaves alone, and those that e-mail-like names
        // and the reserved prefixes need.
        let is_safe = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.!~*'()@$+".contains(&byte));
        if !text.is_empty() && text.len() <= MAX_LENGTH && is_safe {
            Ok(Self(text.into()))
        } else {
            Err(InvalidUsername(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_url() {
        for (text, ok) in [
            ("alice", true),
            ("a.b+c@example.org", true),
            ("__proto__", true),
            ("constructor", true),
            ("", false),
            ("a:b", false),
            ("a b", false),
            ("a/b", false),
            ("a\0", false),
            ("größe", false),
        ] {
            assert_eq!(text.parse::<Username>().is_ok(), ok, "{text:?}");
        }
    }
}
