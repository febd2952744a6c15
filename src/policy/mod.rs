//! Floor 5: may this caller do that? One decision, asked by every route.

mod acl;
mod admin;
mod owners;
mod restrictions;
mod service;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::StatusCode;
use tokio::time::{Instant, timeout};

pub use acl::Rules;
pub use admin::{Admins, require_no_limits};
pub use owners::check_owner;
pub use restrictions::{require_proof, require_shown_second_factor, require_unrestricted};
pub use service::PolicyService;

use crate::{
    auth::{Outside, SecondFactors},
    error::RegistryError,
    models::{Action, Caller, PackageName, Proof, Right, UplinkName},
    net::ServiceError,
};

/// What decides: the token's own limits, which nobody lifts; then whoever has an opinion first of the
/// policy service, the embedder's hook and the service that keeps accounts; else the rules.
///
/// What a package says of itself ([`crate::models::Restrictions`]) is asked after this, and narrows it.
pub struct Policy {
    rules: Rules,
    service: Option<PolicyService>,
    outside: Outside,
    second_factors: SecondFactors,
}

/// The rules that let a caller read.
#[derive(Debug)]
pub struct Readable<'c> {
    caller: &'c Caller,
    own: Vec<bool>,
    anybody: Vec<bool>,
}

impl Readable<'_> {
    /// Whether the caller may read `name`, about which `rule` decides.
    pub fn covers(&self, name: &PackageName, rule: Option<usize>) -> bool {
        // As in `allows`: where a token is not for a name, its owner is anybody.
        let rules = if self.caller.limits.cover(name) {
            &self.own
        } else {
            &self.anybody
        };
        rule.and_then(|rule| rules.get(rule))
            .is_some_and(|may| *may)
    }
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl Policy {
    /// A policy of `rules`, with a `service` and then those `outside` asked before them;
    /// `second_factors` looks at what callers show for changes.
    pub fn new(
        rules: Rules,
        service: Option<PolicyService>,
        outside: Outside,
        second_factors: SecondFactors,
    ) -> Self {
        Self {
            rules,
            service,
            outside,
            second_factors,
        }
    }

    /// Succeeds when `caller` may do `action` with `name`.
    ///
    /// Otherwise 401 for a caller that is not signed in, and 403 for one that is, naming the user,
    /// the action and the package; or the challenge for a second factor.
    pub async fn require(
        &self,
        caller: &Caller,
        action: Action,
        name: &PackageName,
    ) -> Result<(), RegistryError> {
        if !self.allows(caller, action, name).await? {
            return Err(denial(caller, action, name));
        }
        let is_write = matches!(
            action,
            Action::Publish | Action::Unpublish | Action::ManageOwners
        );
        if is_write {
            self.second_factors.require_for_writes(caller).await?;
        }
        Ok(())
    }

    /// What `caller` has proved with her second factor.
    pub async fn proof(&self, caller: &Caller) -> Result<Proof, RegistryError> {
        self.second_factors.proof(caller).await
    }

    /// Whether `caller` may do `action` with `name`.
    pub async fn allows(
        &self,
        caller: &Caller,
        action: Action,
        name: &PackageName,
    ) -> Result<bool, RegistryError> {
        let is_read = action == Action::Access;
        if !is_read && (caller.limits.is_readonly || !caller.limits.cover(name)) {
            return Ok(false);
        }
        // Clients send their token with every request, and it must not be worth less than none.
        let caller = &*caller.within_limits(name);
        let Some(right) = action.right() else {
            return Ok(false);
        };
        if let Some(service) = &self.service
            // In a box: room for it would be made where there is no service too.
            && let Some(decision) = Box::pin(service.decide(caller, right, name)).await?
        {
            return Ok(decision);
        }
        self.allows_without_service(caller, right, name).await
    }

    async fn allows_without_service(
        &self,
        caller: &Caller,
        right: Right,
        name: &PackageName,
    ) -> Result<bool, RegistryError> {
        if let Some(decision) = self.outside.allows(caller, right, name).await? {
            return Ok(decision);
        }
        Ok(self.rules.allow(caller.identity.as_deref(), right, name))
    }

    /// What [`Policy::allows`] says of reading, for each of `names`: with few questions to those who
    /// decide elsewhere, a bounded number of them at once, and for a bounded time in all of a request.
    pub async fn readable_of(
        &self,
        caller: &Caller,
        names: &[&PackageName],
    ) -> Result<Vec<bool>, RegistryError> {
        let anybody = caller.without_identity();
        let mut decisions = vec![None; names.len()];
        if let Some(service) = &self.service {
            // Where a token is not for a name, its owner is anybody.
            for (asking, is_covered) in [(caller, true), (&anybody, false)] {
                let (places, asked): (Vec<usize>, Vec<&PackageName>) = names
                    .iter()
                    .enumerate()
                    .filter(|(_, name)| caller.limits.cover(name) == is_covered)
                    .map(|(place, name)| (place, *name))
                    .unzip();
                let decided = service.decide_each(asking, Right::Access, &asked).await?;
                for (place, decision) in places.into_iter().zip(decided) {
                    if let Some(slot) = decisions.get_mut(place) {
                        *slot = decision;
                    }
                }
            }
        }
        let mut each = Vec::with_capacity(names.len());
        for (name, decision) in names.iter().zip(decisions) {
            each.push(self.readable_unless_decided(caller, name, decision));
        }
        let each = stream::iter(each).buffered(service::AT_ONCE);
        let Some(limit) = self.outside.list_limit(Right::Access) else {
            return each.try_collect().await;
        };
        let (waited, begun) = (&caller.request.waited_for_accounts, Instant::now());
        let decided = timeout(waited.left_of(limit), each.try_collect()).await;
        waited.add(begun.elapsed());
        decided.unwrap_or_else(|_| {
            let slow = ServiceError::SlowTogether(limit);
            Err(RegistryError::AuthUnavailable(Box::new(slow)))
        })
    }

    async fn readable_unless_decided(
        &self,
        caller: &Caller,
        name: &PackageName,
        decision: Option<bool>,
    ) -> Result<bool, RegistryError> {
        match decision {
            Some(decision) => Ok(decision),
            None => {
                let caller = caller.within_limits(name);
                let right = Right::Access;
                match self.allows_without_service(&caller, right, name).await {
                    // That is about this one package, which must not keep the others from a list.
                    Err(error) if is_about_one(error.status()) => Ok(false),
                    decided => decided,
                }
            }
        }
    }

    /// How many packages of a list it makes sense to ask [`Policy::readable_of`] about together.
    pub fn stride(&self) -> usize {
        self.service
            .as_ref()
            .map_or(service::AT_ONCE, PolicyService::stride)
    }

    /// Forgets what the policy service decided.
    pub fn forget_decisions(&self) {
        if let Some(service) = &self.service {
            service.forget();
        }
    }

    /// Which rule decides about `name`, for [`Readable::covers`].
    pub fn rule_of(&self, name: &PackageName) -> Option<usize> {
        self.rules.number_of(name)
    }

    /// What [`Policy::allows`] says of reading, decided once for many packages; `None` where others
    /// have to be asked about each.
    pub fn readable<'c>(&self, caller: &'c Caller) -> Option<Readable<'c>> {
        let is_decided_here = self.service.is_none() && !self.outside.decides(Right::Access);
        is_decided_here.then(|| Readable {
            caller,
            own: self.rules.readable(caller.identity.as_deref()),
            anybody: self.rules.readable(None),
        })
    }

    /// The uplinks to ask for `name`, in this order.
    pub fn proxies_of(&self, name: &PackageName) -> &[UplinkName] {
        self.rules.proxies_of(name)
    }

    /// Whether a rule overrules the origin of the hosted package `name`.
    pub fn merge_of(&self, name: &PackageName) -> Option<bool> {
        self.rules.merge_of(name)
    }
}

/// Whether a status refuses what was asked for, and is no failure of whoever was asked.
fn is_about_one(status: StatusCode) -> bool {
    let is_busy = matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
    );
    status.is_client_error() && !is_busy
}

fn denial(caller: &Caller, action: Action, name: &PackageName) -> RegistryError {
    let verb = match action {
        Action::ManageOwners | Action::Tag => "publish",
        Action::Star => "access",
        _ => action.as_str(),
    };
    if !caller.is_anonymous() {
        let user = caller.display_name();
        let with = if caller.limits.cover(name) {
            ""
        } else {
            " with a token that is limited to others"
        };
        return RegistryError::forbidden(format!(
            "user {user} is not allowed to {verb} package {name}{with}"
        ));
    }
    let message = format!("authorization required to {verb} package {name}");
    match action {
        Action::Access | Action::Star | Action::Admin => RegistryError::Unauthorized { message },
        _ => RegistryError::PolicyDenied { message },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        config::PackagesConfig,
        models::{AuthIdentity, Principal, TokenLimits},
    };

    /// The default rules, and one for those who are signed in.
    async fn policy() -> Policy {
        let folder = tempfile::tempdir().unwrap();
        let second_factors = SecondFactors::of_nobody(folder.path()).await;
        let mut config = PackagesConfig::default();
        let mut private = config.rules[0].clone();
        private.pattern = "@private/*".to_owned();
        private.access = vec![Principal::Authenticated];
        config.rules.insert(0, private);
        Policy::new(
            Rules::compile(&config).unwrap(),
            None,
            Outside::default(),
            second_factors,
        )
    }

    fn caller(limits: TokenLimits) -> Caller {
        let identity = AuthIdentity {
            username: Some("alice".to_owned()),
            groups: Vec::new(),
        };
        Caller {
            identity: Some(Arc::new(identity)),
            limits: Arc::new(limits),
            ..Caller::default()
        }
    }

    #[tokio::test]
    async fn a_token_limits_its_user() {
        let (policy, name) = (policy().await, "@acme/app".parse().unwrap());
        let readonly = caller(TokenLimits {
            is_readonly: true,
            ..TokenLimits::default()
        });
        policy
            .require(&readonly, Action::Access, &name)
            .await
            .unwrap();
        let refused = policy
            .require(&readonly, Action::Publish, &name)
            .await
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "user alice is not allowed to publish package @acme/app"
        );
        let elsewhere = caller(TokenLimits {
            scopes: vec!["@other".to_owned()],
            ..TokenLimits::default()
        });
        // It is worth as much as none.
        policy
            .require(&elsewhere, Action::Access, &name)
            .await
            .unwrap();
        for (action, name) in [
            (Action::Publish, "@acme/app"),
            (Action::Access, "@private/app"),
        ] {
            let name = name.parse().unwrap();
            let refused = policy.require(&elsewhere, action, &name).await.unwrap_err();
            assert_eq!(refused.status(), StatusCode::FORBIDDEN);
            assert_eq!(
                refused.to_string(),
                format!(
                    "user alice is not allowed to {action} package {name} with a token that is \
                     limited to others"
                )
            );
        }
    }

    #[tokio::test]
    async fn strangers_are_asked_to_sign_in() {
        let (policy, name) = (policy().await, "app".parse().unwrap());
        let anonymous = Caller::default();
        policy
            .require(&anonymous, Action::Access, &name)
            .await
            .unwrap();
        let refused = policy
            .require(&anonymous, Action::Unpublish, &name)
            .await
            .unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(refused.code(), "POLICY_DENIED");
        assert_eq!(
            refused.to_string(),
            "authorization required to unpublish package app"
        );
    }
}
