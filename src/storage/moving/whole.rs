//! Moving everything into what nobody uses meanwhile.

use super::{Moved, Moving, Place, accounts, packages};
use crate::storage::StorageError;

/// Which tokens are put where they are not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// All.
    Moved,
    /// None: who lacks one may have revoked it. They are reported, as being in this alone.
    OnlyIn(&'static str),
}

/// Copies keys and everything else of `from` to `to`, so that wherever it ends, no package is without its
/// owners and no token is good before everything else is there: users and organisations, then packages,
/// then tokens. Can be run again after it was interrupted.
pub async fn move_whole(
    from: Place<'_>,
    to: Place<'_>,
    moving: Moving<'_>,
    tokens: Tokens,
) -> Result<Moved, StorageError> {
    let mut moved = Moved::default();
    super::move_keys(from, to, moving, &mut moved).await?;
    let owners = accounts::move_owners(from.accounts, to.accounts, moving.overwrite, &mut moved);
    if let Err(error) = owners.await {
        moved.fail("accounts, and so nothing else", &error);
        return Ok(moved);
    }
    packages::move_packages(from, to, moving, &mut moved).await;
    let done = accounts::move_tokens(
        from.accounts,
        to.accounts,
        moving.overwrite,
        tokens,
        &mut moved,
    );
    if let Err(error) = done.await {
        moved.fail("tokens", &error);
    }
    Ok(moved)
}
