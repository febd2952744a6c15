//! [`Admins`]: who may call an operator's endpoints.

use crate::{
    config::{AdminConfig, Registration},
    error::RegistryError,
    models::Caller,
};

/// The administrators, after the guard: while visitors can make accounts themselves, "everybody
/// who is signed in" is only taken at its word when it was set explicitly.
#[derive(Clone, Debug)]
pub struct Admins {
    any_authenticated: bool,
    config: AdminConfig,
}

impl Admins {
    /// The administrators under this `registration`.
    pub fn new(config: AdminConfig, registration: Registration) -> Self {
        let any_authenticated = config
            .allow_any_authenticated
            .unwrap_or(registration == Registration::Closed);
        Self {
            any_authenticated,
            config,
        }
    }

    /// Succeeds when `caller` is an administrator; 401 without a user, 403 for others.
    pub fn require(&self, caller: &Caller) -> Result<(), RegistryError> {
        let Some(identity) = &caller.identity else {
            return Err(RegistryError::unauthorized("authorization required"));
        };
        let is_named = identity
            .username
            .as_ref()
            .is_some_and(|username| self.config.users.contains(username));
        let is_in_group = identity
            .groups
            .iter()
            .any(|group| self.config.groups.contains(group));
        if (self.any_authenticated || is_named || is_in_group) && !caller.limits.are_any() {
            Ok(())
        } else {
            Err(RegistryError::forbidden("admin authorization required"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::models::AuthIdentity;

    #[track_caller]
    fn check(any: Option<bool>, registration: Registration, user: &str, groups: &[&str], ok: bool) {
        let config = AdminConfig {
            allow_any_authenticated: any,
            users: vec!["root".to_owned()],
            groups: vec!["ops".to_owned()],
        };
        let identity = AuthIdentity {
            username: Some(user.to_owned()),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
        };
        let caller = Caller {
            identity: Some(Arc::new(identity)),
            ..Caller::default()
        };
        let decision = Admins::new(config, registration).require(&caller);
        assert_eq!(
            decision.is_ok(),
            ok,
            "{any:?} {registration:?} {user} {groups:?}"
        );
    }

    #[test]
    fn open_registration_makes_nobody_an_administrator() {
        check(None, Registration::Open, "visitor", &[], false);
        check(None, Registration::Closed, "employee", &[], true);
        check(Some(true), Registration::Open, "visitor", &[], true);
        check(Some(false), Registration::Closed, "employee", &[], false);
        check(Some(false), Registration::Open, "root", &[], true);
        check(None, Registration::Open, "bob", &["ops"], true);
        check(None, Registration::Open, "ops", &[], false);
    }
}
