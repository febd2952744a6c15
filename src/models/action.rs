//! [`Action`]: what a caller wants to do; the one vocabulary of policy, events and metrics.

use std::fmt;

/// What a caller wants to do with a package, or with the registry itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Read a packument, a version, a tarball, dist-tags; see the name in a listing.
    Access,
    /// Add a version, move `latest`, deprecate.
    Publish,
    /// Move a dist-tag other than `latest`; needs the permission of [`Action::Publish`].
    Tag,
    /// Remove a version or the whole package.
    Unpublish,
    /// Add or remove the caller's own star; needs no more than [`Action::Access`].
    Star,
    /// Change the list of maintainers.
    ManageOwners,
    /// Call an operator's endpoint.
    Admin,
}

/// What rules, hooks and services decide about: several actions need the same right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// To read.
    Access,
    /// To add and to change.
    Publish,
    /// To remove.
    Unpublish,
}

impl Right {
    /// The word in rules and in questions to services.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Publish => "publish",
            Self::Unpublish => "unpublish",
        }
    }
}

impl Action {
    /// The right that it needs; `None` where it is not about a package.
    pub fn right(self) -> Option<Right> {
        match self {
            Self::Access | Self::Star => Some(Right::Access),
            Self::Publish | Self::Tag | Self::ManageOwners => Some(Right::Publish),
            Self::Unpublish => Some(Right::Unpublish),
            Self::Admin => None,
        }
    }

    /// The word for messages, logs, events and policy requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Publish => "publish",
            Self::Tag => "tag",
            Self::Unpublish => "unpublish",
            Self::Star => "star",
            Self::ManageOwners => "manage-owners",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
