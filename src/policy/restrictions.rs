//! What a package says about who may use it, asked after the rules.

use crate::{
    error::RegistryError,
    models::{Action, Caller, PackageName, Proof, Restrictions},
};

/// Succeeds when `restrictions` let `caller` do `action` with `name`, given that the rules do.
///
/// Who may not read a package hears what whoever asks for a missing one hears. Whether changes want
/// a second factor is [`require_proof`]'s.
pub fn require_unrestricted(
    restrictions: &Restrictions,
    caller: &Caller,
    action: Action,
    name: &PackageName,
    owners: &[String],
) -> Result<(), RegistryError> {
    if !restrictions.allow(caller, Action::Access, owners) {
        return Err(RegistryError::no_such_package());
    }
    if !restrictions.allow(caller, action, owners) {
        let user = caller.display_name();
        return Err(RegistryError::forbidden(format!(
            "user {user} is not allowed to {action} package {name}: it is restricted to its \
             owners and the teams that were granted `read-write`"
        )));
    }
    Ok(())
}

/// Succeeds when `proof` is enough to change a package with `restrictions` that want one.
pub fn require_proof(
    restrictions: &Restrictions,
    caller: &Caller,
    proof: Proof,
    name: &PackageName,
) -> Result<(), RegistryError> {
    if proof == Proof::Bypassed && restrictions.automation_token_overrides_tfa {
        return Ok(());
    }
    require_shown_second_factor(caller, proof, name)
}

/// Succeeds when `caller` has a second factor and `proof` is that she has shown it. Tokens that
/// work without one do not count.
pub fn require_shown_second_factor(
    caller: &Caller,
    proof: Proof,
    name: &PackageName,
) -> Result<(), RegistryError> {
    match proof {
        Proof::Given => Ok(()),
        _ if caller.second_factor.mode.is_none() => Err(RegistryError::forbidden(format!(
            "`{name}` may only be changed with a second factor; turn yours on with \
             `npm profile enable-2fa`"
        ))),
        proof => Err(RegistryError::one_time_pass_required(
            caller.display_name(),
            proof == Proof::Wrong,
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::models::{AuthIdentity, SecondFactor, SecondFactorMode};

    fn caller(user: &str) -> Caller {
        let identity = AuthIdentity {
            username: Some(user.to_owned()),
            groups: Vec::new(),
        };
        Caller {
            identity: Some(Arc::new(identity)),
            ..Caller::default()
        }
    }

    #[test]
    fn a_package_may_want_a_second_factor() {
        let restrictions = Restrictions {
            publish_requires_tfa: true,
            ..Restrictions::default()
        };
        let name: PackageName = "n".parse().unwrap();
        let status = |restrictions: &Restrictions, mode, proof| {
            let caller = Caller {
                second_factor: SecondFactor {
                    mode,
                    ..SecondFactor::default()
                },
                ..caller("alice")
            };
            let decided = require_proof(restrictions, &caller, proof, &name);
            decided.map_or_else(|error| error.status().as_u16(), |()| 200)
        };
        let mode = Some(SecondFactorMode::AuthOnly);
        assert_eq!(status(&restrictions, None, Proof::None), 403);
        assert_eq!(status(&restrictions, mode, Proof::None), 401);
        assert_eq!(status(&restrictions, mode, Proof::Wrong), 401);
        assert_eq!(status(&restrictions, mode, Proof::Given), 200);
        assert_eq!(status(&restrictions, mode, Proof::Bypassed), 401);
        let overridden = Restrictions {
            automation_token_overrides_tfa: true,
            ..restrictions
        };
        assert_eq!(status(&overridden, mode, Proof::Bypassed), 200);
    }
}
