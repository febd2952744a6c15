//! Floor 7: use cases of administrators.

mod organisations;

use std::sync::Arc;

use crate::{
    auth::Auth,
    error::RegistryError,
    models::Caller,
    policy::{Admins, require_second_factor},
};

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
    fn require(&self, caller: &Caller) -> Result<(), RegistryError> {
        self.admins.require(caller)?;
        require_second_factor(caller)
    }
}
