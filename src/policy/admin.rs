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
    /// The administrators under this `registration`, where embedders' hooks may register visitors all the same.
    pub fn new(config: AdminConfig, registration: Registration, hook_registers: bool) -> Self {
        let is_closed = registration == Registration::Closed && !hook_registers;
        let any_authenticated = config.allow_any_authenticated.unwrap_or(is_closed);
        Self {
            any_authenticated,
            config,
        }
    }

    /// Succeeds when `caller` is an administrator; 401 without a user, 403 for others, and for
    /// tokens that are limited in any way.
    pub fn require(&self, caller: &Caller) -> Result<(), RegistryError> {
        if caller.is_anonymous() {
            return Err(RegistryError::unauthorized("authorization required"));
        }
        require_no_limits(caller)?;
        self.require_rights(caller)
    }

    /// The same for who only looks, which a token that is limited to reading may: what watches
    /// should not be able to do more.
    pub fn require_to_look(&self, caller: &Caller) -> Result<(), RegistryError> {
        if caller.is_anonymous() {
            return Err(RegistryError::unauthorized("authorization required"));
        }
        if !(caller.limits.packages.is_empty() && caller.limits.scopes.is_empty()) {
            require_no_limits(caller)?;
        }
        self.require_rights(caller)
    }

    fn require_rights(&self, caller: &Caller) -> Result<(), RegistryError> {
        if self.any_authenticated || self.names(caller) {
            Ok(())
        } else {
            Err(RegistryError::forbidden("admin authorization required"))
        }
    }

    /// Whether the settings name `caller`, or a group of hers. This is what counts where somebody
    /// could give herself rights: "everybody who is signed in" names nobody.
    pub fn names(&self, caller: &Caller) -> bool {
        caller.identity.as_ref().is_some_and(|identity| {
            let mut groups = identity.groups.iter();
            let username = identity.username.as_ref();
            username.is_some_and(|username| self.config.users.contains(username))
                || groups.any(|group| self.config.groups.contains(group))
        })
    }
}

/// Refuses tokens that are limited to reading, to packages or to scopes.
pub fn require_no_limits(caller: &Caller) -> Result<(), RegistryError> {
    if caller.limits.are_none() {
        return Ok(());
    }
    Err(RegistryError::forbidden(
        "this token is limited and may not be used for administration; run `npm login`",
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::models::{AuthIdentity, TokenLimits};

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
        let admins = Admins::new(config, registration, false);
        assert_eq!(
            admins.require(&caller).is_ok(),
            ok,
            "{any:?} {registration:?} {user} {groups:?}"
        );
        let is_named = user == "root" || groups.contains(&"ops");
        assert_eq!(admins.names(&caller), is_named, "{user} {groups:?}");
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

    #[test]
    fn nor_does_a_hook_that_registers_visitors() {
        let caller = Caller {
            identity: Some(Arc::new(AuthIdentity::default())),
            ..Caller::default()
        };
        for (registers, is_admin) in [(true, false), (false, true)] {
            let admins = Admins::new(AdminConfig::default(), Registration::Closed, registers);
            assert_eq!(admins.require(&caller).is_ok(), is_admin);
        }
    }

    fn limits_of_names_are_none(caller: &Caller) -> bool {
        caller.limits.packages.is_empty() && caller.limits.scopes.is_empty()
    }

    #[test]
    fn limited_tokens_administer_nothing_and_those_that_read_may_look() {
        let admins = Admins::new(AdminConfig::default(), Registration::Closed, false);
        let scopes = vec!["@acme".to_owned()];
        let packages = vec!["app".parse().unwrap()];
        let may = |limits: TokenLimits| {
            let caller = Caller {
                identity: Some(Arc::new(AuthIdentity::default())),
                limits: Arc::new(limits),
                ..Caller::default()
            };
            let may_look = limits_of_names_are_none(&caller);
            assert_eq!(admins.require_to_look(&caller).is_ok(), may_look);
            admins.require(&caller).is_ok()
        };
        let none = TokenLimits::default;
        assert!(may(none()));
        assert!(!may(TokenLimits {
            is_readonly: true,
            ..none()
        }));
        assert!(!may(TokenLimits { scopes, ..none() }));
        assert!(!may(TokenLimits { packages, ..none() }));
    }
}
