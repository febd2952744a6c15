//! [`Restrictions`]: what a package says about who may use it. They narrow the rules and never
//! widen them.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{Action, Caller};

/// npm's `access` of a package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Whoever the rules let in.
    #[default]
    Public,
    /// Only users who are signed in; and where teams were granted access, only those and the
    /// owners.
    Restricted,
}

impl Visibility {
    /// npm's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Restricted => "restricted",
        }
    }
}

/// What a team may do with a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permission {
    /// Read it.
    ReadOnly,
    /// Read and change it.
    ReadWrite,
}

impl Permission {
    /// npm's word in listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read",
            Self::ReadWrite => "write",
        }
    }
}

/// What a package says about who may use it, as its manifest keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restrictions {
    /// Who may read it.
    #[serde(rename = "access", skip_serializing_if = "is_public")]
    pub visibility: Visibility,
    /// Groups (`@organisation:team`) that may use it while it is restricted. `None` until a first
    /// one is granted something; after that it stays a list, so that revoking the last one lets in
    /// nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grants: Option<IndexMap<String, Permission>>,
    /// Whether every change needs a second factor.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub publish_requires_tfa: bool,
    /// Whether tokens that were made to work without one may change it all the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub automation_token_overrides_tfa: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_public(visibility: &Visibility) -> bool {
    *visibility == Visibility::Public
}

impl Restrictions {
    /// What a scoped package says whose manifest was lost, and with it who may use it: nobody, until
    /// an administrator names an owner.
    pub fn lost() -> Self {
        Self {
            visibility: Visibility::Restricted,
            grants: Some(IndexMap::new()),
            ..Self::default()
        }
    }

    /// Whether there is nobody who may use the package, which has these `owners`.
    pub fn let_in_nobody(&self, owners: &[String]) -> bool {
        let is_granted = self.grants.as_ref().is_none_or(|grants| !grants.is_empty());
        self.visibility == Visibility::Restricted && owners.is_empty() && !is_granted
    }

    /// Whether the package says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `caller` may do `action`, given that the rules allow it.
    pub fn allow(&self, caller: &Caller, action: Action, owners: &[String]) -> bool {
        if self.visibility == Visibility::Public {
            return true;
        }
        let Some(identity) = &caller.identity else {
            return false;
        };
        let Some(grants) = &self.grants else {
            return true;
        };
        let is_read = matches!(action, Action::Access | Action::Star);
        let is_owner = owners.iter().any(|owner| owner == caller.display_name());
        is_owner
            || identity
                .groups
                .iter()
                .filter_map(|group| grants.get(group))
                .any(|permission| is_read || *permission == Permission::ReadWrite)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::models::AuthIdentity;

    fn caller(user: &str, groups: &[&str]) -> Caller {
        let identity = AuthIdentity {
            username: Some(user.to_owned()),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
        };
        Caller {
            identity: Some(Arc::new(identity)),
            ..Caller::default()
        }
    }

    fn restricted(grants: Option<&[(&str, Permission)]>) -> Restrictions {
        let grants = grants.map(|grants| {
            let grants = grants
                .iter()
                .map(|(group, may)| ((*group).to_owned(), *may));
            grants.collect()
        });
        Restrictions {
            visibility: Visibility::Restricted,
            grants,
            ..Restrictions::default()
        }
    }

    #[track_caller]
    fn check(restrictions: &Restrictions, caller: &Caller, may_read: bool, may_publish: bool) {
        let owners = ["alice".to_owned()];
        let may = |action| restrictions.allow(caller, action, &owners);
        assert_eq!(
            (may(Action::Access), may(Action::Publish)),
            (may_read, may_publish),
            "{restrictions:?} {caller:?}"
        );
    }

    #[test]
    fn restricted_packages_are_for_whom_they_name() {
        let (alice, bob) = (caller("alice", &[]), caller("bob", &["@acme:dev"]));
        let (eve, nobody) = (caller("eve", &["@acme"]), Caller::default());
        check(&Restrictions::default(), &nobody, true, true);
        let open = restricted(None);
        check(&open, &nobody, false, false);
        check(&open, &eve, true, true);
        let reading = restricted(Some(&[("@acme:dev", Permission::ReadOnly)]));
        check(&reading, &alice, true, true);
        check(&reading, &bob, true, false);
        check(&reading, &eve, false, false);
        let writing = restricted(Some(&[("@acme:dev", Permission::ReadWrite)]));
        check(&writing, &bob, true, true);
        check(&restricted(Some(&[])), &bob, false, false);
        check(&restricted(Some(&[])), &alice, true, true);
    }

    #[test]
    fn what_was_lost_is_for_nobody_until_it_has_an_owner() {
        let owners = ["alice".to_owned()];
        let lost = Restrictions::lost();
        check(&lost, &caller("bob", &["@acme:dev"]), false, false);
        assert!(lost.let_in_nobody(&[]) && !lost.let_in_nobody(&owners));
        let granted = restricted(Some(&[("@acme:dev", Permission::ReadOnly)]));
        for others in [Restrictions::default(), restricted(None), granted] {
            assert!(!others.let_in_nobody(&[]), "{others:?}");
        }
    }
}
