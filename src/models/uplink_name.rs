//! [`UplinkName`]: the name of an upstream registry in the configuration.

use std::{fmt, str::FromStr, sync::Arc};

/// A non-empty name without white space; none of Verdaccio's reserved words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UplinkName(Arc<str>);

/// The text cannot name an uplink.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` cannot name an uplink: use letters, digits, `.`, `_`, `-`, `@`, and none of all, anonymous, undefined, owner, none"
)]
pub struct InvalidUplinkName(String);

impl UplinkName {
    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UplinkName {
    type Err = InvalidUplinkName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RESERVED: [&str; 5] = ["all", "anonymous", "undefined", "owner", "none"];
        let is_safe = text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte));
        let is_name = !text.is_empty() && text.len() <= 100 && !text.starts_with('.') && is_safe;
        if is_name && !RESERVED.contains(&text) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidUplinkName(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for UplinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
