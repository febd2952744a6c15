//! Floor 7: use cases of administrators.

mod organisations;

use std::sync::Arc;

use crate::{auth::Auth, error::RegistryError, models::Caller, policy::Admins};

/// What administrators do. Use cases decide themselves whether the caller may.
#[derive(Debug)]
pub struct Administration {
    admins: Admins,
    auth: Arc<Auth>,
}

impl Administration {
    /// For these administrators.
    pub fn new(admins: Admins, auth: Arc<Auth>) -> Self {
        Self { admins, auth }
    }

    /// Succeeds when `caller` is an administrator, with the second factor that changes need.
    async fn require(&self, caller: &Caller) -> Result<(), RegistryError> {
        self.admins.require(caller)?;
        self.auth.second_factors().require_for_writes(caller).await
    }
}
