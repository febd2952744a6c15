//! [`Principal`]: one entry of an `access`, `publish` or `unpublish` list.

use std::fmt;

use super::AuthIdentity;

/// Who a rule is about.
///
/// `$all`, `@all` and `all` are one; so are `$anonymous` and `@anonymous`, `$authenticated` and
/// `@authenticated` (Verdaccio's legacy aliases). Anything else names a user or a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Everybody.
    All,
    /// Only callers that are not signed in.
    Anonymous,
    /// Every signed-in caller.
    Authenticated,
    /// The user or the group of this name.
    Named(String),
}

impl Principal {
    /// Reads one entry of a rule's list.
    pub fn parse(text: &str) -> Self {
        match text {
            "$all" | "@all" | "all" => Self::All,
            "$anonymous" | "@anonymous" => Self::Anonymous,
            "$authenticated" | "@authenticated" => Self::Authenticated,
            name => Self::Named(name.to_owned()),
        }
    }

    /// Whether it covers `identity` (`None` for an anonymous caller).
    pub fn covers(&self, identity: Option<&AuthIdentity>) -> bool {
        match (self, identity) {
            (Self::All, _) | (Self::Anonymous, None) | (Self::Authenticated, Some(_)) => true,
            (Self::Named(name), Some(identity)) => {
                identity.username.as_ref() == Some(name) || identity.groups.contains(name)
            }
            (Self::Anonymous, Some(_)) | (Self::Authenticated | Self::Named(_), None) => false,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "$all",
            Self::Anonymous => "$anonymous",
            Self::Authenticated => "$authenticated",
            Self::Named(name) => name,
        })
    }
}
