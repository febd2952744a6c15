//! Ownership: whether only a package's maintainers may change it.

use crate::{config::PublishConfig, error::RegistryError, models::Caller};

/// Succeeds when owners are not checked, when there are none, or when `caller` is one of them.
pub fn check_owner<'a>(
    config: &PublishConfig,
    caller: &Caller,
    maintainers: impl IntoIterator<Item = &'a str>,
) -> Result<(), RegistryError> {
    if !config.check_owners {
        return Ok(());
    }
    let name = caller.display_name();
    let mut maintainers = maintainers.into_iter().peekable();
    if maintainers.peek().is_none() || maintainers.any(|maintainer| maintainer == name) {
        Ok(())
    } else {
        Err(RegistryError::forbidden(
            "only owners are allowed to change package",
        ))
    }
}
