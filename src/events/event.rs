//! [`Event`]: what happens in a registry, in the terms of those who are told of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::models::Timestamp;

/// Something that has happened. Its fields are the attributes of the event; secrets are never among
/// them.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Event {
    /// `admin.reindex`: all that is stored was looked at.
    Reindexed {
        /// Whether searches or manifests are other than before.
        changed: bool,
        /// How many packages were known before.
        #[serde(rename = "packagesBefore")]
        packages_before: usize,
        /// How many are known now.
        #[serde(rename = "packagesAfter")]
        packages_after: usize,
    },
    /// `admin.storage_health.read`: somebody has read the report on storage.
    StorageHealthRead {},
    /// `admin.policy_cache.invalidate`: decisions of the policy service are forgotten.
    PolicyCacheInvalidated {},
    /// `admin.package_cache.invalidate`: what was remembered of a package is forgotten.
    PackageCacheInvalidated {
        /// Whether anything was.
        removed: bool,
    },
    /// `package.published`: a version is there.
    Published {
        /// The version.
        version: String,
        /// The dist-tags that point at it since.
        tags: Vec<String>,
        /// Whether it is the first of its package.
        new_package: bool,
        /// The SHA-512 of the tarball, as in `dist.integrity`.
        integrity: String,
        /// The document of the version, for those who tell of it in their own words.
        #[serde(skip)]
        manifest: Bytes,
    },
    /// `package.metadata_updated`: what a package says of itself is another.
    MetadataUpdated {
        /// What was changed: `deprecated`, `dist-tags`, `star`, `unstar`.
        changes: Vec<&'static str>,
        /// The versions that it is about; none where it is about the whole.
        versions: Vec<String>,
        /// The revision that the package has now.
        revision: String,
    },
    /// `package.dist_tag.updated`: a tag points at another version.
    DistTagUpdated {
        /// The tag.
        tag: String,
        /// The version.
        version: String,
    },
    /// `package.dist_tag.removed`: a tag is gone.
    DistTagRemoved {
        /// The tag.
        tag: String,
    },
    /// `package.removed`: a whole package is gone.
    PackageRemoved {
        /// The versions that it had.
        versions: Vec<String>,
        /// The revision of what is left, a note of whose the name is.
        revision: String,
    },
    /// `package.tarball.removed`: a version is gone, and its tarball with it.
    TarballRemoved {
        /// The tarball.
        filename: String,
        /// The version.
        version: String,
        /// The revision that the package has now.
        revision: String,
    },
    /// `package.owners_changed`: a package has other owners.
    OwnersChanged {
        /// All of them.
        owners: Vec<String>,
        /// The revision that the package has now.
        revision: String,
    },
    /// `package.access_changed`: others may use a package.
    AccessChanged {
        /// Who may read it: `public` or `restricted`.
        visibility: String,
        /// Whether each change needs a second factor.
        publish_requires_tfa: bool,
        /// What teams were granted.
        grants: BTreeMap<String, String>,
        /// The revision that the package has now.
        revision: String,
    },
    /// `auth.login.succeeded`: somebody has signed in, and has got a token.
    LoggedIn {
        /// Who.
        user: String,
        /// How: `password` or `web`.
        method: &'static str,
    },
    /// `auth.login.failed`: somebody could not sign in.
    LoginFailed {
        /// As whom, where that was said.
        user: Option<String>,
        /// The code of the refusal.
        code: &'static str,
    },
    /// `auth.logout`: a token was ended by who has it.
    LoggedOut {
        /// How the token began.
        token: String,
    },
    /// `auth.user.registered`: there is a new account.
    UserRegistered {
        /// Whose.
        user: String,
    },
    /// `auth.password.changed`: and the tokens of logins are revoked.
    PasswordChanged {
        /// Whose.
        user: String,
    },
    /// `auth.user.disabled`: nothing of an account counts any more.
    UserDisabled {
        /// Whose.
        user: String,
    },
    /// `auth.user.enabled`: all of it counts again.
    UserEnabled {
        /// Whose.
        user: String,
    },
    /// `auth.second_factor.changed`.
    SecondFactorChanged {
        /// Whose.
        user: String,
        /// `asked`, `enabled`, `mode` or `disabled`.
        change: &'static str,
    },
    /// `auth.profile.changed`.
    ProfileChanged {
        /// Whose.
        user: String,
    },
    /// `auth.token.created`.
    TokenCreated {
        /// Whose.
        user: String,
        /// How it begins.
        token: String,
        /// The name that she gave it.
        name: Option<String>,
        /// Whether it may only read.
        readonly: bool,
        /// The networks that it may be used from; all of them without any.
        cidr: Vec<String>,
        /// The packages and scopes that it works for; all of them without any.
        limits: Vec<String>,
        /// Whether it works without her second factor.
        bypass_2fa: bool,
        /// When it ends.
        expires: Option<Timestamp>,
    },
    /// `auth.token.revoked`.
    TokenRevoked {
        /// Whose.
        user: String,
        /// How the token or its key begins.
        token: String,
    },
    /// `organisation.changed`: an organisation has other members or teams.
    OrganisationChanged {
        /// Which.
        organisation: String,
        /// `member-set`, `member-removed`, `team-created`, `team-destroyed`, `team-member-added` or
        /// `team-member-removed`.
        change: &'static str,
        /// The team, where it is about one.
        team: Option<String>,
        /// The member, where it is about one.
        user: Option<String>,
        /// The role of the member, where that was set.
        role: Option<String>,
    },
    /// `request.denied`: somebody wanted to change something, or to act as an administrator, and may
    /// not.
    Denied {
        /// What: the word for it in the trail of audit.
        action: String,
        /// The status of the answer.
        status: u16,
        /// Its code.
        code: Option<&'static str>,
        /// What the client was told.
        reason: Option<String>,
    },
}

impl Event {
    /// The stable name of what happened.
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Reindexed { .. } => "admin.reindex",
            Self::StorageHealthRead {} => "admin.storage_health.read",
            Self::PolicyCacheInvalidated {} => "admin.policy_cache.invalidate",
            Self::PackageCacheInvalidated { .. } => "admin.package_cache.invalidate",
            Self::Published { .. } => "package.published",
            Self::MetadataUpdated { .. } => "package.metadata_updated",
            Self::DistTagUpdated { .. } => "package.dist_tag.updated",
            Self::DistTagRemoved { .. } => "package.dist_tag.removed",
            Self::PackageRemoved { .. } => "package.removed",
            Self::TarballRemoved { .. } => "package.tarball.removed",
            Self::OwnersChanged { .. } => "package.owners_changed",
            Self::AccessChanged { .. } => "package.access_changed",
            Self::LoggedIn { .. } => "auth.login.succeeded",
            Self::LoginFailed { .. } => "auth.login.failed",
            Self::LoggedOut { .. } => "auth.logout",
            Self::UserRegistered { .. } => "auth.user.registered",
            Self::PasswordChanged { .. } => "auth.password.changed",
            Self::UserDisabled { .. } => "auth.user.disabled",
            Self::UserEnabled { .. } => "auth.user.enabled",
            Self::SecondFactorChanged { .. } => "auth.second_factor.changed",
            Self::ProfileChanged { .. } => "auth.profile.changed",
            Self::TokenCreated { .. } => "auth.token.created",
            Self::TokenRevoked { .. } => "auth.token.revoked",
            Self::OrganisationChanged { .. } => "organisation.changed",
            Self::Denied { .. } => "request.denied",
        }
    }

    /// Whether anybody who has no account can make as many of these as he likes.
    pub(super) fn is_anybodys(&self) -> bool {
        matches!(self, Self::Denied { .. } | Self::LoginFailed { .. })
    }

    /// Its fields, and the `route` of the request where the contract wants it.
    pub(super) fn attributes(&self, route: Option<&str>) -> Map<String, Value> {
        let mut attributes = match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let has_route = matches!(
            self,
            Self::Published { .. } | Self::MetadataUpdated { .. } | Self::Denied { .. }
        );
        if has_route {
            attributes.insert("route".to_owned(), route.into());
        }
        attributes
    }

    /// Who did it, where the event knows better than the credentials of the request.
    pub(super) fn actor(&self) -> Option<&str> {
        match self {
            Self::LoggedIn { user, .. } | Self::UserRegistered { user } => Some(user),
            _ => None,
        }
    }
}
