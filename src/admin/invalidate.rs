//! Forgetting what is remembered of a package.

use super::Administration;
use crate::{
    error::RegistryError,
    events::Event,
    models::{Caller, PackageName},
};

impl Administration {
    /// Makes the next read of `name` ask storage and upstream. Whether anything was remembered.
    #[tracing::instrument(name = "admin.invalidate_package", skip_all, fields(package.name = %name))]
    pub async fn invalidate_package(
        &self,
        caller: &Caller,
        name: &PackageName,
    ) -> Result<bool, RegistryError> {
        let removed = self.registry.forget(name).await?;
        tracing::info!(
            user.name = caller.display_name(),
            removed,
            "package cache invalidated"
        );
        let event = Event::PackageCacheInvalidated { removed };
        self.events.tell(caller, Some(name), &event);
        Ok(removed)
    }

    /// Makes the policy service decide anew about everything.
    pub fn invalidate_decisions(&self, caller: &Caller) -> Result<(), RegistryError> {
        self.require(caller)?;
        self.registry.forget_decisions();
        tracing::info!(
            user.name = caller.display_name(),
            "policy cache invalidated"
        );
        let event = Event::PolicyCacheInvalidated {};
        self.events.tell(caller, None, &event);
        Ok(())
    }

    /// Succeeds when `caller` is an administrator, or has an administrator's token that only reads.
    pub fn require_to_look(&self, caller: &Caller) -> Result<(), RegistryError> {
        self.admins.require_to_look(caller)
    }

    /// Succeeds when `caller` is an administrator.
    pub fn require(&self, caller: &Caller) -> Result<(), RegistryError> {
        self.admins.require(caller)
    }
}
