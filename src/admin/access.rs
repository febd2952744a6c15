//! Helping packages whose owners can no longer change them.

use super::Administration;
use crate::{
    error::RegistryError,
    models::{Caller, PackageName, Restrictions},
    policy::require_no_limits,
};

impl Administration {
    /// Whether the settings name `caller` as an administrator.
    pub fn names(&self, caller: &Caller) -> bool {
        self.admins.names(caller)
    }

    /// Lets `name` be changed without a second factor again, for owners who have none any more.
    /// What the package says about who may use it then.
    pub async fn lift_second_factor(
        &self,
        caller: &Caller,
        name: &PackageName,
    ) -> Result<Restrictions, RegistryError> {
        if !self.admins.names(caller) {
            return Err(RegistryError::forbidden("admin authorization required"));
        }
        require_no_limits(caller)?;
        self.auth
            .second_factors()
            .require_for_writes(caller)
            .await?;
        let restrictions = self.registry.lift_second_factor(caller, name).await?;
        tracing::info!(package.name = %name, user.name = caller.display_name(), "second factor lifted by an administrator");
        Ok(restrictions)
    }
}
