//! Floor 7: use cases of administrators.

mod access;
mod invalidate;
mod organisations;

use std::sync::Arc;

use crate::{auth::Auth, policy::Admins, registry::Registry};

/// What administrators do. Use cases decide themselves whether the caller may.
#[derive(Debug)]
pub struct Administration {
    admins: Admins,
    auth: Arc<Auth>,
    registry: Arc<Registry>,
}

impl Administration {
    /// For these administrators.
    pub fn new(admins: Admins, auth: Arc<Auth>, registry: Arc<Registry>) -> Self {
        Self {
            admins,
            auth,
            registry,
        }
    }
}
