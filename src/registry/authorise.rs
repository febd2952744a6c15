//! May they: the rules first, then what the package itself says. Every use case that reads or
//! names a package asks here.

use super::{
    Registry,
    hosted_documents::{HostedDocument, Sight},
};
use crate::{
    error::RegistryError,
    models::{Action, Caller, PackageName},
    policy::{require_proof, require_unrestricted},
};

impl Registry {
    /// Succeeds when `caller` may do `action` with `name`; see
    /// [`Policy::require`](crate::policy::Policy::require) and
    /// [`require_unrestricted`].
    pub(super) async fn authorise(
        &self,
        caller: &Caller,
        action: Action,
        name: &PackageName,
    ) -> Result<(), RegistryError> {
        self.authorised(caller, action, name).await.map(drop)
    }

    /// The same; returns the manifest that was looked at, for those who go on with it. Who may
    /// change something is decided by what is stored now.
    pub(super) async fn authorised(
        &self,
        caller: &Caller,
        action: Action,
        name: &PackageName,
    ) -> Result<Option<HostedDocument>, RegistryError> {
        let sight = if is_write(action) {
            Sight::Strict
        } else {
            Sight::Believed
        };
        self.authorised_by(caller, action, name, sight).await
    }

    /// The same, where the manifest has to be looked at with this `sight`.
    pub(super) async fn authorised_by(
        &self,
        caller: &Caller,
        action: Action,
        name: &PackageName,
        sight: Sight,
    ) -> Result<Option<HostedDocument>, RegistryError> {
        self.policy.require(caller, action, name).await?;
        let Some(hosted) = self.documents.hosted.get(name, sight).await? else {
            return Ok(None);
        };
        let restrictions = hosted.manifest.restrictions();
        if restrictions.is_empty() {
            return Ok(Some(hosted));
        }
        let owners = hosted.manifest.packument().maintainers();
        let within = caller.within_limits(name);
        if !(restrictions.let_in_nobody(&owners) && self.may_rescue(caller, action)) {
            require_unrestricted(restrictions, &within, action, name, &owners)?;
        }
        if is_write(action) && restrictions.publish_requires_tfa {
            let proof = self.policy.proof(caller).await?;
            require_proof(restrictions, caller, proof, name)?;
        }
        Ok(Some(hosted))
    }

    /// Whether [`Registry::authorise`] would succeed, leaving a second factor aside.
    pub(super) async fn may(
        &self,
        caller: &Caller,
        action: Action,
        name: &PackageName,
    ) -> Result<bool, RegistryError> {
        if !self.policy.allows(caller, action, name).await? {
            return Ok(false);
        }
        let Some(hosted) = self.documents.hosted(name).await? else {
            return Ok(true);
        };
        let restrictions = hosted.manifest.restrictions();
        if restrictions.is_empty() {
            return Ok(true);
        }
        let owners = hosted.manifest.packument().maintainers();
        Ok(
            restrictions.allow(&caller.within_limits(name), action, &owners)
                || (restrictions.let_in_nobody(&owners) && self.may_rescue(caller, action)),
        )
    }

    /// Whether `caller` is an administrator, who may look at a package that nobody may use, and say
    /// who owns it.
    fn may_rescue(&self, caller: &Caller, action: Action) -> bool {
        matches!(action, Action::Access | Action::ManageOwners)
            && caller.limits.are_none()
            && self.admins.names(caller)
    }

    /// What [`Registry::may`] says of reading, for each of `names`, with few questions to those who
    /// decide elsewhere.
    pub(super) async fn may_read_each(
        &self,
        caller: &Caller,
        names: &[&PackageName],
    ) -> Result<Vec<bool>, RegistryError> {
        let mut readable = self.policy.readable_of(caller, names).await?;
        for (name, is_readable) in names.iter().zip(&mut readable) {
            if !*is_readable {
                continue;
            }
            let Some(hosted) = self.documents.hosted(name).await? else {
                continue;
            };
            let restrictions = hosted.manifest.restrictions();
            let owners = || hosted.manifest.packument().maintainers();
            let within = caller.within_limits(name);
            *is_readable =
                restrictions.is_empty() || restrictions.allow(&within, Action::Access, &owners());
        }
        Ok(readable)
    }
}

/// Whether `action` changes a package. A star is its giver's own affair.
fn is_write(action: Action) -> bool {
    !matches!(action, Action::Access | Action::Star)
}
